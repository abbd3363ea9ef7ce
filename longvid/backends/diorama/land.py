"""What diorama's world is a view of: the sea, hills, a desert, a city, mountains or a forest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np

from longvid.backends.diorama.canvas import (
    COLUMN,
    HEIGHT,
    ROW,
    UNIT_PX,
    WAVENUMBER,
    WIDTH,
    Array,
    coverage,
    image,
    over,
    unchanging,
)
from longvid.backends.diorama.sky import NIGHT, SUNSET

FOOT = slice((HEIGHT - 36) * UNIT_PX, None)
"""No land reaches above 36 units: the sky there is all there is."""
ROWS = ROW[None, FOOT]
SKYLINE = np.repeat(np.array([18, 25, 14, 22, 12, 27, 16, 20], np.float32), 12)
FIRS = np.array([21, 27, 17, 25, 19, 29, 23, 16], np.float32)


@dataclass(frozen=True)
class Seen:
    """What all lands go by. ``near`` and ``far``: places [f w] in units, as the camera has them go by;
    ``lit`` and ``haze``: colours [f 1 1 3]; ``flow``: the phase of waves [f 1]; ``times``: how far it is each
    time of day [f 4]."""

    near: Array
    far: Array
    lit: Array
    haze: Array
    flow: Array
    times: Array


def draw_land(
    sky: Array, shares: list[Array], light: Array, horizon: Array, times: Array, scroll: Array, seconds: Array
) -> Array:
    """Each land before the sky [f or 1, h w 3], which is drawn over, by its share [f] -> [f h w 3], or
    [1 h w 3] where nothing changes. ``scroll`` [f]: how far the camera has come, in units."""
    moved = unchanging(scroll)
    seen = Seen(
        near=COLUMN[0] + moved[:, None],
        far=COLUMN[0] + moved[:, None] / 2,
        lit=image(light),
        haze=image(horizon),
        flow=(2 * np.pi * seconds / 8).astype(np.float32)[:, None],
        times=times,
    )
    below = sky[:, FOOT]
    present = [(share, draw) for share, draw in zip(shares, LANDS, strict=True) if share.max() > 0]
    if len(present) == 1:
        land = present[0][1](below, seen)
    else:
        land = reduce(np.add, (share[:, None, None, None] * draw(below, seen) for share, draw in present))
    picture = sky if len(sky) == len(land) else np.repeat(sky, len(land), 0)
    picture[:, FOOT] = land
    return picture


def layer(below: Array, height: Array, color: Array) -> Array:
    """Ground of this height above the picture's foot [f w]."""
    top = np.float32(HEIGHT) - height
    return over(below, coverage(top[:, None, :] - ROWS), color)


def rgb(red: float, green: float, blue: float) -> Array:
    return np.array((red, green, blue), np.float32)


def ridge(x: Array, period: float, shift: float = 0.0) -> Array:
    """Peaks of height 1 a period apart, with valleys at 0."""
    height: Array = np.abs(np.mod(x / np.float32(period) + np.float32(shift), 1) * 2 - 1)
    return height


def draw_sea(below: Array, seen: Seen) -> Array:
    for x, level, swell, waves, cycles, color in (
        (seen.far, 22.0, 0.8, 4, 3, rgb(0.18, 0.46, 0.72)),
        (seen.near, 15.5, 1.3, 3, 2, rgb(0.12, 0.36, 0.62)),
        (seen.near, 8.0, 1.8, 2, 1, rgb(0.07, 0.26, 0.50)),
    ):
        height = np.float32(level) + np.float32(swell) * np.sin(WAVENUMBER * waves * x + cycles * seen.flow)
        below = layer(below, height, color * seen.lit * np.float32(0.85) + seen.haze * np.float32(0.2))
        foam = np.exp(-(((ROWS - (HEIGHT - height)[:, None, :] - np.float32(0.6)) / np.float32(0.8)) ** 2))
        below = below + (foam * np.float32(0.22))[..., None] * seen.lit
    return below


def draw_hills(below: Array, seen: Seen) -> Array:
    distant = rgb(0.32, 0.56, 0.44) * seen.lit * np.float32(0.9) + seen.haze * np.float32(0.12)
    below = layer(below, 22 + 5 * np.sin(WAVENUMBER * 2 * seen.far + 1), distant)
    below = layer(below, 12 + 4 * np.sin(WAVENUMBER * 2 * seen.near + 3), rgb(0.22, 0.58, 0.20) * seen.lit)
    return layer(
        below, 5 + np.float32(1.8) * np.sin(WAVENUMBER * 3 * seen.near), rgb(0.14, 0.43, 0.13) * seen.lit
    )


def draw_desert(below: Array, seen: Seen) -> Array:
    distant = rgb(0.86, 0.62, 0.36) * seen.lit * np.float32(0.92) + seen.haze * np.float32(0.08)
    below = layer(below, 16 + 7 * ridge(seen.far, 48, shift=0.2), distant)
    return layer(below, 8 + 6 * ridge(seen.near, 96), rgb(0.95, 0.75, 0.45) * seen.lit)


def draw_city(below: Array, seen: Seen) -> Array:
    height = SKYLINE[np.mod(np.floor(seen.near), WIDTH).astype(int)]
    wall = rgb(0.44, 0.46, 0.54) * seen.lit + seen.haze * np.float32(0.08)
    column = np.abs(np.mod(seen.near, 6) - 3)[:, None, :] - 1
    row = np.abs(np.mod(ROWS, 6) - np.float32(3.5)) - 1
    glow = np.float32(0.12) + np.float32(0.75) * (
        seen.times[:, NIGHT] + np.float32(0.5) * seen.times[:, SUNSET]
    )
    glow = (image(glow) * coverage(column) * coverage(row))[..., None]
    below = layer(below, 4 + height, wall * (1 - glow) + glow * rgb(1.0, 0.85, 0.45))
    return layer(below, np.full_like(seen.near, 5), rgb(0.22, 0.22, 0.25) * seen.lit)


def draw_mountains(below: Array, seen: Seen) -> Array:
    for x, level, rise, period, color in (
        (
            seen.far,
            17.0,
            18.0,
            48,
            rgb(0.42, 0.46, 0.60) * seen.lit * np.float32(0.9) + seen.haze * np.float32(0.1),
        ),
        (seen.near, 9.0, 15.0, 32, rgb(0.33, 0.35, 0.44) * seen.lit),
    ):
        height = level + rise * ridge(x, period)
        below = layer(below, height, color)
        # Snow above a line that the slopes make jagged.
        line = level + rise * np.float32(0.55) + np.float32(1.5) * ridge(x, 6)
        snow = coverage(ROWS - (HEIGHT - line)[:, None, :]) * coverage((HEIGHT - height)[:, None, :] - ROWS)
        below = over(below, snow * np.float32(0.9), rgb(0.95, 0.97, 1.0) * seen.lit)
    return layer(
        below, 5 + np.float32(1.2) * np.sin(WAVENUMBER * 2 * seen.near), rgb(0.20, 0.33, 0.22) * seen.lit
    )


def draw_forest(below: Array, seen: Seen) -> Array:
    distant = rgb(0.20, 0.38, 0.30) * seen.lit * np.float32(0.85) + seen.haze * np.float32(0.15)
    below = layer(below, 20 + 5 * ridge(seen.far, 8), distant)
    tree = np.mod(np.floor(seen.near / 12), len(FIRS)).astype(int)
    slope = np.abs(np.mod(seen.near, 12) - 6)
    # Three skirts of branches, each wider than the one above.
    height = np.maximum.reduce(
        [FIRS[tree] - drop - steep * slope for drop, steep in ((0, 4.5), (5, 3.2), (10, 2.2))]
    )
    below = layer(below, height.astype(np.float32), rgb(0.08, 0.30, 0.16) * seen.lit)
    return layer(
        below, 4 + np.float32(0.8) * np.sin(WAVENUMBER * 4 * seen.near), rgb(0.16, 0.22, 0.10) * seen.lit
    )


LANDS: tuple[Callable[[Array, Seen], Array], ...] = (
    draw_sea,
    draw_hills,
    draw_desert,
    draw_city,
    draw_mountains,
    draw_forest,
)
"""In the order of `captions.VALUES`."""
