"""diorama's codec: four frames become one latent of 16 x 8 x 12, by 2D convolutions over folded time.

The four frames stand in the channels, so each latent decodes on its own: streaming and resuming need no
carry.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

LATENT_FRAMES = 4
"""Frames in a latent."""
CHANNELS = 16
PIXEL_STRIDE = 8
WIDTHS = (64, 96, 128)
"""Channels at a half, a quarter and an eighth of the picture's side."""


EASE = (0.6, 0.3)
"""Share of the last frame of the latent before in a latent's first frames. Latents are made one by one, so
their small errors differ, and uneased they tick at every border. With these the step at
a switch of prompts stays under twice a film's median one."""


def ease(frames: Tensor, last: Tensor | None) -> Tensor:
    """Frames [b c f h w] of whole latents, each latent's first ones crossfaded from the frame before it.

    `last` [b c 1 h w] is the frame in front of them, None at a film's or a run's start.
    """
    whole = frames if last is None else torch.cat([last.expand_as(frames[:, :, :LATENT_FRAMES]), frames], 2)
    latents = rearrange(whole, "b c (f t) h w -> b c f t h w", t=LATENT_FRAMES)
    eased = latents.clone()
    for i, share in enumerate(EASE):
        eased[:, :, 1:, i] += share * (latents[:, :, :-1, -1] - latents[:, :, 1:, i])
    return rearrange(eased, "b c f t h w -> b c (f t) h w")[:, :, -frames.shape[2] :]


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
    """Pictures of any size whose sides are multiples of 8; trained at 96 x 64."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        half, quarter, eighth = WIDTHS
        folded = 3 * LATENT_FRAMES * 4
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(folded, half, 3, padding=1),
            Residual(half),
            nn.Conv2d(half, quarter, 4, 2, 1),
            Residual(quarter),
            nn.Conv2d(quarter, eighth, 4, 2, 1),
            Residual(eighth),
            Residual(eighth),
            nn.Conv2d(eighth, CHANNELS, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(CHANNELS, eighth, 3, padding=1),
            Residual(eighth),
            Residual(eighth),
            nn.Conv2d(eighth, quarter * 4, 1),
            nn.PixelShuffle(2),
            Residual(quarter),
            Residual(quarter),
            nn.Conv2d(quarter, half * 4, 1),
            nn.PixelShuffle(2),
            Residual(half),
            Residual(half),
            nn.Conv2d(half, folded, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.before = nn.Conv2d(CHANNELS, eighth, 3, padding=1, bias=False)
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
        [b 3 4f 8h 8w] in [-1, 1]."""
        folded = rearrange(video, "b c (f t) h w -> (b f) (t c) h w", t=LATENT_FRAMES)
        latents: Tensor = self.encoder(folded.contiguous(memory_format=torch.channels_last)).float()
        latents = (latents - self.mean[:, None, None]) / self.std[:, None, None]
        return rearrange(latents, "(b f) c h w -> b c f h w", b=len(video))

    def decode(self, latents: Tensor, before: Tensor | None = None) -> Tensor:
        """Frames [b 3 4f 8h 8w], about in [-1, 1], of latents [b c f h w].

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
