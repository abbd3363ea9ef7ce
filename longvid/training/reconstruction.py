"""A codec's lesson: to give back the pictures that its latents, with some noise added, came of.

What stands in for a KL term is noise on the latents, and a penalty that holds each of their channels near
mean 0 and deviation 1, as a denoiser expects them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange, reduce
from numpy.typing import NDArray
from torch import Tensor, nn

from longvid.backends import Carry, CodecPart, CodecTrainee, Geometry, VideoCodec
from longvid.errors import UserError
from longvid.noise import noise
from longvid.training.sequences import Footage

TASK, SAMPLE = 0, 1
"""Of a step, what a generator draws for; the sample's number follows."""
DECODED = 2
"""Latents of a sample that are decoded: two, so that the step from one to the next is in the loss."""
BEGINS = 0.1
"""How often a film begins with them; else the latent in front is heard, too."""
LATENT_NOISE = 0.05
MAX_SAMPLED_NOISE = 0.3
"""The most noise that a denoiser's latents are taken to hold; real ones have deviation 1."""
EDGES, SQUARES, MOTION, SPREAD = 0.5, 2.0, 1.0, 0.1
"""Shares of the loss, the picture's own being 1."""
CHARBONNIER = 1e-4
LEAST_ERROR = 1e-10


@dataclass(frozen=True)
class Task:
    """``heard``: latents in front of those that are decoded, 1, or 0 where a film begins."""

    heard: int


@dataclass(frozen=True)
class Batch:
    """``frames`` [b 3 f h w] in [-1, 1], what is added to their latents, ``noise`` [b c f h w], how much each
    decoded pixel counts, ``weights`` [b 1 f h w], and how many of the latents are only ``heard``."""

    frames: Tensor
    noise: Tensor
    weights: Tensor
    heard: int


@dataclass(frozen=True)
class Reconstruction:
    """``part``: "codec" is encoder and decoder, whose latents then are others: what a denoiser learnt on the
    old ones is lost. "decoder" leaves them as they are, and learns to bear latents as a denoiser makes them.
    """

    trainee: CodecTrainee
    geometry: Geometry
    training: Footage
    held_out: Footage
    part: CodecPart
    device: torch.device

    @property
    def network(self) -> nn.Module:
        return self.trainee.network

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return self.trainee.blocks

    def identity(self) -> dict[str, Any]:
        return {"part": self.part}

    @property
    def checks(self) -> dict[str, Task]:
        """In the middle of a film, and at its start."""
        return {"middle": Task(1), "start": Task(0)} if self.held_out.frames else {}

    def draw_task(self, seed: int, step: int) -> Task:
        return Task(int(np.random.default_rng((seed, step, TASK)).random() >= BEGINS))

    def multiple(self, task: Task) -> int:
        return 1

    def draw(self, task: Task, seed: int, step: int, samples: Sequence[int], held_out: bool = False) -> Batch:
        """All places where a latent begins, and enough frames follow, are equally likely."""
        data, each = self.held_out if held_out else self.training, self.trainee.latent_frames
        latents = task.heard + DECODED
        ends = places(data, each, latents)
        frames, noises, weights = [], [], []
        for sample in samples:
            rng = np.random.default_rng((seed, step, SAMPLE, sample))
            place = int(rng.integers(ends[-1]))
            clip = int(np.searchsorted(ends, place, side="right"))
            first = each * (place - (int(ends[clip - 1]) if clip else 0))
            shown = data.excerpt(clip, first, each * latents)
            video = as_video(shown.pixels)
            counts = torch.ones(video.shape[1:]) if shown.weights is None else shown.weights.float()
            if not counts[each * task.heard :].any():
                raise UserError(f"clip {clip}: of its frames from {first} on no pixel counts; leave it out")
            sigma = LATENT_NOISE if self.part == "codec" else MAX_SAMPLED_NOISE * rng.random()
            height, width = (side // self.geometry.pixel_stride for side in video.shape[2:])
            shape = (self.geometry.channels, latents, height, width)
            frames.append(video)
            noises.append(sigma * noise(seed, sample, step, shape))
            weights.append(counts[None, each * task.heard :])

        def put(tensors: list[Tensor]) -> Tensor:
            return torch.stack(tensors).to(self.device, non_blocking=True)

        return Batch(put(frames), put(noises), put(weights), task.heard)

    def losses(self, network: nn.Module, batch: Batch) -> Tensor:
        latents, decoded = self.trainee.reconstruct(network, batch.frames, batch.noise, batch.heard)
        error = decoded - batch.frames[:, :, -decoded.shape[2] :]
        loss = picture_loss(error, batch.weights)
        return loss + SPREAD * spread(latents) if self.part == "codec" else loss


def places(data: Footage, latent_frames: int, latents: int) -> NDArray[np.int64]:
    """How many places there are for so many latents in each clip and those before it. Raises UserError where
    there is none."""
    counts = [max(0, frames // latent_frames - latents + 1) for frames in data.frames]
    ends = np.cumsum(counts, dtype=np.int64)
    if not len(ends) or not ends[-1]:
        raise UserError(f"no clip has the {latents * latent_frames} frames that a codec learns from at once")
    return ends


def as_video(pixels: Tensor) -> Tensor:
    """uint8 [f h w 3] as [3 f h w] in [-1, 1]."""
    return rearrange(pixels, "f h w c -> c f h w").float() / 127.5 - 1


def picture_loss(error: Tensor, weights: Tensor) -> Tensor:
    """Of pixels, of edges and of motion [b]: error [b 3 f h w], weights [b 1 f h w]."""
    across, down, motion = error.diff(dim=-1), error.diff(dim=-2), error.diff(dim=2)
    edges = charbonnier(across, weights[..., 1:]) + charbonnier(down, weights[..., 1:, :])
    return (
        charbonnier(error, weights)
        + SQUARES * weighted(error.square(), weights)
        + EDGES * edges
        + MOTION * charbonnier(motion, weights[:, :, 1:])
    )


def charbonnier(difference: Tensor, weights: Tensor) -> Tensor:
    """Absolute difference, rounded off at 0 (Charbonnier et al. 1994), as a mean [b]."""
    return weighted((difference.square() + CHARBONNIER).sqrt(), weights)


def weighted(values: Tensor, weights: Tensor) -> Tensor:
    """Mean [b] of values [b c f h w] that count by weights [b 1 f h w]."""
    by_pixel = reduce(values, "b c f h w -> b 1 f h w", "mean")
    return (by_pixel * weights).flatten(1).sum(1) / weights.flatten(1).sum(1)


def spread(latents: Tensor) -> Tensor:
    """How far the channels of latents [b c f h w] are from mean 0 and mean square 1, in each sample [b].

    The mean square of many samples is the mean of theirs; the deviation's own is not.
    """
    mean = reduce(latents, "b c f h w -> b c", "mean")
    power = reduce(latents.square(), "b c f h w -> b c", "mean")
    return (mean.square() + (power - 1).square()).mean(1)


@torch.inference_mode()
def measure_psnr(codec: VideoCodec, footage: Footage, geometry: Geometry, device: torch.device) -> float:
    """PSNR in dB of each clip as the codec gives it back, decoded as films are; the mean of all.

    Clips are whole chunks. One that comes back to the bit counts as 100 dB.
    """
    decibels = []
    for clip, frames in enumerate(footage.frames):
        video = as_video(footage.excerpt(clip, 0, frames).pixels)[None].to(device)
        carry: Carry = {}
        parts = []
        for chunk in codec.encode(video).split(geometry.chunk_latents, dim=2):
            decoded, carry = codec.decode(chunk, carry)
            parts.append(decoded)
        held = codec.flush(carry)
        shown = torch.cat(parts if held is None else [*parts, held], dim=2).float().clamp(-1, 1)
        error = ((shown - video) / 2).square().mean().clamp(min=LEAST_ERROR)
        decibels.append(float(-10 * error.log10()))
    return float(np.mean(decibels))
