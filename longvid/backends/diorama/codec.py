"""diorama's codec: four frames become one latent of 24 x 8 x 12, by 2D convolutions over folded time.

The four frames stand in the channels, so each latent decodes on its own: streaming and resuming need no
carry.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

LATENT_FRAMES = 4
"""Frames in a latent."""
CHANNELS = 24
PIXEL_STRIDE = 16
WIDTHS = (32, 64, 96, 160)
"""Channels at a half, a quarter, an eighth and a sixteenth of the picture's side."""


EASE = (1.0, 0.5)
"""How much of a step between latents is taken out of the first frames of the later one."""
EASE_MOST = 0.8
"""Share of the frame before in a latent's first one, at most."""
EASE_TO = 0.75
"""Of what frames change inside latents, to which the step between two is brought. What is taken out of it
comes with the next frames, and makes these change more."""
EASE_REACH_PX = 8
"""Of the surroundings in which changes are compared."""
EASE_FAINT = 0.001
"""Changes of less, of 2, are all alike."""


class Before(NamedTuple):
    """Of the latent in front: its last ``frame`` [b c 1 h w], and how much its frames ``change`` there
    [b 1 h w]."""

    frame: Tensor
    change: Tensor


def ease(frames: Tensor, before: Before | None) -> tuple[Tensor, Before]:
    """Frames [b c f h w] of whole latents, each latent's first ones crossfaded from the frame before it; and
    what the next ones need. ``before`` is None at a film's or a run's start.

    Latents are made one by one, so their small errors differ, and uneased they tick at every border. Where
    the picture changes more from latent to latent than inside either, the frame before stays on by so much
    that it no longer does; what moves as fast inside as across goes on nearly untouched, or it would falter.
    """
    latents = rearrange(frames, "b c (f t) h w -> b c f t h w", t=LATENT_FRAMES)
    inside = (latents[:, :, :, 1:] - latents[:, :, :, :-1]).abs().mean((1, 3))
    first = Before(latents[:, :, :1, 0], inside[:, :1]) if before is None else before
    frame = torch.cat([first.frame, latents[:, :, :-1, -1]], 2)
    usual = torch.maximum(inside, torch.cat([first.change, inside[:, :-1]], 1))
    step = around((latents[:, :, :, 0] - frame).abs().mean(1), EASE_REACH_PX) + EASE_FAINT
    share = (1 - EASE_TO * (around(usual, EASE_REACH_PX) + EASE_FAINT) / step).clamp(0, EASE_MOST)[:, None]
    eased = latents.clone()
    for i, part in enumerate(EASE):
        eased[:, :, :, i] += part * share * (frame - latents[:, :, :, i])
    last = Before(latents[:, :, -1:, -1], inside[:, -1:])
    return rearrange(eased, "b c f t h w -> b c (f t) h w"), last


def around(pictures: Tensor, reach_px: int) -> Tensor:
    """The mean of each pixel's surroundings, so far to every side, in [n c h w], as far as there are any."""
    side = 2 * reach_px + 1
    across = F.avg_pool2d(pictures, (1, side), 1, (0, reach_px), count_include_pad=False)
    return F.avg_pool2d(across, (side, 1), 1, (reach_px, 0), count_include_pad=False)


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(channels, channels, 3, padding=1)
        self.outer = nn.Conv2d(channels, channels, 3, padding=1)
        for parameter in self.outer.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.outer(F.relu(self.inner(F.relu(x))))
        return y


class Codec(nn.Module):
    """Pictures of any size whose sides are multiples of 16; trained at 192 x 128."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = WIDTHS
        folded = 3 * LATENT_FRAMES
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(folded * 16, quarter, 3, padding=1),
            Residual(quarter),
            nn.Conv2d(quarter, eighth, 4, 2, 1),
            Residual(eighth),
            nn.Conv2d(eighth, sixteenth, 4, 2, 1),
            Residual(sixteenth),
            Residual(sixteenth),
            nn.Conv2d(sixteenth, CHANNELS, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(CHANNELS, sixteenth, 3, padding=1),
            Residual(sixteenth),
            Residual(sixteenth),
            nn.Conv2d(sixteenth, eighth * 4, 1),
            nn.PixelShuffle(2),
            *(Residual(eighth) for _ in range(3)),
            nn.Conv2d(eighth, quarter * 4, 1),
            nn.PixelShuffle(2),
            *(Residual(quarter) for _ in range(4)),
            nn.Conv2d(quarter, half * 4, 1),
            nn.PixelShuffle(2),
            *(Residual(half) for _ in range(5)),
            nn.Conv2d(half, folded * 4, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.before = nn.Conv2d(CHANNELS, sixteenth, 3, padding=1, bias=False)
        nn.init.zeros_(self.before.weight)
        self.register_buffer("mean", torch.zeros(CHANNELS))
        self.register_buffer("std", torch.ones(CHANNELS))

    def forward(self, video: Tensor, noise: Tensor, heard: int) -> tuple[Tensor, Tensor]:
        """Training's one pass: latents of a video, and what is decoded of them behind the first ``heard``
        once ``noise`` is added (`CodecTrainee.reconstruct`)."""
        latents = self.encode(video)
        noisy = latents + noise
        return latents, self.decode(noisy[:, :, heard:], noisy[:, :, heard - 1 : heard] if heard else None)

    def encode(self, video: Tensor) -> Tensor:
        """Latents [b c f h w], each channel of mean 0 and deviation 1 over the world, of frames
        [b 3 4f 16h 16w] in [-1, 1]."""
        folded = rearrange(video, "b c (f t) h w -> (b f) (t c) h w", t=LATENT_FRAMES)
        latents: Tensor = self.encoder(folded.contiguous(memory_format=torch.channels_last)).float()
        latents = (latents - self.mean[:, None, None]) / self.std[:, None, None]
        return rearrange(latents, "(b f) c h w -> b c f h w", b=len(video))

    def decode(self, latents: Tensor, before: Tensor | None = None) -> Tensor:
        """Frames [b 3 4f 16h 16w], about in [-1, 1], of latents [b c f h w].

        `before` [b c 1 h w] is the latent in front of them, None at a film's or a run's start.
        """
        first, *rest = self.decoder
        shape = "b c f h w -> (b f) c h w"
        x = self._unstandardised(latents)
        features = first(rearrange(x, shape).contiguous(memory_format=torch.channels_last))
        heard = x[:, :, :-1] if before is None else torch.cat([self._unstandardised(before), x[:, :, :-1]], 2)
        if heard.shape[2]:
            told = rearrange(self.before(rearrange(heard, shape)), "(b f) c h w -> b f c h w", b=len(latents))
            told = F.pad(told, (0, 0, 0, 0, 0, 0, latents.shape[2] - heard.shape[2], 0))
            features = features + rearrange(told, "b f c h w -> (b f) c h w")
        for layer in rest:
            features = layer(features)
        shape = "(b f) (t c) h w -> b c (f t) h w"
        frames: Tensor = rearrange(features.float(), shape, b=len(latents), t=LATENT_FRAMES)
        return frames

    def _unstandardised(self, latents: Tensor) -> Tensor:
        x: Tensor = latents * self.std[:, None, None, None] + self.mean[:, None, None, None]
        return x
