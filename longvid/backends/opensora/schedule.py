"""Open-Sora v1.2's schedule: the more there is to denoise, the longer it stays noisy.

A level u = t / 1000 in [0, 1] becomes R u / (1 + (R - 1) u), where R grows with the picture and with the
latents that the network sees together.
"""

from __future__ import annotations

from math import sqrt

from torch import Tensor

SQUARE_PX = 512
"""Side of the square picture whose single latent has R = 1."""


def shift_ratio(height_px: float, width_px: float, latents: int) -> float:
    """R for a picture of this size in a window of so many latents (>= 1)."""
    return sqrt(height_px * width_px) / SQUARE_PX * sqrt(latents)


def shift(level: Tensor, ratio: float) -> Tensor:
    """Times in [0, 1] of levels in [0, 1], in the levels' own type; 0 stays 0 and 1 stays 1, exactly."""
    # In double precision: in single, a ratio below a half can put the noisiest time above 1.
    u = level.double()
    return (ratio * u / (1 + (ratio - 1) * u)).to(level.dtype)
