"""The judge: what of a shot counts, what a prompt asks, and that the shipped one is what its card says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from longvid import digests
from longvid.backends.diorama import WEIGHTS as DIORAMA
from longvid.backends.diorama import captions, world
from longvid.backends.diorama.text import SIZES
from longvid.errors import UserError
from longvid.evaluation import judge as judging
from longvid.evaluation.judge import Accuracy, Judge, JudgeNetwork
from longvid.files import write_tensors
from longvid.video import post

FPS = Fraction(world.FPS)
ACCURACY = Accuracy(10, dict.fromkeys(captions.VALUES, 1.0), dict.fromkeys(captions.VALUES, 0.9), "0" * 12)
RED_BOAT = {
    **{"scene": 0, "time": 3, "weather": 0},
    **{"count": 0, "shape": 1, "color": 0, "motion": 3},
    "camera": 0,
}
NOTHING = RED_BOAT | {"scene": 2} | dict.fromkeys(("count", "shape", "color", "motion"))


@dataclass
class Scripted:
    """In the network's place: names one spec after another, and keeps the pictures that it was shown."""

    specs: Sequence[captions.Spec]
    shown: list[Tensor]

    def __call__(self, pictures: Tensor) -> Tensor:
        spec = self.specs[len(self.shown)]
        self.shown.append(pictures)
        return torch.cat([hot(spec[name], size) for name, size in zip(captions.VALUES, SIZES, strict=True)])[
            None
        ]


def hot(value: int | None, size: int) -> Tensor:
    return nn.functional.one_hot(torch.tensor(size - 1 if value is None else value), size).float()


def scripted(*specs: captions.Spec) -> Judge:
    return Judge(Scripted(specs, []), ACCURACY)  # type: ignore[arg-type]


def numbered(count: int, scale: int = 2) -> list[NDArray[np.uint8]]:
    """Frames in one shade each, which is their number."""
    shape = (scale * judging.HEIGHT_PX, scale * judging.WIDTH_PX, 3)
    return [np.full(shape, number, np.uint8) for number in range(count)]


def test_the_share_of_what_is_asked_for_behind_the_settling() -> None:
    """A red boat at dawn is a star, then right, then not there: (1 + 1/3) / 2."""
    judge = scripted(RED_BOAT | {"shape": 2}, RED_BOAT, NOTHING)
    judged = judge.score(numbered(72), "a red boat at dawn", FPS)
    assert judged.score == pytest.approx(2 / 3)
    assert judged.clips == pytest.approx((2 / 3, 1, 1 / 3))
    stated = {"time": 1, "shape": 0.5, "color": 0.5}
    assert judged.attributes == dict.fromkeys(captions.VALUES) | stated
    assert judged.accuracy is ACCURACY and judged.reason is None


def test_every_fourth_frame_of_whole_clips_is_looked_at() -> None:
    judge = scripted(RED_BOAT, RED_BOAT)
    assert judge.score(iter(numbered(71)), "boat", FPS).clips == (1, 1)
    shown = judge.network.shown  # type: ignore[attr-defined]
    assert [pictures.shape for pictures in shown] == [(1, 6, 64, 96, 3)] * 2
    assert [pictures[0, :, 0, 0, 0].tolist() for pictures in shown] == [
        [0, 4, 8, 12, 16, 20],
        [24, 28, 32, 36, 40, 44],
    ]


def test_a_blend_is_left_out_as_well() -> None:
    """Of 10 s, with a blend of 1 s: the first two clips begin before 3 s."""
    wrong = RED_BOAT | {"scene": 1}
    judge = scripted(wrong, wrong, RED_BOAT, RED_BOAT, RED_BOAT)
    judged = judge.score(numbered(120), "a sea", FPS, blend_frames=12)
    assert (judged.score, judged.clips) == (1, (0, 0, 1, 1, 1))


@pytest.mark.parametrize(
    ("frames", "prompt", "fps", "said"),
    [
        (numbered(72), "a zeppelin", FPS, "names nothing"),
        ([], "a red boat", FPS, "over before"),
        (numbered(72), "a red boat", Fraction(24), "192x128 at 24"),
        ([frame[:, 1:] for frame in numbered(72)], "a red boat", FPS, "191x128 at 12"),
        ([frame[:32, :48] for frame in numbered(72)], "a red boat", FPS, "48x32 at 12"),
        ([np.zeros((64, 192, 3), np.uint8)] * 72, "a red boat", FPS, "192x64 at 12"),
    ],
)
def test_no_score_comes_with_its_reason(
    frames: list[NDArray[np.uint8]], prompt: str, fps: Fraction, said: str
) -> None:
    judged = scripted().score(frames, prompt, fps)
    assert (judged.score, judged.clips) == (None, ())
    assert judged.attributes == dict.fromkeys(captions.VALUES)
    assert judged.reason is not None and said in judged.reason


def test_a_shot_that_is_over_before_it_settles_has_clips_and_no_score() -> None:
    judged = scripted(RED_BOAT).score(numbered(47), "a red ship", FPS)
    assert (judged.score, judged.clips) == (None, (1,))
    assert judged.reason == "the shot is over before two seconds of it have settled"


@pytest.mark.parametrize("prompt", ["a red boat", "a zeppelin"])
def test_the_next_shot_follows_in_the_same_stream(prompt: str) -> None:
    film = iter(numbered(100))
    scripted(RED_BOAT).score(islice(film, 40), prompt, FPS)
    assert next(film)[0, 0, 0] == 40


def test_what_goes_without_saying_does_not_count() -> None:
    """Neither that a boat is one nor that the camera rests."""
    judge = scripted(*[RED_BOAT | {"count": 1, "camera": 2}] * 2)
    assert judge.score(numbered(48), "a red boat", FPS).score == 1
    judge = scripted(*[RED_BOAT] * 2)
    assert judge.score(numbered(48), "two boats, camera pans left", FPS).score == pytest.approx(1 / 3)


def test_a_pixel_is_the_mean_of_those_that_it_stands_for() -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(256, size=(64, 96, 3), dtype=np.uint8)
    assert judging.small(frame) is frame
    for scale in (2, 4):
        large = np.stack([frame.repeat(scale, 0).repeat(scale, 1)] * 2)
        assert np.array_equal(judging.small(large), np.stack([frame] * 2))
    large[:, 0, 0] = 255 - large[:, 0, 0]
    mean = (15 * frame[0, 0].astype(int) + 255 - frame[0, 0]) / 16
    assert judging.small(large)[1, 0, 0].tolist() == np.floor(mean + 0.5).tolist()


def test_films_are_seen_as_the_world_is() -> None:
    smooth = world.draw_clip(np.random.default_rng(0), 3, 0).frames[:1]
    enlarged = post.finish(torch.from_numpy(smooth).permute(3, 0, 1, 2) / 127.5 - 1, 2)
    assert np.abs(judging.small(enlarged).astype(int) - judging.small(smooth)).mean() < 1


def test_none_is_the_last_of_an_attribute_s_columns() -> None:
    logits = torch.stack(
        [
            torch.cat([hot(spec[name], size) for name, size in zip(captions.VALUES, SIZES, strict=True)])
            for spec in (RED_BOAT, NOTHING)
        ]
    )
    assert judging.named(logits) == [RED_BOAT, NOTHING]


def test_a_picture_fits_the_next_where_it_is_moved_as_that_was() -> None:
    """Noise that goes 4 px to the left, then 2 rows down: what is left of it there, and only there, is 0."""
    first = torch.rand(1, 3, 32, 96)
    moved = torch.stack([first, first.roll(-4, 3), first.roll((2, -4), (2, 3))], 1)
    apart = judging.misfits(moved, 1, judging.SHIFTS)
    assert apart.shape == (1, 2, len(judging.SHIFTS), 32, 96)
    least = apart[0].mean((2, 3))
    assert [judging.SHIFTS[i] for i in least.argmin(1)] == [(0, -4), (2, 0)]
    assert least.min(1).values.tolist() == [0, 0] and (least.sort(1).values[:, 1] > 0.3).all()
    whole = judging.misfits(moved, 2, [(2, -4), (0, 0)])
    assert whole.shape == (1, 1, 2, 32, 96) and not whole[0, 0, 0].any() and whole[0, 0, 1].mean() > 0.3


def test_a_shift_fits_by_as_much_of_the_mean_as_it_is_less_off() -> None:
    """However faint: a hundredth of it counts as much, but for what is too faint to tell."""
    apart = torch.tensor([[[0.0, 0.0], [3.0, 0.0], [3.0, 0.0]]])
    expected = torch.tensor([8.0, -4, -4]) / (2 + judging.FAINT)
    torch.testing.assert_close(judging.fits(apart)[0, :, 0], expected)
    torch.testing.assert_close(
        judging.fits(100 * apart)[0, :, 0], torch.tensor([4.0, -2, -2]), rtol=1e-3, atol=0
    )
    assert not judging.fits(apart)[0, :, 1].any()


def test_each_band_and_each_square_is_told_which_way_it_goes() -> None:
    """Noise whose upper half goes 3 px to the right, and whose lower half stays."""
    first = torch.rand(1, 3, 32, 96)
    second = first.clone()
    second[:, :, :16] = first[:, :, :16].roll(3, 3)
    apart = judging.misfits(torch.stack([first, second], 1), 1, judging.SHIFTS)
    bands = judging.bands(apart).view(len(judging.SHIFTS), judging.BANDS)
    assert [judging.SHIFTS[i] for i in bands.argmax(0)] == [(0, 3)] * 4 + [(0, 0)] * 4
    squares = judging.parts(apart)
    assert squares.shape == (1, len(judging.SHIFTS), 8, 12)
    best = squares[0, :, [0, 1, 2, 5, 6, 7]].argmax(0)
    assert [[judging.SHIFTS[i] for i in row] for row in best] == [[(0, 3)] * 12] * 3 + [[(0, 0)] * 12] * 3


def test_contrast_is_the_same_in_fog() -> None:
    torch.manual_seed(0)
    clear = torch.rand(2, 1, 32, 48)
    apart = judging.contrast(clear) - judging.contrast(0.5 * clear + 0.3)
    assert judging.contrast(clear).std() == pytest.approx(1, abs=0.1) and apart.abs().max() < 0.3
    assert judging.contrast(torch.full((1, 1, 32, 48), 0.4)).abs().max() < 1e-4


def test_how_colours_change_is_told_by_bands() -> None:
    """By 0.1 from a clip's first half to its second in the green of the upper half; not by what is small."""
    pictures = torch.zeros(1, 6, 3, 64, 96)
    pictures[:, 3:, 1, :32] = 0.1
    pictures[:, 4:, :, :, 20:60] = 1
    expected = torch.zeros(1, 2, 3, 8)
    expected[:, :, 1, :4] = torch.tensor([0.05, 10 * 0.1])[:, None]
    torch.testing.assert_close(judging.colours(pictures), expected.flatten(1))


def test_the_order_of_pictures_counts() -> None:
    torch.manual_seed(0)
    network = JudgeNetwork().eval()
    pictures = torch.randint(256, (1, 6, 64, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        assert network(pictures).shape == (1, sum(SIZES))
        assert not torch.allclose(network(pictures), network(pictures.flip(1)), atol=1e-4)


def test_a_clip_is_judged_alone() -> None:
    torch.manual_seed(0)
    network = JudgeNetwork().eval()
    pictures = torch.randint(256, (3, 6, 64, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        together = network(pictures)
        alone = torch.cat([network(one[None]) for one in pictures])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_other_files_are_refused(tmp_path: Path) -> None:
    for name, content in (("text", b"no tensors"), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="no judge's weights"):
            Judge.load(tmp_path / name)
    write_tensors(tmp_path / "other", {"weight": torch.zeros(1)}, {"judge": json.dumps({})})
    for name in ("other", "missing"):
        with pytest.raises(UserError, match="no judge's weights"):
            Judge.load(tmp_path / name)


def test_the_judge_that_ships_is_as_good_as_its_card_says() -> None:
    """On a few clips more: where the card says a share p of n is right, no fewer than p - 3 deviations."""
    judge = Judge.load()
    assert set(judge.accuracy.drawn) == set(judge.accuracy.decoded) == set(captions.VALUES)
    assert judge.accuracy.clips > 500
    card = (judging.WEIGHTS.parent / "MODEL_CARD.md").read_text("utf-8")
    codec = digests.sha256(DIORAMA / "codec.safetensors")
    assert codec.startswith(judge.accuracy.codec), "it was measured by clips of the codec that ships"
    assert f"codec (SHA-256 {codec[:12]}...) gives them back" in " ".join(card.split())
    right, total = dict.fromkeys(captions.VALUES, 0), 40
    for number in range(total):
        clip = world.draw_clip(np.random.default_rng((91, number)), 2, 0)
        (seen,) = judge.look(clip.frames)
        for name in captions.VALUES:
            right[name] += seen[name] == clip.specs[0][name]
    for name, p in judge.accuracy.drawn.items():
        assert right[name] / total >= p - 3 * max(p * (1 - p), 1 / total) ** 0.5 / total**0.5, name
        assert f"| {name} | {p:.3f} | {judge.accuracy.decoded[name]:.3f} |" in card


def test_the_judge_s_weights_are_small() -> None:
    assert judging.WEIGHTS.stat().st_size < 2_000_000
