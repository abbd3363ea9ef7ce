"""Open-Sora v1.2's schedule: the more there is to denoise, the longer it stays noisy.

A level u = t / 1000 in [0, 1] becomes R u / (1 + (R - 1) u), where R grows with the picture and with the
latents that the network sees together.
"""

from __future__ import annotations

from math import sqrt

SQUARE_PX = 512
"""Side of the square picture whose single latent has R = 1."""


def shift_ratio(height_px: float, width_px: float, latents: int) -> float:
    """R for a picture of this size in a window of so many latents (>= 1)."""
    return sqrt(height_px * width_px) / SQUARE_PX * sqrt(latents)
