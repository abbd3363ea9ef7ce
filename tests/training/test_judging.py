"""The judge's lesson: what it draws, what its loss counts, and its recipe, whole and tiny."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from safetensors.torch import load_file
from torch import Tensor, nn
from typer.testing import CliRunner

from longvid import devices, digests
from longvid.backends import Carry, VideoCodec
from longvid.backends.diorama import FILES, canvas, captions, world
from longvid.backends.diorama.codec import Codec
from longvid.backends.diorama.dataset import VERSION
from longvid.backends.diorama.text import SIZES
from longvid.errors import UserError
from longvid.evaluation.judge import CLIP_FRAMES, SAMPLES, STRIDE_FRAMES, Judge, JudgeNetwork, small
from longvid.files import write_tensors
from longvid.training import judging
from longvid.training.judging import Excerpts, Judging

CPU = torch.device("cpu")
KITE = 0.83
"""Half a kite's width, the narrowest object's, over its radius."""


class Mirror:
    """A codec whose latents are a few of the pixels themselves; ``latents``: what it was asked to decode."""

    def __init__(self) -> None:
        self.latents: list[Tensor] = []

    def encode(self, video: Tensor) -> Tensor:
        return video

    def decode(self, chunk: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        self.latents.append(chunk)
        return chunk, {}


def excerpts(count: int, label: int = 0) -> Excerpts:
    """Of one clip, whose frames are their numbers; at each place from 0 on."""
    frames = count + SAMPLES - 1
    pixels = torch.arange(frames, dtype=torch.uint8)[None, :, None, None, None].expand(1, frames, 64, 96, 3)
    labels = torch.full((1, frames, len(SIZES)), label, dtype=torch.uint8)
    return Excerpts((pixels,), (labels,), np.array([(0, 0, first) for first in range(count)]))


def lesson() -> Judging:
    torch.manual_seed(0)
    return Judging(
        JudgeNetwork(), (excerpts(9), excerpts(9, 1)), {"drawn": excerpts(3), "decoded": excerpts(2)}, CPU
    )


def test_a_clip_is_looked_at_every_few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a phase on that the clip draws; labels and what is settled go with the frames."""
    made = []
    draw = world.draw_clip

    def draw_clip(rng: np.random.Generator, chunks: int, share: float) -> world.Clip:
        made.append(draw(rng, chunks, 1.0))
        return made[0]

    monkeypatch.setattr(world, "draw_clip", draw_clip)
    clip = judging.draw_clip((0, 3), None)
    pictures = torch.from_numpy(small(made[0].frames))
    (phase,) = [p for p in range(4) if torch.equal(clip["pixels"], pictures[p::4])]
    assert clip["pixels"].shape == (24, 64, 96, 3)
    assert clip["settled"].tolist() == judging.settled(made[0])[phase::4].tolist()
    in_force = [made[0].specs[spec] for spec in made[0].spec_index[phase::4]]
    assert clip["labels"].tolist() == [judging.label(spec) for spec in in_force]


@pytest.mark.parametrize(("motion", "stays"), [("left", False), ("bouncing", True), ("still", True)])
def test_what_is_to_stay_is_settled_in_its_place(motion: str, stays: bool) -> None:
    """Across goes 50, 51 and so on to 53, where it rests, or nearly. A transition is never settled."""
    across = np.array([50, 51, 52, 53, 53.09, 53.09], np.float32)
    boxes = np.zeros((6, 2, 4), np.float32)
    boxes[:, 1, 0], boxes[:, 1, 2] = across - 12, across + 12
    spec = dict.fromkeys(captions.VALUES, 0) | {"motion": list(captions.VALUES["motion"]).index(motion)}
    index, frames = np.zeros(6, np.int64), np.zeros((6, 1, 1, 3), np.uint8)
    clip = world.Clip(frames, boxes, index, np.array([True] * 5 + [False]), (spec,))
    moving = [not stays] * 3
    assert judging.settled(clip).tolist() == [True, *moving, True, False]


def test_in_any_two_settled_seconds_some_of_each_object_is_seen() -> None:
    """Of one that goes round a quarter, as far as its box reaches, in one of the frames that are looked at;
    so that its label is what is to be seen."""
    spec = {"scene": 0, "time": 0, "weather": 0, "count": 1, "shape": 3, "color": 0, "motion": 1, "camera": 0}
    progress = np.zeros(9 * world.FPS, np.float32)
    first = world._path((spec,), progress, 40.0, 1)
    for across, radius in ((first, 11.5), (world._wrapped(first + world.APART), 11.5 * world.SMALLER)):
        reach = radius * KITE
        seen = np.minimum(across + reach, canvas.WIDTH) - np.maximum(across - reach, 0)
        for start in range(len(seen) - CLIP_FRAMES):
            assert seen[start : start + CLIP_FRAMES : STRIDE_FRAMES].max() > reach / 2


def test_the_label_of_nothing_is_behind_an_attribute_s_values() -> None:
    none = dict.fromkeys(("count", "shape", "color", "motion"))
    spec = {"scene": 1, "time": 0, "weather": 2, **none, "camera": 1}
    assert judging.label(spec) == [1, 0, 2, 2, 6, 6, 4, 1]
    assert [size - 1 for size in SIZES][3:7] == [2, 6, 6, 4]


def test_a_codec_meets_noise_as_films_have_it() -> None:
    mirror, rng = Mirror(), np.random.default_rng(0)
    frames = world.draw_clip(rng, 3, 0).frames
    sigmas = []
    for _ in range(8):
        shown = judging.decoded(frames, mirror, rng)  # type: ignore[arg-type]
        assert shown.shape == frames.shape and shown.dtype == np.uint8
        clean = torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 127.5 - 1
        sigmas.append(float((mirror.latents[-1] - clean).std()))
    assert 0 < min(sigmas) < 0.1 < 0.2 < max(sigmas) < 0.3


def test_clips_that_are_there_are_not_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "BLOCK", 2)
    whole = judging.draw(tmp_path, 3, (0, judging.DRAWN), None)
    (tmp_path / "000002-000003.safetensors").unlink()
    first = (tmp_path / "000000-000002.safetensors").stat()
    again = judging.draw(tmp_path, 3, (0, judging.DRAWN), None, SAMPLES)
    assert (tmp_path / "000000-000002.safetensors").stat().st_mtime_ns == first.st_mtime_ns
    assert all(map(torch.equal, whole.pixels, again.pixels))
    assert [len(block) for block in whole.pixels] == [2, 1]
    assert set(map(tuple, again.places)) == {place for place in map(tuple, whole.places) if place[2] % 6 == 0}


def test_excerpts_lie_where_all_is_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settled = torch.tensor([True] * 7 + [False] * 6 + [True] * 11)
    monkeypatch.setattr(
        judging,
        "draw_clip",
        lambda numbers, codec: {
            "pixels": torch.zeros(24, 1),
            "labels": torch.zeros(24, 8),
            "settled": settled,
        },
    )
    found = judging.draw(tmp_path, 1, (0, judging.DRAWN), None)
    assert found.places.tolist() == [[0, 0, first] for first in (0, 1, 13, 14, 15, 16, 17, 18)]


def test_samples_depend_on_seed_step_and_number_alone() -> None:
    whole = lesson().draw(None, 0, 5, range(16))
    assert torch.equal(whole.pictures[2:4], lesson().draw(None, 0, 5, [2, 3]).pictures)
    for seed, step in ((1, 5), (0, 6)):
        assert not torch.equal(whole.pictures, lesson().draw(None, seed, step, range(16)).pictures)
    assert {0, 1} == set(whole.labels[:, 0].tolist())  # of drawn and of decoded ones
    firsts = whole.pictures[:, 0, 0, 0, 0]
    assert torch.equal(whole.pictures[:, :, 0, 0, 0], firsts[:, None] + torch.arange(SAMPLES))


def test_pictures_are_moved_aside_all_by_the_same() -> None:
    across = torch.arange(96, dtype=torch.uint8)[None, None, None, :, None].expand(1, SAMPLES, 64, 96, 3)
    shown = replace(excerpts(1), pixels=(across,))
    pictures = replace(lesson(), training=(shown, shown)).draw(None, 0, 0, range(8)).pictures
    firsts = pictures[:, 0, 0, 0, 0].long()
    assert len(set(firsts.tolist())) > 4
    assert torch.equal(pictures[:, :, :, :, 0].long(), (firsts[:, None, None, None] + across[..., 0]) % 96)


def test_what_is_held_out_is_gone_through_in_order() -> None:
    judged = lesson()
    assert judged.checks == {"drawn": "drawn", "decoded": "decoded"}
    batch = judged.draw("decoded", 0, 0, range(5), held_out=True)
    assert batch.pictures[:, 0, 0, 0, 0].tolist() == [0, 1, 0, 1, 0]


def test_the_loss_is_the_cross_entropy_of_every_attribute() -> None:
    judged = lesson()
    batch = judged.draw(None, 0, 0, range(3))
    logits, first, expected = judged.network(batch.pictures), 0, torch.zeros(3)
    for attribute, size in enumerate(SIZES):
        chosen = logits[:, first : first + size].log_softmax(1)
        expected -= chosen.gather(1, batch.labels[:, attribute, None])[:, 0]
        first += size
    torch.testing.assert_close(judged.losses(judged.network, batch), expected)


def test_shares_of_what_is_named_right() -> None:
    """Of four excerpts, two labelled 0: a network that says 0 of all but the time is right on half."""

    class Zero(nn.Module):
        def forward(self, pictures: Tensor) -> Tensor:
            said = [1 if name == "time" else 0 for name in captions.VALUES]
            hot = [nn.functional.one_hot(torch.tensor(v), s) for v, s in zip(said, SIZES, strict=True)]
            return torch.cat(hot).float().expand(len(pictures), -1)

    both = excerpts(2), excerpts(1, 1)
    mixed = Excerpts(
        tuple(each.pixels[0] for each in both),
        tuple(each.labels[0] for each in both),
        np.array([(0, 0, 0), (0, 0, 1), (0, 0, 1), (1, 0, 0)]),
    )
    network: JudgeNetwork = Zero()  # type: ignore[assignment]
    assert judging.shares_right(network, mixed) == dict.fromkeys(captions.VALUES, 0.75) | {"time": 0.25}


def untrained(folder: Path, seed: int) -> Path:
    """diorama's weights as far as the recipe reads them: a codec that has learnt nothing."""
    folder.mkdir()
    torch.manual_seed(seed)
    for name in FILES:
        write_tensors(folder / name, Codec().state_dict() if name == "codec.safetensors" else {})
    return folder


def test_another_codec_s_or_world_s_clips_are_not_mixed_with_the_first_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are drawn anew, and a training that learnt of the first is not gone on with."""
    drawn: list[tuple[Path, int]] = []

    def draw(
        folder: Path, clips: int, kind: tuple[int, int], codec: VideoCodec | None, apart: int = 1
    ) -> Excerpts:
        drawn.append((folder, clips))
        return excerpts(2)

    monkeypatch.setattr(judging, "draw", draw)
    monkeypatch.setattr(judging, "BATCH", 2)
    models = [untrained(tmp_path / f"model-{seed}", seed) for seed in (0, 1)]
    for model, further, other in ((0, 0, None), (1, 0, "codec"), (0, 1, "world")):
        monkeypatch.setattr(judging, "VERSION", VERSION + further)
        with pytest.raises(UserError, match=f"with {other}") if other else nullcontext():
            judging.main(tmp_path / "out", clips=6, held_out=1, steps=1, seed=0, model=models[model])
    first, of_codec, of_world = drawn[:4], drawn[4:8], drawn[8:]
    assert [clips for _, clips in first] == [1, 1, 4, 2]
    assert [one == other for one, other in zip(first, of_codec, strict=True)] == [True, False, True, False]
    assert not {folder for folder, _ in first} & {folder for folder, _ in of_world}


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(UserError) as error:
        judging.main(tmp_path / "out")
    assert str(error.value) == f"{tmp_path}/out: cannot write there: File exists; give another folder as OUT"


def test_the_recipe_writes_a_judge_and_its_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the same to the bit, from the same clips; and a judge that can be loaded, and is measured as it
    then looks, in float32, though it was trained in bfloat16."""
    pictures, looks = lesson().draw(None, 0, 0, range(4)).pictures, []
    shares_right = judging.shares_right

    def watched(network: JudgeNetwork, excerpts: Excerpts) -> dict[str, float]:
        with torch.inference_mode():
            looks.append(network(pictures))
        return shares_right(network, excerpts)

    monkeypatch.setattr(judging, "shares_right", watched)
    monkeypatch.setattr(devices, "choose_dtype", lambda: torch.bfloat16)
    monkeypatch.setattr(judging, "BATCH", 2)
    monkeypatch.setattr(judging, "CHUNKS", 3)
    monkeypatch.setattr(judging, "SWITCH_SHARE", 0)
    app = typer.Typer()
    app.command()(judging.main)
    model = untrained(tmp_path / "model", 0)
    options = ["--clips=3", "--held-out=1", "--steps=2", "--seed=4", f"--model={model}"]
    for folder in ("one", "two"):
        done = CliRunner().invoke(app, [str(tmp_path / folder), *options], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    for name in (judging.WEIGHTS, judging.CARD):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    judge = Judge.load(tmp_path / "one" / judging.WEIGHTS)
    with torch.inference_mode():
        look = judge.network(pictures)
    assert len(looks) == 4 and all(torch.equal(each, look) for each in looks)
    assert judge.accuracy.clips == 2 and judge.accuracy.drawn.keys() == captions.VALUES.keys()
    weights = load_file(tmp_path / "one" / judging.WEIGHTS)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    card = (tmp_path / "one" / judging.CARD).read_text("utf-8")
    assert "--clips 3 --held-out 1 --steps 2 --seed 4" in card
    assert f"SHA-256 {digests.sha256(model / 'codec.safetensors')[:12]}..." in card
    for name, right in judge.accuracy.decoded.items():
        assert f"| {name} | {judge.accuracy.drawn[name]:.3f} | {right:.3f} |" in card
    other = untrained(tmp_path / "other", 1)
    first = tmp_path / "one" / judging.WEIGHTS
    again = [str(tmp_path / "three"), f"--judge={first}", "--held-out=2", "--seed=9", f"--model={other}"]
    done = CliRunner().invoke(app, again, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    measured = Judge.load(tmp_path / "three" / judging.WEIGHTS)
    assert not (tmp_path / "three" / "training").exists(), (
        "it was measured through another codec, not trained"
    )
    assert all(torch.equal(tensor, weights[name]) for name, tensor in load_file(first).items())
    codecs = [digests.sha256(folder / "codec.safetensors")[:12] for folder in (model, other)]
    assert (judge.accuracy.codec, measured.accuracy.codec) == tuple(codecs)
    assert measured.accuracy.clips == 4
    card = " ".join((tmp_path / "three" / judging.CARD).read_text("utf-8").split())
    assert f"codec (SHA-256 {codecs[1]}...) gives them back" in card
    assert f"went through diorama's codec (SHA-256 {codecs[0]}...)" in card
