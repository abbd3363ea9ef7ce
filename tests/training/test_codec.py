"""Training the codec: what its loss counts, what it is fed, and how it is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from longvid.backends.diorama import world
from longvid.backends.diorama.codec import Codec
from longvid.training.clips import Clips, render_clips
from longvid.training.codec import (
    codec_loss,
    draw_groups,
    encode,
    inside,
    load_codec,
    measure_codec,
    seam_ratio,
    standardise,
    to_unit,
    train_decoder,
)


class Exact:
    """A codec of one sample: pictures exact but for an error, latents of mean 0 and deviation 1."""

    def __init__(self, error: Tensor) -> None:
        self.error = error

    def encode(self, video: Tensor) -> Tensor:
        self.video = video
        half = torch.full((1, 16, 1, 2, 2), 7 / 8).sqrt()
        return torch.cat([half, -half], 3)

    def decode(self, latents: Tensor) -> Tensor:
        return self.video + self.error


def world_clips(count: int, frames: int) -> Clips:
    """Clips of random pixels, with the object in a box of 10 x 20 px and, in every other frame, nowhere."""
    rng = np.random.default_rng(0)
    size = (count, frames, world.HEIGHT_PX, world.WIDTH_PX, 3)
    box = np.zeros((count, frames, 4), np.float32)
    box[:, ::2] = (30, 20, 39, 39)
    each = np.zeros((count, frames))
    return Clips(rng.integers(0, 256, size, np.uint8), box, each.astype(np.int64), each == 0, [[{}]] * count)


def test_pixels_become_minus_one_to_one() -> None:
    frames = np.zeros((1, 2, 3, 4, 3), np.uint8)
    frames[0, 1, 2, 3] = (0, 51, 255)
    video = to_unit(frames)
    assert video.shape == (1, 3, 2, 3, 4)
    torch.testing.assert_close(video[0, :, 1, 2, 3], torch.tensor([-1.0, -0.6, 1.0]))
    assert (video.sum() + video.numel()).item() == pytest.approx(0.4 + 2)


def test_pixels_inside_a_box() -> None:
    boxes = np.array([(10, 20, 12, 21), (-5, -5, 0.5, 0)], np.float32)
    for margin_px, counts in ((0, [3 * 2, 1]), (2, [7 * 6, 3 * 3])):
        mask = inside(boxes, margin_px)
        assert mask.shape == (2, 64, 96)
        assert mask.sum((1, 2)).tolist() == counts
    assert np.argwhere(inside(boxes[0], 0))[[0, -1]].tolist() == [[20, 10], [21, 12]]


def test_no_error_costs_the_floor_of_the_root_only() -> None:
    """Charbonnier's sqrt(0 + 1e-4) on the pixels, and at half weight on both directions' edges."""
    video, weight = torch.zeros(1, 3, 4, 16, 16), torch.full((1, 1, 1, 16, 16), 3.0)
    loss = codec_loss(Exact(torch.zeros(())), video, weight, torch.Generator())
    assert loss.item() == pytest.approx(3 * 0.01 * (1 + 0.5 + 0.5), rel=1e-5)


def test_an_even_error_costs_by_weight_and_not_at_edges() -> None:
    video, weight = torch.zeros(1, 3, 4, 16, 16), torch.ones(1, 1, 1, 16, 16)
    weight[..., :8] = 5.0
    loss = codec_loss(Exact(torch.tensor(0.5)), video, weight, torch.Generator())
    edges = 0.01 * (weight[..., 1:].mean() + weight[..., 1:, :].mean())
    expected = 3 * ((0.25 + 1e-4) ** 0.5 + 2 * 0.25) + 0.5 * edges
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_latents_are_drawn_to_mean_zero_and_deviation_one() -> None:
    class Wide(Exact):
        def encode(self, video: Tensor) -> Tensor:
            return 3 * super().encode(video) + 2

    video, weight = torch.zeros(1, 3, 4, 16, 16), torch.ones(1, 1, 1, 16, 16)
    loss = codec_loss(Wide(torch.zeros(())), video, weight, torch.Generator())
    assert loss.item() == pytest.approx(0.02 + 0.01 * (2**2 + (3 - 1) ** 2), rel=1e-5)


def test_groups_are_latents_of_training_clips() -> None:
    clips = world_clips(4, 12)
    clips.frames[:] = (np.arange(4)[:, None] * 12 + np.arange(12))[..., None, None, None]
    clips.box[:] = clips.frames[:, :, 0, 0, :1]
    video, box = draw_groups(clips, np.random.default_rng(0), 200)
    first = ((video[:, 0, 0, 0, 0] + 1) * 127.5).round().long()
    assert set(first.tolist()) == {clip * 12 + start for clip in range(3) for start in (0, 4, 8)}
    numbers = ((video + 1) * 127.5).round().long()
    assert torch.equal(numbers[:, 0, :, 5, 5], first[:, None] + torch.arange(4))
    assert box.tolist() == (first + 1)[:, None].expand(-1, 4).tolist()


def test_standardised_latents_have_mean_zero_and_deviation_one() -> None:
    torch.manual_seed(0)
    codec, clips = Codec().eval(), world_clips(4, 8)
    standardise(codec, clips)
    latents = encode(codec, clips, range(len(clips.training)))
    assert latents.shape == (3, 16, 2, 8, 12)
    torch.testing.assert_close(latents.mean((0, 2, 3, 4)), torch.zeros(16), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3, 4)), torch.ones(16), atol=1e-4, rtol=0)


def test_decibels_of_held_out_clips() -> None:
    """An error of 0.2 in the object's box and 0.02 elsewhere, of a signal that spans 2."""
    clips = world_clips(40, 4)
    clips.frames[:] = 100
    error = torch.full((world.HEIGHT_PX, world.WIDTH_PX), 0.02)
    error[20:40, 30:40] = 0.2
    inner = 10 * 20 / (world.HEIGHT_PX * world.WIDTH_PX)
    whole = -10 * np.log10(inner * 0.01 + (1 - inner) * 0.0001)
    figures = measure_codec(Exact(error), clips)
    assert {name: figures[name] for name in figures if not name.startswith("seam")} == {
        "psnr_eased_db": pytest.approx(whole, abs=0.005),
        "psnr_mean_db": pytest.approx(whole, abs=0.005),
        "psnr_worst_db": pytest.approx(whole, abs=0.005),
        "psnr_object_db": 20.0,
    }


def test_seam_ratio_is_the_step_at_the_borders_over_the_step_inside() -> None:
    steps = torch.tensor([0, 1, 1, 1, 3, 1, 1, 1, 3, 1, 1, 1], dtype=torch.float32)
    video = steps.cumsum(0)[None, None, :, None, None].expand(1, 3, -1, 4, 6)
    assert seam_ratio(video) == 3.0


def test_the_decoder_learns_from_the_latent_before_and_the_encoder_stays(tmp_path: Path) -> None:
    rendered = render_clips(tmp_path / "clips", 4, 0, processes=1, chunks=3)
    torch.manual_seed(0)
    codec = Codec()
    encoder = {name: value.clone() for name, value in codec.encoder.state_dict().items()}
    latents = encode(codec, rendered, range(4))
    train_decoder(codec, rendered, latents, tmp_path / "codec.safetensors", 2, 0, report=lambda _: None)
    assert codec.before.weight.abs().max() > 0
    assert all(torch.equal(value, encoder[name]) for name, value in codec.encoder.state_dict().items())
    saved = load_codec(tmp_path / "codec.safetensors")
    whole = saved.decode(latents)
    parts = saved.decode(latents[:, :, :3]), saved.decode(latents[:, :, 3:], latents[:, :, 2:3])
    torch.testing.assert_close(torch.cat(parts, 2), whole, atol=1e-5, rtol=0)
    assert not torch.allclose(saved.decode(latents[:, :, 3:]), whole[:, :, 12:], atol=1e-5)
