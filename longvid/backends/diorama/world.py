"""The small procedural world that diorama is trained on: one object over a landscape, with light and weather.

64 x 96 pixels at 12 frames a second. Everything that repeats does so in few phases, since what a codec must
tell apart it must spend capacity on: scenery repeats every 96 px, rain every 4 frames (one latent), snow
every 32 (two chunks), a bounce every 48. A clip may hold two specs: sky, light, land and weather dissolve
from one to the other, velocity bends, and an object of another kind or colour shrinks, swaps and grows. The
new spec is in force from the frame where the transition begins, so a prompt means "go there now".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longvid.backends.diorama.captions import VALUES, Spec
from longvid.backends.diorama.objects import OBJECTS, Array, coverage, over

HEIGHT_PX, WIDTH_PX, FPS = 64, 96, 12
CHUNK_FRAMES = 16
SPEED_PX = 14.0
"""Pixels a second of a drifting object."""

TAU = np.float32(2 * np.pi / WIDTH_PX)
ROW, COLUMN = np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX].astype(np.float32)


def _table(*rows: tuple[float, ...]) -> Array:
    return np.array(rows, np.float32)


# By time of day: day, sunset, night, dawn.
SKY_ZENITH = _table((0.20, 0.48, 0.92), (0.26, 0.17, 0.47), (0.01, 0.02, 0.11), (0.47, 0.56, 0.88))
SKY_HORIZON = _table((0.75, 0.90, 0.99), (1.00, 0.55, 0.24), (0.09, 0.12, 0.32), (1.00, 0.78, 0.76))
LIGHT = _table((1.0, 1.0, 1.0), (0.96, 0.72, 0.58), (0.36, 0.41, 0.62), (0.97, 0.87, 0.91))
SUN_COLOR = _table((1.0, 0.96, 0.68), (1.0, 0.80, 0.38), (0.94, 0.95, 0.90), (1.0, 0.92, 0.80))
SUN_ROW = np.array([11.0, 27.0, 11.0, 21.0], np.float32)
SUN_COLUMN = np.float32(75.0)
OBJECT_RGB = _table(
    (0.90, 0.10, 0.10),
    (0.99, 0.86, 0.08),
    (0.10, 0.70, 0.22),
    (0.10, 0.28, 0.95),
    (0.60, 0.16, 0.80),
    (0.98, 0.98, 0.98),
)
OBJECT_ROW = np.array([29.0, 41.0, 31.0, 28.0], np.float32)
"""Rest height of balloon, boat, star, kite."""
SKYLINE_PX = np.repeat(np.array([18, 25, 14, 22, 12, 27, 16, 20], np.float32), 12)


def _night_stars() -> Array:
    rng = np.random.default_rng(7)
    sky = np.zeros((HEIGHT_PX, WIDTH_PX), np.float32)
    for _ in range(24):
        row, column, glow = rng.uniform(1, 36), rng.uniform(1, WIDTH_PX - 1), rng.uniform(0.5, 1.0)
        sky += (glow * np.exp(-((ROW - row) ** 2 + (COLUMN - column) ** 2) / 0.55)).astype(np.float32)
    return sky


STARS = _night_stars()


@dataclass(frozen=True)
class Clip:
    """frames [f h w 3] uint8; box [f 4] float32, the object's x0 y0 x1 y1 in pixels without the tip of a
    kite's tail (empty where there is no object); spec_index [f], which of `specs` is in force; settled [f],
    True where no transition is under way."""

    frames: NDArray[np.uint8]
    box: Array
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
    """A random spec; half have clear weather, 70 % a camera at rest, 15 % no object."""
    spec: Spec = {name: int(rng.integers(len(values))) for name, values in VALUES.items()}
    spec["weather"] = int(rng.choice(3, p=[0.5, 0.25, 0.25]))
    spec["camera"] = int(rng.choice(2, p=[0.7, 0.3]))
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
        for name in ("color", "motion"):
            changed[name] = int(rng.integers(len(VALUES[name])))
    return _without_object(changed) if changed["shape"] is None else changed


def _without_object(spec: Spec) -> Spec:
    return spec | {"shape": None, "color": None, "motion": None}


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

    def blend(name: str, table: Array) -> Array:
        """The table's row for this attribute's value, at each frame."""
        ends = [table[value if (value := spec[name]) is not None else 0] for spec in specs]
        mixed = ends[0] + (ends[-1] - ends[0]) * progress.reshape(-1, *[1] * ends[0].ndim)
        return np.asarray(mixed, np.float32)

    seconds = frame.astype(np.float32) / np.float32(FPS)
    rain, snow, night = share("weather", 1), share("weather", 2), share("time", 2)
    overcast = (rain * np.float32(0.6) + snow * np.float32(0.4))[:, None]
    light = blend("time", LIGHT) * (1 - np.float32(0.25) * overcast)
    zenith, horizon = blend("time", SKY_ZENITH), blend("time", SKY_HORIZON)
    zenith = zenith * (1 - overcast) + _grey(zenith) * overcast
    horizon = horizon * (1 - overcast) + _grey(horizon) * np.float32(0.92) * overcast
    start_px = rng.uniform(0, WIDTH_PX) if specs[0]["camera"] else 0.0
    scroll = (start_px + np.cumsum(share("camera", 1)) * 9.0 / FPS).astype(np.float32)

    picture = _sky(zenith, horizon, blend("time", SUN_ROW), blend("time", SUN_COLOR), night, overcast[:, 0])
    picture = _clouds(picture, light, seconds, scroll, rng)
    picture = _land(
        picture,
        [share("scene", i) for i in range(4)],
        light,
        horizon,
        night,
        share("time", 1),
        scroll,
        seconds,
    )
    picture, box = _object(picture, specs, progress, light, seconds, share("motion", 2), rng)
    picture = _weather(picture, frame.astype(np.float32), rain, snow, light)
    assert picture.dtype == np.float32, picture.dtype  # one stray float64 makes all of this half as fast
    pixels = (np.clip(picture, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)
    return Clip(pixels, box, story.spec_index(frame), story.settled(frame), specs)


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
    glow = np.exp(-distance * distance / np.float32(200)) * _image(
        (np.float32(0.36) - np.float32(0.2) * night) * clearness
    )
    picture = picture + glow[..., None] * color
    shade = np.sqrt((COLUMN - SUN_COLUMN - 3) ** 2 + (ROW - row + np.float32(1.5)) ** 2)
    crescent = coverage(shade - np.float32(5.6)) * _image(night)
    disc = coverage(distance - np.float32(6.2)) * _image(clearness) * (1 - crescent * np.float32(0.93))
    return over(picture, disc, color)


def _clouds(picture: Array, light: Array, seconds: Array, scroll: Array, rng: np.random.Generator) -> Array:
    density = np.zeros((1, 1, 1), np.float32)
    first = rng.uniform(0, 120)
    for gap, row in ((0.0, 9.0), (62.0, 17.0)):
        center = (
            np.mod(first + gap + 1.5 * seconds - scroll * 0.3, 124).astype(np.float32)[:, None, None] - 14
        )
        dx, dy = COLUMN - center, ROW - np.float32(row)
        density = density + np.exp(-((dx / 11) ** 2) - (dy / np.float32(3.6)) ** 2)
        density = density + np.float32(0.8) * np.exp(
            -(((dx - 7) / 6) ** 2) - ((dy + np.float32(2.4)) / np.float32(3.4)) ** 2
        )
    alpha = _smoothstep(0.28, 0.9, density) * np.float32(0.85)
    return over(picture, alpha, np.clip(_image_rgb(light) * np.float32(0.95) + np.float32(0.05), 0, 1))


def _land(
    sky: Array,
    shares: list[Array],
    light: Array,
    horizon: Array,
    night: Array,
    sunset: Array,
    scroll: Array,
    seconds: Array,
) -> Array:
    """Sea, hills, desert or city before the sky, each by its share."""
    x = COLUMN[0][None] + (scroll[:1] if scroll[0] == scroll[-1] else scroll)[:, None]
    lit, haze = _image_rgb(light), _image_rgb(horizon)

    def layer(below: Array, height: Array, color: Array) -> Array:
        """Ground of this height in px above the picture's foot, [f w]."""
        top = np.float32(HEIGHT_PX) - height
        return over(below, np.clip(ROW[None] - top[:, None, :] + np.float32(0.5), 0, 1), color)

    def rgb(red: float, green: float, blue: float) -> Array:
        return np.array((red, green, blue), np.float32)

    def sea(below: Array) -> Array:
        for level, swell, waves, cycles, color in (
            (22.0, 0.8, 4, 3, rgb(0.18, 0.46, 0.72)),
            (15.5, 1.3, 3, 2, rgb(0.12, 0.36, 0.62)),
            (8.0, 1.8, 2, 1, rgb(0.07, 0.26, 0.50)),
        ):
            phase = (2 * np.pi * cycles * seconds / 8).astype(np.float32)[:, None]
            height = np.float32(level) + np.float32(swell) * np.sin(TAU * waves * x + phase)
            below = layer(below, height, color * lit * np.float32(0.85) + haze * np.float32(0.2))
            foam = np.exp(
                -(((ROW[None] - (HEIGHT_PX - height)[:, None, :] - np.float32(0.6)) / np.float32(0.8)) ** 2)
            )
            below = below + (foam * np.float32(0.2))[..., None] * lit
        return below

    def hills(below: Array) -> Array:
        far = rgb(0.32, 0.56, 0.44) * lit * np.float32(0.9) + haze * np.float32(0.12)
        below = layer(below, 22 + 5 * np.sin(TAU * 2 * x + 1), far)
        below = layer(below, 12 + 4 * np.sin(TAU * 2 * x + 3), rgb(0.22, 0.58, 0.20) * lit)
        return layer(below, 5 + np.float32(1.8) * np.sin(TAU * 3 * x), rgb(0.14, 0.43, 0.13) * lit)

    def desert(below: Array) -> Array:
        def ridge(u: Array) -> Array:
            height: Array = np.abs(np.mod(u, 1) * 2 - 1)
            return height

        far = rgb(0.86, 0.62, 0.36) * lit * np.float32(0.92) + haze * np.float32(0.08)
        below = layer(below, 16 + 7 * ridge(x / 48 + np.float32(0.2)), far)
        return layer(below, 8 + 6 * ridge(x / 96), rgb(0.95, 0.75, 0.45) * lit)

    def city(below: Array) -> Array:
        height = SKYLINE_PX[np.mod(np.floor(x), WIDTH_PX).astype(int)]
        wall = rgb(0.44, 0.46, 0.54) * lit + haze * np.float32(0.08)
        column, row = np.mod(x, 6)[:, None, :], np.mod(ROW, 6)[None]
        window = (column > 2) & (column < 5) & (row > 2) & (row < 5)
        glow = (_image(np.float32(0.12) + np.float32(0.75) * (night + np.float32(0.5) * sunset)) * window)[
            ..., None
        ]
        below = layer(below, 4 + height, wall * (1 - glow) + glow * rgb(1.0, 0.85, 0.45))
        return layer(below, np.full_like(x, 5), rgb(0.22, 0.22, 0.25) * lit)

    lands: tuple[Callable[[Array], Array], ...] = (sea, hills, desert, city)
    present = [(share, land) for share, land in zip(shares, lands, strict=True) if share.max() > 0]
    if len(present) == 1:
        return present[0][1](sky)
    old, new = (share[:, None, None, None] * land(sky) for share, land in present)
    return old + new


def _object(
    picture: Array,
    specs: tuple[Spec, ...],
    progress: Array,
    light: Array,
    seconds: Array,
    bounce: Array,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """The object composited; and its box. It swaps at half way of a transition."""
    frames = len(seconds)
    start_px, phase, size_px = rng.uniform(24, 72), rng.uniform(0, 2 * np.pi), rng.uniform(11.5, 13.0)
    if specs[0]["motion"] in (0, 1):
        start_px = rng.uniform(-10, 106)
    x = _path([specs[0]["motion"], specs[-1]["motion"]], progress, start_px)
    lift = 12 * np.sin(2 * np.pi * seconds / 4 + phase)
    first, last = specs[0], specs[-1]
    radius = np.full(frames, size_px, np.float32)
    if (first["shape"], first["color"]) != (last["shape"], last["color"]):
        radius = radius * np.clip(np.abs(2 * progress - 1) * np.float32(1.1), np.float32(0.02), 1)
    box = np.zeros((frames, 4), np.float32)
    for spec, on in ((first, progress < 0.5), (last, progress >= 0.5)):
        if spec["shape"] is None or spec["color"] is None or not on.any():
            continue
        y = (OBJECT_ROW[spec["shape"]] + bounce * lift).astype(np.float32)
        r = radius[on][:, None, None]
        dx, dy = COLUMN - x[on][:, None, None], ROW - y[on][:, None, None]
        color = OBJECT_RGB[spec["color"]] * np.clip(light[on] * np.float32(0.5) + np.float32(0.5), 0, 1)
        below = picture[on] if len(picture) == frames else np.repeat(picture, int(on.sum()), 0)
        drawn = OBJECTS[spec["shape"]](below, dx, dy, r, color[:, None, None], np.clip(r / 3, 0, 1))
        if len(picture) != frames:
            picture = np.repeat(picture, frames, 0)
        picture[on] = drawn
        size = radius[on]
        box[on] = np.stack(
            [x[on] - 1.35 * size, y[on] - 1.5 * size, x[on] + 1.35 * size, y[on] + 1.6 * size], 1
        )
    return picture, box


def _path(motions: list[int | None], progress: Array, start_px: float) -> Array:
    """x by frame. Velocity bends smoothly; the object wraps only when fully off screen and never comes to
    rest near an edge."""
    x, velocity, path = start_px, None, np.zeros(len(progress), np.float32)
    for i, done in enumerate(progress):
        motion = motions[1] if done > 0 else motions[0]
        wanted = {0: -SPEED_PX, 1: SPEED_PX}.get(-1 if motion is None else motion, 0.0)
        if wanted == 0 and not 20 < x < 76:
            wanted = float(np.sign(velocity)) * SPEED_PX if velocity else (SPEED_PX if x < 48 else -SPEED_PX)
        velocity = wanted if velocity is None else velocity + 0.12 * (wanted - velocity)
        x = (x + velocity / FPS + 15) % (WIDTH_PX + 30) - 15
        path[i] = x
    return path


def _weather(picture: Array, frame: Array, rain: Array, snow: Array, light: Array) -> Array:
    """Sparse rain and snow that fall by whole periods."""
    time = frame[:, None, None]
    if rain.max() > 0:
        slant = COLUMN + ROW * np.float32(0.25)
        fall = np.mod(ROW[None] - 4 * time + np.floor(slant / 12) * 7, 16)
        streak = np.exp(-(((np.mod(slant, 12) - 6) / np.float32(0.9)) ** 2)) * _smoothstep(0, 2, fall)
        streak = streak * (1 - _smoothstep(7, 9, fall))
        picture = over(
            picture, streak * _image(rain) * np.float32(0.45), np.array((0.85, 0.9, 1.0), np.float32)
        )
    if snow.max() > 0:
        sway = COLUMN + np.float32(1.5) * np.sin(2 * np.float32(np.pi) * time / 32)
        across = np.mod(sway, 13) - np.float32(6.5)
        fall = np.mod(ROW[None] - time + np.floor(sway / 13) * 6, 16) - 8
        flake = np.exp(-(across * across + fall * fall) / np.float32(2.2)) * _image(snow) * np.float32(0.9)
        picture = over(picture, flake, np.clip(_image_rgb(light) * np.float32(0.5) + np.float32(0.5), 0, 1))
    return picture if len(picture) == len(frame) else np.repeat(picture, len(frame), 0)
