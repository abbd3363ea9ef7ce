"""What diorama's world is drawn on, and its brushes. Lengths are in units of two pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

UNIT_PX = 2
"""Pixels a unit of the world."""
HEIGHT, WIDTH = 64, 96
"""In units."""
HEIGHT_PX, WIDTH_PX = HEIGHT * UNIT_PX, WIDTH * UNIT_PX
ROW, COLUMN = ((np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX] + 0.5) / UNIT_PX - 0.5).astype(np.float32)
"""Of each pixel's middle, in units."""
WAVENUMBER = np.float32(2 * np.pi / WIDTH)
"""Radians a unit, of the wave that is as long as the picture is wide."""
EDGE = np.float32(0.75)
"""Units from inside to outside of a shape, a pixel and a half: what is sharper a small codec cannot keep."""


def coverage(distance: Array) -> Array:
    """Anti-aliased share of a pixel inside a shape of this signed distance, in units."""
    share: Array = np.clip(np.float32(0.5) - distance / EDGE, 0, 1)
    return share


def over(below: Array, alpha: Array, color: Array) -> Array:
    """A colour [... 3] composited with opacity ``alpha`` [f h w] over pictures [f h w 3]."""
    return below + alpha[..., None] * (color - below)


def smoothstep(low: float, high: float, x: Array) -> Array:
    """0 below ``low``, 1 above ``high``, and between them without a corner."""
    u: Array = np.clip((x - np.float32(low)) / np.float32(high - low), 0, 1)
    return u * u * (3 - 2 * u)


def grey(color: Array) -> Array:
    """What is left of a colour [... 3] under clouds: its brightness, a little blue."""
    luma: Array = color.mean(-1, keepdims=True)
    return luma * np.array((0.95, 1.0, 1.06), np.float32)


def unchanging(values: Array) -> Array:
    """[f ...], or [1 ...] where nothing changes in time, so that what depends on it is drawn once."""
    return values[:1] if np.all(values == values[0]) else values


def image(values: Array) -> Array:
    """[f ...] -> [f 1 1 ...], or [1 1 1 ...] where nothing changes in time."""
    return unchanging(values)[:, None, None]
