"""The codec's lesson: what it draws, what its loss counts, and that the loop teaches it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from longvid.backends import CodecPart, FilmSpec
from longvid.backends.diorama import Diorama
from longvid.errors import UserError
from longvid.training import checkpoints
from longvid.training.distributed import accelerator
from longvid.training.recipe import Recipe
from longvid.training.reconstruction import (
    BEGINS,
    EDGES,
    LATENT_NOISE,
    MAX_SAMPLED_NOISE,
    MOTION,
    SPREAD,
    SQUARES,
    Batch,
    Reconstruction,
    Task,
    as_video,
    measure_psnr,
    picture_loss,
    spread,
)
from longvid.training.sequences import Shown
from longvid.training.trainer import Began, Stepped, train
from tests.tiny import RUNTIME, SPEC, TinyBackend, TinyCodec

CPU = torch.device("cpu")
FLOOR = 0.01
"""Of Charbonnier's root where there is no error."""


@dataclass(frozen=True)
class Clips:
    """Footage in memory: each clip's pixels [f h w 3], and its weights [f h w] or None."""

    pixels: tuple[Tensor, ...]
    weights: tuple[Tensor | None, ...]

    @property
    def frames(self) -> tuple[int, ...]:
        return tuple(map(len, self.pixels))

    def excerpt(self, clip: int, first: int, frames: int) -> Shown:
        cut, weights = slice(first, first + frames), self.weights[clip]
        return Shown(self.pixels[clip][cut], None if weights is None else weights[cut])


def numbered(*frames: int) -> Clips:
    """Clips of one grey a frame, which no other frame of any clip has; pixels in the left half count 5."""
    weights = torch.ones(sum(frames), 16, 24)
    weights[:, :, :12] = 5
    grey = torch.arange(sum(frames), dtype=torch.uint8)[:, None, None, None].expand(-1, 16, 24, 3)
    return Clips(grey.split(frames), weights.split(frames))


NOTHING = Clips((), ())


def lesson(training: Clips, part: CodecPart = "codec", held_out: Clips = NOTHING) -> Reconstruction:
    backend = TinyBackend()
    trainee = backend.for_film(SPEC, RUNTIME).codec_trainee(part)
    return Reconstruction(trainee, backend.geometry, training, held_out, part, CPU)


def greys(frames: Tensor) -> Tensor:
    """[b f] of frames that have one grey each."""
    return ((frames[:, 0, :, 0, 0] + 1) * 127.5).round().long()


def test_pixels_become_minus_one_to_one() -> None:
    pixels = torch.zeros(2, 3, 4, 3, dtype=torch.uint8)
    pixels[1, 2, 3] = torch.tensor([0, 51, 255])
    video = as_video(pixels)
    assert video.shape == (3, 2, 3, 4)
    torch.testing.assert_close(video[:, 1, 2, 3], torch.tensor([-1.0, -0.6, 1.0]))
    assert (video.sum() + video.numel()).item() == pytest.approx(0.4 + 2)


@pytest.mark.parametrize(("heard", "places"), [(1, {0, 4, 24, 28, 32}), (0, {0, 4, 8, 16, 24, 28, 32, 36})])
def test_samples_are_whole_latents_of_all_places(heard: int, places: set[int]) -> None:
    """Clips of 16, 8 and 20 frames, for three latents of four frames, or two."""
    drawn = lesson(numbered(16, 8, 20)).draw(Task(heard), 0, 0, range(300))
    found = greys(drawn.frames)
    assert torch.equal(found, found[:, :1] + torch.arange(4 * (heard + 2)))
    assert set(found[:, 0].tolist()) == places
    assert drawn.weights.shape == (300, 1, 8, 16, 24) and drawn.heard == heard
    assert drawn.weights[:, ..., :12].unique().tolist() == [5] and drawn.weights.sum() == 300 * 8 * 16 * 72
    assert drawn.noise.shape == (300, 3, heard + 2, 4, 6)


def test_a_sample_is_the_same_however_the_batch_is_shared() -> None:
    objective = lesson(numbered(16, 8, 20))
    whole = objective.draw(Task(1), 3, 7, range(6))
    parts = [objective.draw(Task(1), 3, 7, range(first, first + 2)) for first in (0, 2, 4)]
    for name in ("frames", "noise", "weights"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts]))
    assert not torch.equal(whole.frames, objective.draw(Task(1), 3, 8, range(6)).frames)


def test_a_codec_hears_even_noise_and_a_decoder_as_much_as_a_denoiser_leaves() -> None:
    for part in ("codec", "decoder"):
        noise = lesson(numbered(64), part).draw(Task(1), 0, 0, range(400)).noise
        deviations = noise.flatten(1).std(1)
        if part == "codec":
            assert deviations.mean().item() == pytest.approx(LATENT_NOISE, rel=0.01)
            assert deviations.std() < 0.2 * LATENT_NOISE
        else:
            assert deviations.mean().item() == pytest.approx(MAX_SAMPLED_NOISE / 2, rel=0.1)
            assert deviations.min() < 0.01 and deviations.max() > 0.25


def test_a_tenth_of_the_steps_begin_films() -> None:
    objective = lesson(numbered(16))
    heard = [objective.draw_task(0, step).heard for step in range(2000)]
    assert set(heard) == {0, 1}
    assert heard.count(0) / 2000 == pytest.approx(BEGINS, abs=0.02)


def test_clips_without_weights_count_evenly() -> None:
    clips = numbered(16)
    plain = replace(clips, weights=(None,))
    assert lesson(plain).draw(Task(1), 0, 0, range(2)).weights.unique().tolist() == [1]


def test_what_cannot_be_learnt_is_said() -> None:
    with pytest.raises(UserError, match=r"^no clip has the 12 frames that a codec learns from at once$"):
        lesson(numbered(8, 8)).draw(Task(1), 0, 0, [0])
    with pytest.raises(UserError, match=r"^no clip has the 8 frames"):
        lesson(NOTHING).draw(Task(0), 0, 0, [0])
    blind = Clips(numbered(12).pixels, (torch.zeros(12, 16, 24),))
    with pytest.raises(UserError, match=r"^clip 0: of its frames from 0 on no pixel counts; leave it out$"):
        lesson(blind).draw(Task(1), 0, 0, [0])


def test_no_error_costs_the_floor_of_the_roots_only() -> None:
    loss = picture_loss(torch.zeros(2, 3, 8, 6, 6), torch.full((2, 1, 8, 6, 6), 3.0))
    torch.testing.assert_close(loss, torch.full((2,), FLOOR * (1 + 2 * EDGES + MOTION)))


def test_an_error_costs_by_weight_where_it_is_and_at_its_edges() -> None:
    """An error of 0.5 in the left half of one sample, which counts 5, in the first four of eight frames."""
    error, weights = torch.zeros(2, 3, 8, 6, 6), torch.ones(2, 1, 8, 6, 6)
    error[1, :, :4, :, :3] = 0.5
    weights[..., :3] = 5
    root = (0.25 + FLOOR**2) ** 0.5

    def mean(share: float) -> float:
        return share * root + (1 - share) * FLOOR

    inside, column, frame = 0.5 * 5 / 6, 0.5 * 1 / (2 * 5 + 3 * 1), 1 / 7 * 5 / 6
    expected = mean(inside) + SQUARES * 0.25 * inside + EDGES * (mean(column) + FLOOR) + MOTION * mean(frame)
    loss = picture_loss(error, weights)
    assert loss[0].item() == pytest.approx(FLOOR * (1 + 2 * EDGES + MOTION))
    assert loss[1].item() == pytest.approx(expected, rel=1e-5)


def test_latents_are_drawn_to_mean_zero_and_mean_square_one() -> None:
    """In each sample, and so over all of them."""
    signs = torch.tensor([1.0, -1.0]).repeat(12).view(1, 1, 2, 3, 4).expand(1, 5, -1, -1, -1)
    assert spread(signs).tolist() == [0]
    wide = torch.cat([3 * signs, signs + 2])
    torch.testing.assert_close(spread(wide), torch.tensor([(9.0 - 1) ** 2, 2.0**2 + (1 + 4.0 - 1) ** 2]))


def test_only_a_codec_pays_for_its_latents_spread() -> None:
    batch = Batch(torch.zeros(1, 3, 12, 16, 24), torch.zeros(1, 3, 3, 4, 6), torch.ones(1, 1, 8, 16, 24), 1)
    floor = FLOOR * (1 + 2 * EDGES + MOTION)
    for part, expected in (("codec", floor + SPREAD * 1), ("decoder", floor)):
        objective = lesson(numbered(16), part)
        assert objective.losses(objective.network, batch).item() == pytest.approx(expected, rel=1e-5)


def test_what_is_compared_is_what_is_decoded() -> None:
    """The frames behind the latent that is heard; grey clips whose frames are on their way to the next."""
    objective = lesson(numbered(16), "decoder")
    batch = objective.draw(Task(1), 0, 0, [0])
    silent = replace(batch, noise=torch.zeros_like(batch.noise))
    _, decoded = objective.trainee.reconstruct(objective.network, silent.frames, silent.noise, 1)
    expected = picture_loss(decoded - silent.frames[:, :, 4:], silent.weights)
    torch.testing.assert_close(objective.losses(objective.network, silent), expected)
    assert expected.item() < 0.1


def test_checks_are_of_what_is_held_out() -> None:
    assert lesson(numbered(16)).checks == {}
    objective = lesson(numbered(16), held_out=Clips((torch.full((16, 16, 24, 3), 200).byte(),), (None,)))
    assert objective.checks == {"middle": Task(1), "start": Task(0)}
    assert greys(objective.draw(Task(1), 0, 0, range(5), held_out=True).frames).unique().tolist() == [200]
    assert objective.identity() == {"part": "codec"}


@pytest.mark.parametrize("part", ["codec", "decoder"])
def test_the_loop_teaches_a_codec(part: CodecPart, tmp_path: Path) -> None:
    """A codec that mixes colours at random learns to give them back; an encoder that is frozen stays."""
    torch.manual_seed(0)
    pictures = torch.randint(0, 256, (6, 4, 6, 3)).byte().repeat_interleave(4, 1).repeat_interleave(4, 2)
    clips = Clips(tuple(picture.expand(16, -1, -1, -1) for picture in pictures), (None,) * 6)
    film = TinyBackend().for_film(SPEC, RUNTIME)
    trainee = film.codec_trainee(part, fresh=1)
    seen = trainee.network.seen.detach().clone()
    objective = Reconstruction(trainee, TinyBackend().geometry, clips, clips, part, CPU)
    recipe = Recipe(
        steps=80, batch=4, micro_batch=2, lr=0.05, warmup_steps=0, average=0.5, checkpoint_steps=80
    )
    events = list(train(objective, recipe, accelerator(device="cpu"), tmp_path))
    began, stepped = events[0], [event for event in events if isinstance(event, Stepped)]
    assert isinstance(began, Began)
    assert began.held_out.keys() == stepped[-1].held_out.keys() == {"middle", "start"}
    assert all(stepped[-1].held_out[check] < 0.5 * began.held_out[check] for check in began.held_out)
    assert torch.equal(trainee.network.seen, seen) == (part == "decoder")

    best = checkpoints.best(tmp_path)
    assert best is not None
    assert best.tensors("average").keys() == ({"seen", "shown"} if part == "codec" else {"shown"})
    trainee.save(tmp_path / "model", best.tensors("average"))
    written = TinyBackend(folder=tmp_path / "model").for_film(SPEC, RUNTIME).codec()
    geometry = TinyBackend().geometry
    untrained = TinyCodec(False, 0, film.codec_trainee(part, fresh=1).network)
    assert measure_psnr(written, clips, geometry, CPU) > measure_psnr(untrained, clips, geometry, CPU) + 6


class Off:
    """A codec that keeps frames as latents and gives them back off by so much, the last one at the flush."""

    def __init__(self, errors: Tensor) -> None:
        self.errors = errors

    def encode(self, video: Tensor) -> Tensor:
        return video

    def encode_picture(self, picture: Tensor) -> Tensor:
        raise NotImplementedError

    def decode(self, chunk: Tensor, carry: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        shown = torch.cat([carry.get("held", chunk[:, :, :0]), chunk], 2) + self.errors
        return shown[:, :, :-1], {"held": shown[:, :, -1:] - self.errors}

    def flush(self, carry: dict[str, Tensor]) -> Tensor:
        return carry["held"] + self.errors


def test_psnr_is_each_clips_and_of_these_the_mean() -> None:
    """An error of 0.2 of a signal that spans 2 is 20 dB; none counts as 100; past white is white."""
    geometry = TinyBackend().geometry
    grey = torch.full((8, 16, 24, 3), 51, dtype=torch.uint8)
    two = Clips((grey, grey), (None, None))
    assert measure_psnr(Off(torch.tensor(0.2)), two, geometry, CPU) == pytest.approx(20, abs=1e-3)
    assert measure_psnr(Off(torch.tensor(0.0)), two, geometry, CPU) == pytest.approx(100)
    white = Clips((torch.full_like(grey, 255), grey), (None, None))
    assert measure_psnr(Off(torch.tensor(0.2)), white, geometry, CPU) == pytest.approx(
        (100 + 20) / 2, abs=1e-3
    )


def test_dioramas_codec_goes_through_it() -> None:
    """Every part that is trained is reached, whether the latent before is heard or a film begins."""
    backend = Diorama()
    film = backend.for_film(FilmSpec((192, 128), backend.geometry.fps, 4, {}), RUNTIME)
    torch.manual_seed(0)
    clips = Clips((torch.randint(0, 256, (16, 128, 192, 3), dtype=torch.uint8),), (None,))
    for part, heard in (("codec", 1), ("decoder", 0)):
        trainee = film.codec_trainee(part)
        objective = Reconstruction(trainee, backend.geometry, clips, NOTHING, part, CPU)
        batch = objective.draw(Task(heard), 0, 0, [0, 1])
        losses = objective.losses(objective.network, batch)
        assert losses.shape == (2,) and bool((losses > 0).all())
        losses.sum().backward()
        learnt = {name for name, p in objective.network.named_parameters() if p.grad is not None}
        asks = {name for name, p in objective.network.named_parameters() if p.requires_grad}
        assert learnt == asks and "before.weight" in asks
        assert any(name.startswith("encoder") for name in asks) == (part == "codec")
    assert math.isfinite(measure_psnr(film.codec(), clips, backend.geometry, CPU))


def test_dioramas_codec_goes_on_to_the_bit(tmp_path: Path) -> None:
    """Stopped behind its second step, and begun again; by Muon, whose state is in the kernels' layout."""
    backend = Diorama()
    film = backend.for_film(FilmSpec((192, 128), backend.geometry.fps, 4, {}), RUNTIME)
    torch.manual_seed(0)
    clips = Clips((torch.randint(0, 256, (16, 128, 192, 3), dtype=torch.uint8),), (None,))
    recipe = Recipe(
        steps=4, batch=1, lr=1e-3, warmup_steps=0, optimizer="muon", checkpoint_steps=2, keep_last=9
    )

    def run(folder: Path, stop_at: int) -> dict[str, Tensor]:
        objective = Reconstruction(
            film.codec_trainee("codec", fresh=0), backend.geometry, clips, NOTHING, "codec", CPU
        )
        steps = 0

        def stopping() -> bool:
            nonlocal steps
            steps += 1
            return steps == stop_at

        list(train(objective, recipe, accelerator(device="cpu"), folder, stopping=stopping))
        newest, _ = checkpoints.newest(folder)
        assert newest is not None
        return newest.tensors("average")

    whole = run(tmp_path / "whole", stop_at=0)
    halves = [run(tmp_path / "stopped", stop_at) for stop_at in (2, 0)]
    assert not torch.equal(halves[0]["encoder.1.weight"], whole["encoder.1.weight"])
    assert all(torch.equal(halves[1][name], tensor) for name, tensor in whole.items())
