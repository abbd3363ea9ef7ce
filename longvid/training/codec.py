"""Training diorama's codec: a Charbonnier loss on pixels and edges, heavier on the object; noise on the
latents stands in for a KL."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from longvid.backends.diorama.codec import LATENT_FRAMES, Codec, ease
from longvid.backends.diorama.world import COLUMN, ROW
from longvid.training.average import copy_weights, update_average
from longvid.training.clips import Clips
from longvid.training.muon import Muon

BATCH = 16
AVERAGE_KEEP = 0.99
LATENT_NOISE = 0.05
OBJECT_WEIGHT = 4.0
MAX_SAMPLED_NOISE = 0.3
"""The most noise that sampled latents are taken to hold; real ones have deviation 1."""
NO_LATENT_BEFORE = 0.1
"""How often the decoder is taught a film's start."""


def to_unit(frames: NDArray[np.uint8]) -> Tensor:
    """uint8 [b f h w 3] -> float [b 3 f h w] in [-1, 1]."""
    return rearrange(torch.tensor(frames).float().div_(127.5).sub_(1), "b f h w c -> b c f h w")


def inside(box: NDArray[np.float32], margin_px: float) -> NDArray[np.bool_]:
    """Pixels [... h w] that lie in the boxes [... 4] or within `margin_px` of them."""
    left, top, right, bottom = np.moveaxis(box, -1, 0)[..., None, None]
    mask: NDArray[np.bool_] = (left - margin_px <= COLUMN) & (right + margin_px >= COLUMN)
    mask &= (top - margin_px <= ROW) & (bottom + margin_px >= ROW)
    return mask


def codec_loss(codec: Codec, video: Tensor, weight: Tensor, generator: torch.Generator) -> Tensor:
    """video [b 3 4 h w]; weight [b 1 1 h w], larger on the object. The latents are held near mean 0 and
    deviation 1."""
    with torch.autocast("cpu", torch.bfloat16):
        latents = codec.encode(video)
        noisy = latents + LATENT_NOISE * torch.randn(latents.shape, generator=generator)
        error = codec.decode(noisy) - video
    spread = latents.mean((0, 2, 3, 4)).square().mean() + (latents.std((0, 2, 3, 4)) - 1).square().mean()
    return picture_loss(error, weight) + 0.01 * spread


def picture_loss(error: Tensor, weight: Tensor) -> Tensor:
    """Of pixels and of edges: error [b 3 f h w], weight [b 1 f h w] or [b 1 1 h w]."""
    picture = smooth(error, weight) + 2 * (error.square() * weight).mean()
    across, down = error.diff(dim=-1), error.diff(dim=-2)
    return picture + 0.5 * (smooth(across, weight[..., 1:]) + smooth(down, weight[..., 1:, :]))


def smooth(difference: Tensor, weight: Tensor) -> Tensor:
    """Charbonnier's loss: absolute difference, rounded off at 0."""
    return ((difference.square() + 1e-4).sqrt() * weight).mean()


def train_codec(
    clips: Clips, out: Path, steps: int, seed: int, lr: float = 2e-3, report: Callable[[str], None] = print
) -> Codec:
    """Train on groups of four frames that begin where latents begin, write the average weights to `out`."""
    torch.manual_seed(seed)
    codec = Codec()
    codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    kernels = [p for p in codec.parameters() if p.ndim == 4 and min(p.shape[:2]) > 8]
    known = set(map(id, kernels))
    rest = [p for p in codec.parameters() if id(p) not in known]
    optimizers = [Muon(kernels, lr), torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0)]
    average = copy_weights(codec)
    rng, generator, began = np.random.default_rng(seed), torch.Generator().manual_seed(seed), time.monotonic()
    for step in range(steps):
        done = step / steps
        rate = lr * min(1.0, (step + 1) / 30) * (1.0 if done < 0.4 else max(0.02, (1 - done) / 0.6))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        video, box = draw_groups(clips, rng, BATCH)
        weight = torch.from_numpy((1 + OBJECT_WEIGHT * inside(box, 2)) / 1.8).float()[:, None, None]
        loss = codec_loss(codec, video, weight, generator)
        codec.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        update_average(average, codec, step, AVERAGE_KEEP)
        if (step + 1) % 200 == 0 or step + 1 == steps:
            seconds = time.monotonic() - began
            report(f"codec: step {step + 1} of {steps}, loss {loss.item():.4f}, {seconds:.0f} s")
    codec = Codec()
    codec.load_state_dict(average)
    standardise(codec, clips)
    save_file({k: v.contiguous() for k, v in codec.state_dict().items()}, out)
    return codec.eval()


def train_decoder(
    codec: Codec,
    clips: Clips,
    latents: Tensor,
    out: Path,
    steps: int,
    seed: int,
    lr: float = 1e-3,
    report: Callable[[str], None] = print,
) -> None:
    """Teach the decoder, under a frozen encoder, to follow the latent before, and to bear latents as a
    denoiser makes them: on pairs of noisy latents, with the difference of neighbouring frames in the loss.
    The weights go to `out`.

    `latents` [n c f h w] are the clips', so what a denoiser learnt on them stays true.
    """
    trained = [*codec.decoder.parameters(), *codec.before.parameters()]
    kernels = [p for p in trained if p.ndim == 4 and min(p.shape[:2]) > 8]
    known = set(map(id, kernels))
    rest = [p for p in trained if id(p) not in known]
    optimizers = [Muon(kernels, lr), torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0)]
    average = copy_weights(codec)
    rng, generator, began = np.random.default_rng(seed), torch.Generator().manual_seed(seed), time.monotonic()
    for step in range(steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * min(1.0, (step + 1) / 30) * max(0.02, 1 - step / steps)
        clip = rng.integers(len(clips.training), size=BATCH // 2)
        start = rng.integers(1, latents.shape[2] - 1, size=BATCH // 2)
        clean = torch.stack([latents[i, :, s - 1 : s + 2] for i, s in zip(clip, start, strict=True)]).float()
        sigma = torch.rand(len(clean), 1, 1, 1, 1, generator=generator) * MAX_SAMPLED_NOISE
        noisy = clean + sigma * torch.randn(clean.shape, generator=generator)
        frames = [slice(s * LATENT_FRAMES, (s + 2) * LATENT_FRAMES) for s in start]
        video = to_unit(np.stack([clips.frames[i, at] for i, at in zip(clip, frames, strict=True)]))
        box = np.stack([clips.box[i, at] for i, at in zip(clip, frames, strict=True)])
        weight = torch.from_numpy((1 + OBJECT_WEIGHT * inside(box, margin_px=2)) / 1.8).float()[:, None]
        with torch.autocast("cpu", torch.bfloat16):
            before = None if rng.random() < NO_LATENT_BEFORE else noisy[:, :, :1]
            error = codec.decode(noisy[:, :, 1:], before) - video
        loss = picture_loss(error, weight) + smooth(error.diff(dim=2), weight[:, :, 1:])
        codec.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        update_average(average, codec, step, AVERAGE_KEEP)
        if (step + 1) % 200 == 0 or step + 1 == steps:
            report(
                f"decoder: step {step + 1} of {steps}, loss {loss.item():.4f}, "
                f"{time.monotonic() - began:.0f} s"
            )
    codec.load_state_dict(average)
    save_file({k: v.contiguous() for k, v in average.items()}, out)


def draw_groups(clips: Clips, rng: np.random.Generator, count: int) -> tuple[Tensor, NDArray[np.float32]]:
    """Random groups of frames that make a latent [b 3 4 h w], and the object's boxes [b 4]."""
    clip = rng.integers(len(clips.training), size=count)
    start = rng.integers(clips.frames.shape[1] // LATENT_FRAMES, size=count) * LATENT_FRAMES
    frames = np.stack([clips.frames[i, s : s + LATENT_FRAMES] for i, s in zip(clip, start, strict=True)])
    box = np.stack([clips.box[i, s + 1] for i, s in zip(clip, start, strict=True)])
    return to_unit(frames), box


@torch.inference_mode()
def standardise(codec: Codec, clips: Clips, sample: int = 200) -> None:
    """Set the codec's mean and deviation a channel, over a sample of the training clips."""
    codec.mean.zero_()
    codec.std.fill_(1.0)
    latents = encode(codec, clips, range(0, len(clips.training), max(1, len(clips.training) // sample)))
    codec.mean.copy_(latents.mean((0, 2, 3, 4)))
    codec.std.copy_(latents.std((0, 2, 3, 4)))


@torch.inference_mode()
def encode(codec: Codec, clips: Clips, indices: range) -> Tensor:
    """Latents [n c f h w], fp32."""
    with torch.autocast("cpu", torch.bfloat16):
        return torch.cat([codec.encode(to_unit(clips.frames[i : i + 1])) for i in indices])


@torch.inference_mode()
def measure_codec(codec: Codec, clips: Clips) -> dict[str, float]:
    """Over held-out clips: PSNR in dB, its mean, worst clip, and inside the object's box; then, eased as in
    films, its mean and the median seam ratio beside the world's own."""
    whole, objects, films, seams = [], [], [], []
    for i in clips.held_out:
        video = to_unit(clips.frames[i : i + 1])
        with torch.autocast("cpu", torch.bfloat16):
            decoded = codec.decode(codec.encode(video)).clamp(-1, 1)
        error = (decoded - video).square().mean(1)[0].numpy() / 4
        film = ease(decoded, None)
        films.append((film - video).square().mean().item() / 4)
        seams.append((seam_ratio(film), seam_ratio(video)))
        whole.append(error.mean())
        box = clips.box[i]
        shown = box[:, 2] > box[:, 0]
        if shown.any():
            objects.append(error[shown][inside(box[shown], 0)].mean())

    def decibels(mse: float) -> float:
        return round(float(-10 * np.log10(mse)), 2)

    return {
        "psnr_mean_db": round(float(np.mean([decibels(e) for e in whole])), 2),
        "psnr_worst_db": min(decibels(e) for e in whole),
        "psnr_object_db": round(float(np.mean([decibels(e) for e in objects])), 2),
        "psnr_eased_db": round(float(np.mean([decibels(e) for e in films])), 2),
        "seam_ratio": round(float(np.median([eased for eased, _ in seams])), 2),
        "seam_ratio_world": round(float(np.median([world for _, world in seams])), 2),
    }


def seam_ratio(video: Tensor) -> float:
    """Median difference of neighbouring frames across the latents' borders, over that inside latents, of
    frames [b 3 f h w]: above 1 the picture ticks."""
    steps = video.diff(dim=2).abs().mean((0, 1, 3, 4))
    across = torch.arange(1, len(steps) + 1) % LATENT_FRAMES == 0
    return (steps[across].median() / steps[~across].median()).item()


def load_codec(path: Path) -> Codec:
    codec = Codec()
    codec.load_state_dict(load_file(path))
    return codec.eval()
