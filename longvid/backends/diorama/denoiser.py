"""diorama's denoiser: a video transformer with a time per latent frame, between two convolutions.

A residual 3 x 3 block at the latent grid on either side gives a shape the same drawing at every place.
Between them every token attends to the whole window in space and time: at 480 tokens this costs what a
factorised pair of attentions does, and a moving object is one hop away. Text comes in twice: in the
modulation of each latent frame, and by cross-attention to the prompt's tokens.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class DenoiserSize:
    """`conv` channels at the latent grid, transformer `width` d, `depth` blocks of `heads` heads."""

    latent_channels: int
    latent_height: int
    latent_width: int
    conv: int
    width: int
    depth: int
    heads: int
    text_width: int

    def to_metadata(self) -> dict[str, str]:
        """For a safetensors header. One key: the format writes several in no fixed order, and equal weights
        shall be equal bytes."""
        return {"size": json.dumps(asdict(self))}

    @staticmethod
    def from_metadata(metadata: dict[str, str]) -> DenoiserSize:
        return DenoiserSize(**json.loads(metadata["size"]))


PATCH = 2
TIME_FEATURES = 64
ROTARY_BASE = (100.0, 20.0, 20.0)
"""Of the rotary frequencies of time, row and column: base ** -share radians a token, shares from 0 to 1."""


def rms(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],))


def rotary_angles(frames: int, rows: int, columns: int, pairs: int, device: torch.device) -> Tensor:
    """Angles [f·h·w pairs] of 3D rotary positions (Su et al. 2021), the pairs shared by the three axes."""
    share = pairs // 3
    counts = (pairs - 2 * share, share, share)
    places = [torch.arange(size, device=device) for size in (frames, rows, columns)]
    axes = torch.meshgrid(*places, indexing="ij")
    parts = [
        axis.reshape(-1, 1) * base ** (-torch.arange(count, device=device) / count)
        for axis, count, base in zip(axes, counts, ROTARY_BASE, strict=True)
    ]
    return torch.cat(parts, 1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def softmax(scores: Tensor) -> Tensor:
    """In the scores' own type: autocast would take it to float32, at half the speed on a CPU."""
    with torch.autocast(scores.device.type, enabled=False):
        return scores.softmax(-1)


class Block(nn.Module):
    """Attention over the window, cross-attention to the text, an MLP with squared ReLU; adaLN modulation
    (Peebles & Xie 2023)."""

    def __init__(self, size: DenoiserSize) -> None:
        super().__init__()
        d = size.width
        self.heads = size.heads
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.text_q = nn.Linear(d, d, bias=False)
        self.text_kv = nn.Linear(size.text_width, 2 * d, bias=False)
        self.text_out = nn.Linear(d, d, bias=False)
        self.up = nn.Linear(d, 4 * d, bias=False)
        self.down = nn.Linear(4 * d, d, bias=False)
        self.modulation = nn.Parameter(torch.zeros(6, d))
        for last in (self.out, self.text_out, self.down):
            nn.init.zeros_(last.weight)

    def forward(
        self, x: Tensor, modulation: Tensor, rotary: tuple[Tensor, Tensor], tokens: Tensor, mix: Tensor
    ) -> Tensor:
        """x [b f n d]; modulation [b f 6 d]; tokens [b p a v]; mix [b f p]."""
        frames = x.shape[1]
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + self.modulation)[:, :, :, None].unbind(2)
        qkv = self.qkv(rms(x) * (1 + scale1) + shift1)
        q, k, v = rearrange(qkv, "b f n (three h e) -> three b h (f n) e", three=3, h=self.heads)
        q, k = rotate(rms(q), *rotary), rotate(rms(k), *rotary)
        seen = softmax((q * q.shape[-1] ** -0.5).to(v.dtype) @ k.to(v.dtype).mT) @ v
        x = x + gate1 * self.out(rearrange(seen, "b h (f n) e -> b f n (h e)", f=frames))
        x = x + self.text_out(self.cross_attend(x, tokens, mix))
        x = x + gate2 * self.down(F.relu(self.up(rms(x) * (1 + scale2) + shift2)).square())
        return x

    def cross_attend(self, x: Tensor, tokens: Tensor, mix: Tensor) -> Tensor:
        """What each frame reads [b f n d]; it attends to each alone: o = Σ mix · CA(x, prompt)."""
        prompts = tokens.shape[1]
        q = rearrange(rms(self.text_q(rms(x))), "b f n (h e) -> b h f n e", h=self.heads)
        k, v = rearrange(self.text_kv(tokens), "b p a (two h e) -> two b h (p a) e", two=2, h=self.heads)
        scores = (q * q.shape[-1] ** -0.5).to(v.dtype) @ rms(k).to(v.dtype).mT[:, :, None]
        shares = softmax(rearrange(scores, "b h f n (p a) -> b h f n p a", p=prompts))
        shares = shares * mix[:, None, :, None, :, None].to(shares.dtype)
        read: Tensor = rearrange(shares, "b h f n p a -> b h f n (p a)") @ v[:, :, None]
        return rearrange(read, "b h f n e -> b f n (h e)")


class ConvResidual(nn.Module):
    """3 x 3 residual block, scaled and shifted for each frame."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(channels, channels, 3, padding=1)
        self.outer = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(width, 2 * channels)
        for parameter in (*self.outer.parameters(), *self.film.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [n c h w], condition [n d]."""
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, 1)
        y: Tensor = x + self.outer(F.relu(self.inner(F.relu(x)) * (1 + scale) + shift))
        return y


class Denoiser(nn.Module):
    """The velocity dx/dt = noise - clean of rectified flow; t = 0 is clean, 1 is noise."""

    frequencies: Tensor

    def __init__(self, size: DenoiserSize) -> None:
        super().__init__()
        d, c = size.width, size.conv
        self.size = size
        self.stem = nn.Conv2d(size.latent_channels, c, 3, padding=1)
        self.conv_in, self.conv_out = ConvResidual(c, d), ConvResidual(c, d)
        self.patch_in = nn.Linear(c * PATCH**2, d)
        self.patch_out = nn.Linear(d, c * PATCH**2)
        self.place = nn.Parameter(torch.randn(size.latent_height * size.latent_width // PATCH**2, d) * 0.02)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.depth))
        self.merge = nn.Conv2d(2 * c, c, 1)
        self.out = nn.Conv2d(c, size.latent_channels, 3, padding=1)
        self.time = nn.Sequential(nn.Linear(2 * TIME_FEATURES, d), nn.SiLU(), nn.Linear(d, d))
        self.text = nn.Linear(size.text_width, d, bias=False)
        self.modulation = nn.Linear(d, 6 * d)
        for parameter in (*self.modulation.parameters(), *self.out.parameters()):
            nn.init.zeros_(parameter)
        with torch.no_grad():
            self.modulation.bias.view(6, d)[[2, 5]] = 1.0
        frequencies = 100 * torch.exp(-math.log(1000) * torch.arange(TIME_FEATURES) / TIME_FEATURES)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor, mix: Tensor) -> Tensor:
        """Velocity [b c f h w] of x [b c f h w] at times t [b f], under prompts [b p a v] mixed [b f p]."""
        b, _, f, h, w = x.shape
        angles = t.float()[..., None] * self.frequencies
        said = torch.einsum("bfp,bpd->bfd", mix, self.text(tokens.sum(2)).float())
        condition = F.silu(self.time(torch.cat([angles.cos(), angles.sin()], -1)).float() + said)
        flat = rearrange(condition, "b f d -> (b f) d")
        frames = rearrange(x, "b c f h w -> (b f) c h w").contiguous(memory_format=torch.channels_last)
        skip = self.conv_in(self.stem(frames), flat)
        patches = rearrange(skip, "(b f) c (h p) (w q) -> b f (h w) (c p q)", b=b, p=PATCH, q=PATCH)
        y: Tensor = self.patch_in(patches) + self.place
        angles = rotary_angles(
            f, h // PATCH, w // PATCH, self.size.width // self.size.heads // 2, y.device
        ).to(y)
        rotary = (angles.cos(), angles.sin())
        modulation = rearrange(self.modulation(condition), "b f (six d) -> b f six d", six=6)
        for block in self.blocks:
            y = block(y, modulation, rotary, tokens, mix)
        y = rearrange(
            self.patch_out(rms(y)), "b f (h w) (c p q) -> (b f) c (h p) (w q)", h=h // PATCH, p=PATCH, q=PATCH
        )
        y = self.merge(torch.cat([y, skip], 1))
        y = self.out(F.relu(self.conv_out(y, flat)))
        return rearrange(y, "(b f) c h w -> b c f h w", b=b).float()
