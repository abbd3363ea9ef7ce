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

from longvid.backends.diorama.codec import LATENT_FRAMES, Codec
from longvid.backends.diorama.world import COLUMN, ROW
from longvid.training.clips import Clips
from longvid.training.muon import Muon

BATCH = 16
LATENT_NOISE = 0.05
OBJECT_WEIGHT = 4.0


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

    def smooth(difference: Tensor, share: Tensor) -> Tensor:
        return ((difference.square() + 1e-4).sqrt() * share).mean()

    across, down = error.diff(dim=-1), error.diff(dim=-2)
    picture = smooth(error, weight) + 2 * (error.square() * weight).mean()
    edges = smooth(across, weight[..., 1:]) + smooth(down, weight[..., 1:, :])
    spread = latents.mean((0, 2, 3, 4)).square().mean() + (latents.std((0, 2, 3, 4)) - 1).square().mean()
    return picture + 0.5 * edges + 0.01 * spread


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
    average = {k: v.clone() for k, v in codec.state_dict().items()}
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
        keep = min(0.99, (1 + step) / (10 + step))
        with torch.no_grad():
            for key, value in codec.state_dict().items():
                average[key].lerp_(value, 1 - keep)
        if (step + 1) % 200 == 0 or step + 1 == steps:
            seconds = time.monotonic() - began
            report(f"codec: step {step + 1} of {steps}, loss {loss.item():.4f}, {seconds:.0f} s")
    codec = Codec()
    codec.load_state_dict(average)
    standardise(codec, clips)
    save_file({k: v.contiguous() for k, v in codec.state_dict().items()}, out)
    return codec.eval()


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
    """PSNR in dB over held-out clips: mean, worst clip, and inside the object's box."""
    whole, objects = [], []
    for i in clips.held_out:
        video = to_unit(clips.frames[i : i + 1])
        with torch.autocast("cpu", torch.bfloat16):
            error = (codec.decode(codec.encode(video)).clamp(-1, 1) - video).square().mean(1)[0].numpy() / 4
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
    }


def load_codec(path: Path) -> Codec:
    codec = Codec()
    codec.load_state_dict(load_file(path))
    return codec.eval()
