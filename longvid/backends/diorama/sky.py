"""The sky of diorama's world by the time of day; clouds, fog, rain and snow."""

from __future__ import annotations

import numpy as np

from longvid.backends.diorama.canvas import (
    COLUMN,
    HEIGHT_PX,
    ROW,
    UNIT_PX,
    WAVENUMBER,
    WIDTH,
    WIDTH_PX,
    Array,
    coverage,
    grey,
    image,
    over,
    smoothstep,
)


def _table(*rows: tuple[float, ...]) -> Array:
    return np.array(rows, np.float32)


# By time of day, as it goes round: day, sunset, night, dawn.
SKY_ZENITH = _table((0.20, 0.48, 0.92), (0.26, 0.17, 0.47), (0.01, 0.02, 0.11), (0.47, 0.56, 0.88))
SKY_HORIZON = _table((0.75, 0.90, 0.99), (1.00, 0.55, 0.24), (0.09, 0.12, 0.32), (1.00, 0.78, 0.76))
LIGHT = _table((1.0, 1.0, 1.0), (0.96, 0.72, 0.58), (0.36, 0.41, 0.62), (0.97, 0.87, 0.91))
SUN_COLOR = _table((1.0, 0.96, 0.68), (1.0, 0.80, 0.38), (0.94, 0.95, 0.90), (1.0, 0.92, 0.80))
SUN_ROW = _table((11.0,), (27.0,), (11.0,), (21.0,))
SUN_COLUMN = np.float32(75.0)
TIMES = len(LIGHT)
SUNSET, NIGHT = 1, 2


def _night_stars() -> Array:
    rng = np.random.default_rng(7)
    sky = np.zeros((HEIGHT_PX, WIDTH_PX), np.float32)
    for _ in range(28):
        row, column, glow = rng.uniform(1, 36), rng.uniform(1, WIDTH - 1), rng.uniform(0.5, 1.0)
        sky += (glow * np.exp(-((ROW - row) ** 2 + (COLUMN - column) ** 2) / 0.42)).astype(np.float32)
    return sky


STARS = _night_stars()


def draw_sky(
    zenith: Array, horizon: Array, sun_row: Array, sun_color: Array, night: Array, overcast: Array
) -> Array:
    """Colours [f 3], all else [f] -> [f h w 3], or [1 h w 3] where nothing changes: a gradient, the sun or a
    moon before it, and stars by night."""
    down = (np.clip(ROW / 44, 0, 1) ** np.float32(1.2))[None, :, :, None]
    picture = image(zenith) * (1 - down) + image(horizon) * down
    clearness = np.clip(1 - overcast, np.float32(0.1), 1)
    picture = picture + (image(night * clearness) * STARS)[..., None]
    row, color = image(sun_row), image(sun_color)
    distance = np.sqrt((COLUMN - SUN_COLUMN) ** 2 + (ROW - row) ** 2)
    glow = np.exp(-distance * distance / np.float32(180)) * image(
        (np.float32(0.36) - np.float32(0.2) * night) * clearness
    )
    picture = picture + glow[..., None] * color
    shade = np.sqrt((COLUMN - SUN_COLUMN - 3) ** 2 + (ROW - row + np.float32(1.5)) ** 2)
    crescent = coverage(shade - np.float32(5.6)) * image(night)
    disc = coverage(distance - np.float32(6.2)) * image(clearness) * (1 - crescent * np.float32(0.93))
    return over(picture, disc, color)


def draw_clouds(
    picture: Array, light: Array, seconds: Array, scroll: Array, rng: np.random.Generator
) -> Array:
    """Two that drift, over the upper sky of pictures [f or 1, h w 3], which are drawn over -> [f h w 3]."""
    rows = slice(0, 28 * UNIT_PX)
    density = np.zeros((1, 1, 1), np.float32)
    first = rng.uniform(0, 124)
    for gap, row in ((0.0, 9.0), (62.0, 17.0)):
        center = np.mod(first + gap + 1.5 * seconds - scroll * 0.3, 124).astype(np.float32)
        dx, dy = COLUMN[0] - center[:, None] + 14, ROW[rows, :1] - np.float32(row)

        def puff(across: Array, down: Array) -> Array:
            """Across [f w] and down [h 1] lie in factors of their own."""
            product: Array = np.exp(-(across**2))[:, None, :] * np.exp(-(down**2))
            return product

        density = density + puff(dx / 11, dy / np.float32(3.6))
        density = density + np.float32(0.8) * puff((dx - 7) / 6, (dy + np.float32(2.4)) / np.float32(3.4))
    alpha = smoothstep(0.28, 0.9, density) * np.float32(0.85)
    color = np.clip(image(light) * np.float32(0.95) + np.float32(0.05), 0, 1)
    below = picture if len(picture) == len(alpha) else np.repeat(picture, len(alpha), 0)
    below[:, rows] = over(below[:, rows], alpha, color)
    return below


def fog_color(light: Array, horizon: Array) -> Array:
    color: Array = np.float32(0.5) * grey(light) * np.float32(0.85) + np.float32(0.5) * horizon
    return color


def draw_fog(picture: Array, fog: Array, light: Array, horizon: Array, seconds: Array) -> Array:
    """Banks that thicken towards the ground and drift, over all that is far."""
    if fog.max() == 0:
        return picture
    flow = (2 * np.pi * seconds / 8).astype(np.float32)[:, None, None]
    banks = np.sin(2 * WAVENUMBER * COLUMN + flow) * np.exp(-(((ROW - 44) / 9) ** 2))
    thickness = np.float32(0.3) + np.float32(0.38) * smoothstep(14, 46, ROW) + np.float32(0.13) * banks
    return over(picture, thickness * image(fog), image(fog_color(light, horizon)))


def draw_weather(picture: Array, frame: Array, rain: Array, snow: Array, light: Array) -> Array:
    """Sparse rain and snow that fall by whole periods."""
    time = frame[:, None, None]
    if rain.max() > 0:
        slant = COLUMN + ROW * np.float32(0.25)
        fall = np.mod(ROW[None] - 4 * time + np.floor(slant / 12) * 7, 16)
        streak = np.exp(-(((np.mod(slant, 12) - 6) / np.float32(0.85)) ** 2)) * smoothstep(0, 2, fall)
        streak = streak * (1 - smoothstep(7, 9, fall))
        picture = over(
            picture, streak * image(rain) * np.float32(0.45), np.array((0.85, 0.9, 1.0), np.float32)
        )
    if snow.max() > 0:
        sway = COLUMN + np.float32(1.5) * np.sin(2 * np.float32(np.pi) * time / 32)
        across = np.mod(sway, 13) - np.float32(6.5)
        fall = np.mod(ROW[None] - time + np.floor(sway / 13) * 6, 16) - 8
        flake = np.exp(-(across * across + fall * fall) / np.float32(2.0)) * image(snow) * np.float32(0.9)
        picture = over(picture, flake, np.clip(image(light) * np.float32(0.5) + np.float32(0.5), 0, 1))
    return picture
