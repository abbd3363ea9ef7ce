"""The small procedural world that diorama is trained on: one or two objects over a landscape, with light and
weather.

192 x 128 pixels at 12 frames a second, drawn in units of two pixels. Everything that repeats does so in few
phases, since what a codec must tell apart it must spend capacity on: scenery repeats every 96 units, rain
every 4 frames (one latent), a bird's wings every 16 (a chunk), snow every 32, a bounce every 48. A clip may
hold two specs: sky, light, land and weather dissolve from one to the other, velocity bends, and an object of
another kind or colour shrinks, swaps and grows. The new spec is in force from the frame where the transition
begins, so a prompt means "go there now".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longvid.backends.diorama.captions import VALUES, Spec
from longvid.backends.diorama.objects import OBJECTS, UNIT_PX, Array, coverage, over

HEIGHT, WIDTH = 64, 96
"""In units."""
HEIGHT_PX, WIDTH_PX, FPS = HEIGHT * UNIT_PX, WIDTH * UNIT_PX, 12
CHUNK_FRAMES = 16
SPEED = 14.0
"""Units a second of a drifting object."""
PAN = 9.0
"""Units a second of a panning camera; what is far away goes half as fast."""
ROUND_SECONDS = 24
"""A day and a night where time passes."""
APART, SMALLER, HIGHER = 44.0, np.float32(0.8), np.array([5, 0, 5, 5, 7, 6], np.float32)
"""A second object from the first: units across, its size, and units up by shape (boats stay on the water)."""

TAU = np.float32(2 * np.pi / WIDTH)
ROW, COLUMN = ((np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX] + 0.5) / UNIT_PX - 0.5).astype(np.float32)
"""Of each pixel's middle, in units."""


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
SUNSET, NIGHT, PASSING = 1, 2, 4
RAIN, SNOW, FOG = 1, 2, 3
OBJECT_RGB = _table(
    (0.90, 0.10, 0.10),
    (0.99, 0.86, 0.08),
    (0.10, 0.70, 0.22),
    (0.10, 0.28, 0.95),
    (0.60, 0.16, 0.80),
    (0.98, 0.98, 0.98),
)
OBJECT_ROW = np.array([29.0, 41.0, 31.0, 28.0, 27.0, 26.0], np.float32)
"""Rest height of balloon, boat, star, kite, bird, saucer."""
LEFT, RIGHT, BOUNCING = 0, 1, 2
TWO = 1
PANS = np.array([0.0, PAN, -PAN], np.float32)
"""By camera: static, to the right, to the left."""
SKYLINE = np.repeat(np.array([18, 25, 14, 22, 12, 27, 16, 20], np.float32), 12)
FIRS = np.array([21, 27, 17, 25, 19, 29, 23, 16], np.float32)


def _night_stars() -> Array:
    rng = np.random.default_rng(7)
    sky = np.zeros((HEIGHT_PX, WIDTH_PX), np.float32)
    for _ in range(28):
        row, column, glow = rng.uniform(1, 36), rng.uniform(1, WIDTH - 1), rng.uniform(0.5, 1.0)
        sky += (glow * np.exp(-((ROW - row) ** 2 + (COLUMN - column) ** 2) / 0.42)).astype(np.float32)
    return sky


STARS = _night_stars()


@dataclass(frozen=True)
class Clip:
    """frames [f h w 3] uint8; boxes [f 2 4] float32, x0 y0 x1 y1 in units of a second object, behind, and of
    the first, without the tip of a kite's tail (empty where there is none); spec_index [f], which of `specs`
    is in force; settled [f], True where no transition is under way."""

    frames: NDArray[np.uint8]
    boxes: Array
    spec_index: NDArray[np.int64]
    settled: NDArray[np.bool_]
    specs: tuple[Spec, ...]


@dataclass(frozen=True)
class Story:
    """One spec, or two with a transition of `blend_frames` that begins at `switch_frame`."""

    specs: tuple[Spec, ...]
    switch_frame: int
    blend_frames: int

    def spec_index(self, frame: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which of the specs is in force at each frame."""
        return np.minimum(frame >= self.switch_frame, len(self.specs) - 1).astype(np.int64)

    def settled(self, frame: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether no transition is under way at each frame."""
        blending = (frame >= self.switch_frame) & (frame < self.switch_frame + self.blend_frames)
        return ~blending | (len(self.specs) == 1)


def draw_spec(rng: np.random.Generator) -> Spec:
    """A random spec; 43 % have clear weather, 60 % a camera at rest, 15 % no object, a quarter of the others
    two."""
    spec: Spec = {name: int(rng.integers(len(values))) for name, values in VALUES.items()}
    spec["time"] = int(rng.choice(5, p=[0.21, 0.21, 0.21, 0.21, 0.16]))
    spec["weather"] = int(rng.choice(4, p=[0.43, 0.19, 0.19, 0.19]))
    spec["count"] = int(rng.choice(2, p=[0.75, 0.25]))
    spec["camera"] = int(rng.choice(3, p=[0.6, 0.2, 0.2]))
    return _without_object(spec) if rng.random() < 0.15 else spec


def change_spec(spec: Spec, rng: np.random.Generator) -> Spec:
    """The spec with one attribute changed, or a few, or drawn anew."""
    fresh = draw_spec(rng)
    names = list(VALUES)
    count = rng.choice([1, 2, 3, len(names)], p=[0.25, 0.25, 0.2, 0.3])
    changed = dict(spec)
    for name in rng.choice(names, count, replace=False):
        changed[name] = fresh[name]
    if changed["shape"] is not None and changed["color"] is None:  # an object comes out of nowhere: whole
        for name in ("count", "color", "motion"):
            changed[name] = int(rng.integers(len(VALUES[name])))
    return _without_object(changed) if changed["shape"] is None else changed


def _without_object(spec: Spec) -> Spec:
    return spec | dict.fromkeys(("count", "shape", "color", "motion"))


def draw_story(rng: np.random.Generator, chunks: int, switch_share: float) -> Story:
    """What happens in a random clip of `chunks` chunks; `switch_share` of them change their spec at a chunk
    border."""
    first = draw_spec(rng)
    if rng.random() >= switch_share:
        return Story((first,), 0, 1)
    start = CHUNK_FRAMES * int(rng.integers(1, chunks - 1))
    return Story((first, change_spec(first, rng)), start, int(rng.choice([24, 28, 32])))


def draw_clip(rng: np.random.Generator, chunks: int, switch_share: float) -> Clip:
    """A random clip of `chunks` chunks, of a random story."""
    story = draw_story(rng, chunks, switch_share)
    return render(story.specs, story.switch_frame, story.blend_frames, chunks * CHUNK_FRAMES, rng)


def render(
    specs: tuple[Spec, ...], switch_frame: int, blend_frames: int, frames: int, rng: np.random.Generator
) -> Clip:
    """One spec, or two with a transition of `blend_frames` that begins at `switch_frame`."""
    story = Story(specs, switch_frame, blend_frames)
    frame = np.arange(frames)
    progress = np.zeros(frames, np.float32)
    if len(specs) == 2:
        progress = _smoothstep(0, 1, ((frame - switch_frame) / blend_frames).astype(np.float32))

    def share(name: str, value: int) -> Array:
        """How far this value holds at each frame, in 0..1."""
        ends = [float(spec[name] == value) for spec in specs]
        return (ends[0] + (ends[-1] - ends[0]) * progress).astype(np.float32)

    seconds = frame.astype(np.float32) / np.float32(FPS)
    times = _times(specs, switch_frame, progress, seconds, rng)
    rain, snow, fog = (share("weather", value) for value in (RAIN, SNOW, FOG))
    overcast = (rain * np.float32(0.6) + snow * np.float32(0.4) + fog * np.float32(0.5))[:, None]
    light = (times @ LIGHT) * (1 - np.float32(0.25) * overcast)
    zenith, horizon = times @ SKY_ZENITH, times @ SKY_HORIZON
    zenith = zenith * (1 - overcast) + _grey(zenith) * overcast
    horizon = horizon * (1 - overcast) + _grey(horizon) * np.float32(0.92) * overcast
    pans = [PANS[camera if (camera := spec["camera"]) is not None else 0] for spec in specs]
    start = rng.uniform(0, WIDTH) if pans[0] else 0.0
    pan = pans[0] + (pans[-1] - pans[0]) * progress
    scroll = (start + np.cumsum(pan) / FPS).astype(np.float32)

    picture = _sky(
        zenith, horizon, (times @ SUN_ROW)[:, 0], times @ SUN_COLOR, times[:, NIGHT], overcast[:, 0]
    )
    picture = _clouds(picture, light, seconds, scroll, rng)
    scenes = [share("scene", i) for i in range(len(VALUES["scene"]))]
    picture = _land(picture, scenes, light, horizon, times, scroll, seconds)
    picture = _fog(picture, fog, light, horizon, seconds)
    picture, boxes = _objects(picture, specs, progress, light, seconds, share("motion", BOUNCING), rng)
    picture = over(picture, _image(fog) * np.float32(0.15), _image_rgb(_fog_color(light, horizon)))
    picture = _weather(picture, frame.astype(np.float32), rain, snow, light)
    assert picture.dtype == np.float32, picture.dtype  # one stray float64 makes all of this half as fast
    pixels = (np.clip(picture, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)
    return Clip(pixels, boxes, story.spec_index(frame), story.settled(frame), specs)


def _times(
    specs: tuple[Spec, ...], switch_frame: int, progress: Array, seconds: Array, rng: np.random.Generator
) -> Array:
    """How far it is day, sunset, night and dawn at each frame [f 4]. Where time passes it goes on from what
    it was, at a steady rate."""
    first, last = specs[0]["time"], specs[-1]["time"]
    hour = seconds * np.float32(TIMES / ROUND_SECONDS)
    if first == PASSING:
        hour = hour + np.float32(rng.uniform(0, TIMES))
    else:
        hour = hour - hour[min(switch_frame, len(hour) - 1)] + np.float32(first or 0)
    clock = np.zeros((len(seconds), TIMES), np.float32)
    for i, part in ((0, 1 - hour % 1), (1, hour % 1)):
        clock[np.arange(len(hour)), (np.floor(hour).astype(int) + i) % TIMES] = part
    still = np.eye(TIMES, dtype=np.float32)
    ends = [clock if value == PASSING else still[[value or 0]] for value in (first, last)]
    blended: Array = (ends[0] + (ends[1] - ends[0]) * progress[:, None]).astype(np.float32)
    return blended


def _smoothstep(low: float, high: float, x: Array) -> Array:
    u: Array = np.clip((x - np.float32(low)) / np.float32(high - low), 0, 1)
    return u * u * (3 - 2 * u)


def _grey(color: Array) -> Array:
    luma: Array = color.mean(-1, keepdims=True)
    return luma * np.array((0.95, 1.0, 1.06), np.float32)


def _image(values: Array) -> Array:
    """[f] -> [f 1 1], or [1 1 1] where nothing changes in time, so that the rest is drawn once."""
    return (values[:1] if np.all(values == values[0]) else values)[:, None, None]


def _image_rgb(colors: Array) -> Array:
    return (colors[:1] if np.all(colors == colors[0]) else colors)[:, None, None]


def _sky(
    zenith: Array, horizon: Array, sun_row: Array, sun_color: Array, night: Array, overcast: Array
) -> Array:
    down = (np.clip(ROW / 44, 0, 1) ** np.float32(1.2))[None, :, :, None]
    picture = _image_rgb(zenith) * (1 - down) + _image_rgb(horizon) * down
    clearness = np.clip(1 - overcast, np.float32(0.1), 1)
    picture = picture + (_image(night * clearness) * STARS)[..., None]
    row, color = _image(sun_row), _image_rgb(sun_color)
    distance = np.sqrt((COLUMN - SUN_COLUMN) ** 2 + (ROW - row) ** 2)
    glow = np.exp(-distance * distance / np.float32(180)) * _image(
        (np.float32(0.36) - np.float32(0.2) * night) * clearness
    )
    picture = picture + glow[..., None] * color
    shade = np.sqrt((COLUMN - SUN_COLUMN - 3) ** 2 + (ROW - row + np.float32(1.5)) ** 2)
    crescent = coverage(shade - np.float32(5.6)) * _image(night)
    disc = coverage(distance - np.float32(6.2)) * _image(clearness) * (1 - crescent * np.float32(0.93))
    return over(picture, disc, color)


def _clouds(picture: Array, light: Array, seconds: Array, scroll: Array, rng: np.random.Generator) -> Array:
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
    alpha = _smoothstep(0.28, 0.9, density) * np.float32(0.85)
    color = np.clip(_image_rgb(light) * np.float32(0.95) + np.float32(0.05), 0, 1)
    below = picture if len(picture) == len(alpha) else np.repeat(picture, len(alpha), 0)
    below[:, rows] = over(below[:, rows], alpha, color)
    return below


def _land(
    sky: Array, shares: list[Array], light: Array, horizon: Array, times: Array, scroll: Array, seconds: Array
) -> Array:
    """Sea, hills, desert, city, mountains or forest before the sky, each by its share."""
    moved = scroll[:1] if np.all(scroll == scroll[0]) else scroll
    near, far = COLUMN[0] + moved[:, None], COLUMN[0] + moved[:, None] / 2
    lit, haze = _image_rgb(light), _image_rgb(horizon)
    rows = ROW[None]
    flow = (2 * np.pi * seconds / 8).astype(np.float32)[:, None]

    def layer(below: Array, height: Array, color: Array) -> Array:
        """Ground of this height above the picture's foot [f w]."""
        top = np.float32(HEIGHT) - height
        return over(below, coverage(top[:, None, :] - rows), color)

    def rgb(red: float, green: float, blue: float) -> Array:
        return np.array((red, green, blue), np.float32)

    def ridge(u: Array) -> Array:
        height: Array = np.abs(np.mod(u, 1) * 2 - 1)
        return height

    def sea(below: Array) -> Array:
        for x, level, swell, waves, cycles, color in (
            (far, 22.0, 0.8, 4, 3, rgb(0.18, 0.46, 0.72)),
            (near, 15.5, 1.3, 3, 2, rgb(0.12, 0.36, 0.62)),
            (near, 8.0, 1.8, 2, 1, rgb(0.07, 0.26, 0.50)),
        ):
            height = np.float32(level) + np.float32(swell) * np.sin(TAU * waves * x + cycles * flow)
            below = layer(below, height, color * lit * np.float32(0.85) + haze * np.float32(0.2))
            foam = np.exp(
                -(((rows - (HEIGHT - height)[:, None, :] - np.float32(0.6)) / np.float32(0.8)) ** 2)
            )
            below = below + (foam * np.float32(0.22))[..., None] * lit
        return below

    def hills(below: Array) -> Array:
        distant = rgb(0.32, 0.56, 0.44) * lit * np.float32(0.9) + haze * np.float32(0.12)
        below = layer(below, 22 + 5 * np.sin(TAU * 2 * far + 1), distant)
        below = layer(below, 12 + 4 * np.sin(TAU * 2 * near + 3), rgb(0.22, 0.58, 0.20) * lit)
        return layer(below, 5 + np.float32(1.8) * np.sin(TAU * 3 * near), rgb(0.14, 0.43, 0.13) * lit)

    def desert(below: Array) -> Array:
        distant = rgb(0.86, 0.62, 0.36) * lit * np.float32(0.92) + haze * np.float32(0.08)
        below = layer(below, 16 + 7 * ridge(far / 48 + np.float32(0.2)), distant)
        return layer(below, 8 + 6 * ridge(near / 96), rgb(0.95, 0.75, 0.45) * lit)

    def city(below: Array) -> Array:
        height = SKYLINE[np.mod(np.floor(near), WIDTH).astype(int)]
        wall = rgb(0.44, 0.46, 0.54) * lit + haze * np.float32(0.08)
        column = np.abs(np.mod(near, 6) - 3)[:, None, :] - 1
        row = np.abs(np.mod(rows, 6) - np.float32(3.5)) - 1
        glow = np.float32(0.12) + np.float32(0.75) * (times[:, NIGHT] + np.float32(0.5) * times[:, SUNSET])
        glow = (_image(glow) * coverage(column) * coverage(row))[..., None]
        below = layer(below, 4 + height, wall * (1 - glow) + glow * rgb(1.0, 0.85, 0.45))
        return layer(below, np.full_like(near, 5), rgb(0.22, 0.22, 0.25) * lit)

    def mountains(below: Array) -> Array:
        for x, level, rise, period, color in (
            (far, 17.0, 18.0, 48, rgb(0.42, 0.46, 0.60) * lit * np.float32(0.9) + haze * np.float32(0.1)),
            (near, 9.0, 15.0, 32, rgb(0.33, 0.35, 0.44) * lit),
        ):
            height = level + rise * ridge(x / period)
            below = layer(below, height, color)
            # Snow above a line that the slopes make jagged.
            line = level + rise * np.float32(0.55) + np.float32(1.5) * ridge(x / 6)
            snow = coverage(rows - (HEIGHT - line)[:, None, :]) * coverage(
                (HEIGHT - height)[:, None, :] - rows
            )
            below = over(below, snow * np.float32(0.9), rgb(0.95, 0.97, 1.0) * lit)
        return layer(below, 5 + np.float32(1.2) * np.sin(TAU * 2 * near), rgb(0.20, 0.33, 0.22) * lit)

    def forest(below: Array) -> Array:
        distant = rgb(0.20, 0.38, 0.30) * lit * np.float32(0.85) + haze * np.float32(0.15)
        below = layer(below, 20 + 5 * ridge(far / 8), distant)
        tree = np.mod(np.floor(near / 12), len(FIRS)).astype(int)
        slope = np.abs(np.mod(near, 12) - 6)
        # Three skirts of branches, each wider than the one above.
        height = np.maximum.reduce(
            [FIRS[tree] - drop - steep * slope for drop, steep in ((0, 4.5), (5, 3.2), (10, 2.2))]
        )
        below = layer(below, height.astype(np.float32), rgb(0.08, 0.30, 0.16) * lit)
        return layer(below, 4 + np.float32(0.8) * np.sin(TAU * 4 * near), rgb(0.16, 0.22, 0.10) * lit)

    lands: tuple[Callable[[Array], Array], ...] = (sea, hills, desert, city, mountains, forest)
    # No land reaches above 36 units: the sky there is all there is.
    foot = slice((HEIGHT - 36) * UNIT_PX, None)
    rows, below = rows[:, foot], sky[:, foot]
    present = [(share, land) for share, land in zip(shares, lands, strict=True) if share.max() > 0]
    if len(present) == 1:
        sky[:, foot] = present[0][1](below)
    else:
        sky[:, foot] = sum(share[:, None, None, None] * land(below) for share, land in present)
    return sky


def _fog_color(light: Array, horizon: Array) -> Array:
    color: Array = np.float32(0.5) * _grey(light) * np.float32(0.85) + np.float32(0.5) * horizon
    return color


def _fog(picture: Array, fog: Array, light: Array, horizon: Array, seconds: Array) -> Array:
    """Banks that thicken towards the ground and drift, over all that is far."""
    if fog.max() == 0:
        return picture
    flow = (2 * np.pi * seconds / 8).astype(np.float32)[:, None, None]
    banks = np.sin(2 * TAU * COLUMN + flow) * np.exp(-(((ROW - 44) / 9) ** 2))
    thickness = np.float32(0.3) + np.float32(0.38) * _smoothstep(14, 46, ROW) + np.float32(0.13) * banks
    return over(picture, thickness * _image(fog), _image_rgb(_fog_color(light, horizon)))


def _objects(
    picture: Array,
    specs: tuple[Spec, ...],
    progress: Array,
    light: Array,
    seconds: Array,
    bounce: Array,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """What flies or sails composited; and the boxes about it. It swaps at half way of a transition."""
    start, phase, size = rng.uniform(24, 72), rng.uniform(0, 2 * np.pi), np.float32(rng.uniform(11.5, 13.0))
    side = 1 if start < WIDTH / 2 else -1
    if specs[0]["motion"] in (LEFT, RIGHT):
        start = rng.uniform(-10, 106)
    first, last = specs[0], specs[-1]
    x = _path(specs, progress, start, side)
    lift = (bounce * 12 * np.sin(2 * np.pi * seconds / 4 + phase)).astype(np.float32)
    beat = np.sin(2 * np.pi * seconds * FPS / CHUNK_FRAMES).astype(np.float32)
    swap = np.ones_like(progress)
    if (first["shape"], first["color"]) != (last["shape"], last["color"]):
        swap = np.clip(np.abs(2 * progress - 1) * np.float32(1.1), np.float32(0.02), 1)
    pairs = [float(spec["count"] == TWO) for spec in specs]
    second = (pairs[0] + (pairs[-1] - pairs[0]) * progress).astype(np.float32) * SMALLER
    boxes = np.zeros((len(seconds), 2, 4), np.float32)
    for spec, swapped in ((first, progress < 0.5), (last, progress >= 0.5)):
        shape, color = spec["shape"], spec["color"]
        if shape is None or color is None:
            continue
        lights: Array = OBJECT_RGB[color] * np.clip(light * np.float32(0.5) + np.float32(0.5), 0, 1)
        rest = OBJECT_ROW[shape]
        behind = _wrapped(x + side * np.float32(APART)), rest - HIGHER[shape] - lift, size * swap * second
        for place, (across, down, radius) in enumerate((behind, (x, rest + lift, size * swap))):
            on = swapped & (radius > 0)
            if not on.any():
                continue
            picture[on] = _composited(
                picture[on], shape, across[on], down[on], radius[on], lights[on], beat[on]
            )
            corners = (
                across - 1.35 * radius,
                down - 1.5 * radius,
                across + 1.35 * radius,
                down + 1.6 * radius,
            )
            boxes[on, place] = np.stack(corners, 1)[on]
    return picture, boxes


def _composited(
    below: Array, shape: int, x: Array, y: Array, radius: Array, color: Array, beat: Array
) -> Array:
    """One object in pictures [f h w 3], all else [f] or [f 3]; only rows that it may touch are drawn."""
    reach = 2.1 * radius
    top = max(0, int((float((y - reach).min()) + 0.5) * UNIT_PX))
    foot = slice(top, max(top + 1, int((float((y + reach).max()) + 0.5) * UNIT_PX) + 1))
    r, across = radius[:, None, None], COLUMN[foot] - x[:, None, None]
    down = ROW[foot] - y[:, None, None]
    alpha: Array = np.clip(r / 3, 0, 1)
    below[:, foot] = OBJECTS[shape](
        below[:, foot], across, down, r, color[:, None, None], alpha, beat[:, None, None]
    )
    return below


def _wrapped(x: Array) -> Array:
    """Round again only when fully off screen."""
    around: Array = (x + 15) % np.float32(WIDTH + 30) - 15
    return around


def _path(specs: tuple[Spec, ...], progress: Array, start: float, side: int) -> Array:
    """x by frame. Velocity bends smoothly; the object never comes to rest near an edge, and one of two only
    where the other, ``side`` of it, is seen too."""
    x, velocity, path = np.float32(start), None, np.zeros(len(progress), np.float32)
    pair_rests = (12.0, 46.0) if side > 0 else (50.0, 84.0)
    for i, done in enumerate(progress):
        spec = specs[-1 if done > 0 else 0]
        motion = spec["motion"]
        low, high = pair_rests if spec["count"] == TWO else (20.0, 76.0)
        wanted = {LEFT: -SPEED, RIGHT: SPEED}.get(-1 if motion is None else motion, 0.0)
        if wanted == 0 and not low < x < high:
            wanted = float(np.sign(velocity)) * SPEED if velocity else (SPEED if x < WIDTH / 2 else -SPEED)
        velocity = wanted if velocity is None else velocity + 0.12 * (wanted - velocity)
        x = (x + velocity / FPS + 15) % (WIDTH + 30) - 15
        path[i] = x
    return path


def _weather(picture: Array, frame: Array, rain: Array, snow: Array, light: Array) -> Array:
    """Sparse rain and snow that fall by whole periods."""
    time = frame[:, None, None]
    if rain.max() > 0:
        slant = COLUMN + ROW * np.float32(0.25)
        fall = np.mod(ROW[None] - 4 * time + np.floor(slant / 12) * 7, 16)
        streak = np.exp(-(((np.mod(slant, 12) - 6) / np.float32(0.85)) ** 2)) * _smoothstep(0, 2, fall)
        streak = streak * (1 - _smoothstep(7, 9, fall))
        picture = over(
            picture, streak * _image(rain) * np.float32(0.45), np.array((0.85, 0.9, 1.0), np.float32)
        )
    if snow.max() > 0:
        sway = COLUMN + np.float32(1.5) * np.sin(2 * np.float32(np.pi) * time / 32)
        across = np.mod(sway, 13) - np.float32(6.5)
        fall = np.mod(ROW[None] - time + np.floor(sway / 13) * 6, 16) - 8
        flake = np.exp(-(across * across + fall * fall) / np.float32(2.0)) * _image(snow) * np.float32(0.9)
        picture = over(picture, flake, np.clip(_image_rgb(light) * np.float32(0.5) + np.float32(0.5), 0, 1))
    return picture if len(picture) == len(frame) else np.repeat(picture, len(frame), 0)
