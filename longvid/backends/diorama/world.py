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

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longvid.backends.diorama.canvas import (
    COLUMN,
    ROW,
    UNIT_PX,
    WIDTH,
    Array,
    grey,
    image,
    over,
    smoothstep,
)
from longvid.backends.diorama.captions import TWO, VALUES, Spec
from longvid.backends.diorama.land import draw_land
from longvid.backends.diorama.objects import OBJECTS
from longvid.backends.diorama.sky import (
    LIGHT,
    NIGHT,
    SKY_HORIZON,
    SKY_ZENITH,
    SUN_COLOR,
    SUN_ROW,
    TIMES,
    draw_clouds,
    draw_fog,
    draw_sky,
    draw_weather,
    fog_color,
)

FPS = 12
CHUNK_FRAMES = 16
SPEED = 14.0
"""Units a second of a drifting object."""
PAN = 9.0
"""Units a second of a panning camera; what is far away goes half as fast."""
ROUND_SECONDS = 24
"""A day and a night where time passes."""
APART, SMALLER, HIGHER = 44.0, np.float32(0.8), np.array([5, 0, 5, 5, 7, 6], np.float32)
"""A second object from the first: units across, its size, and units up by shape (boats stay on the water)."""

PASSING = 4
RAIN, SNOW, FOG = 1, 2, 3
OBJECT_RGB = np.array(
    (
        (0.90, 0.10, 0.10),
        (0.99, 0.86, 0.08),
        (0.10, 0.70, 0.22),
        (0.10, 0.28, 0.95),
        (0.60, 0.16, 0.80),
        (0.98, 0.98, 0.98),
    ),
    np.float32,
)
OBJECT_ROW = np.array([29.0, 41.0, 31.0, 28.0, 27.0, 26.0], np.float32)
"""Rest height of balloon, boat, star, kite, bird, saucer."""
LEFT, RIGHT, BOUNCING = 0, 1, 2
PANS = np.array([0.0, PAN, -PAN], np.float32)
"""By camera: static, to the right, to the left."""


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
    switch_frame: int = 0
    blend_frames: int = 1

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
    """The spec with one attribute drawn anew, or a few, or all; one in ten comes out as it was."""
    fresh = draw_spec(rng)
    names = list(VALUES)
    count = rng.choice([1, 2, 3, len(names)], p=[0.25, 0.25, 0.2, 0.3])
    changed = dict(spec)
    for name in rng.choice(names, count, replace=False):
        changed[name] = fresh[name]
    if changed["shape"] is None:
        return _without_object(changed)
    for name in ("count", "color", "motion"):
        if changed[name] is None:  # the object comes out of nowhere: whole
            changed[name] = int(rng.integers(len(VALUES[name])))
    return changed


def _without_object(spec: Spec) -> Spec:
    return spec | dict.fromkeys(("count", "shape", "color", "motion"))


def draw_story(rng: np.random.Generator, chunks: int, switch_share: float) -> Story:
    """What happens in a random clip of `chunks` chunks, at least 3; `switch_share` of them change their spec
    at a chunk border."""
    first = draw_spec(rng)
    if rng.random() >= switch_share:
        return Story((first,))
    start = CHUNK_FRAMES * int(rng.integers(1, chunks - 1))
    return Story((first, change_spec(first, rng)), start, int(rng.choice([24, 28, 32])))


def draw_clip(rng: np.random.Generator, chunks: int, switch_share: float) -> Clip:
    """A random clip of `chunks` chunks, at least 3, of a random story."""
    return render(draw_story(rng, chunks, switch_share), chunks * CHUNK_FRAMES, rng)


def render(story: Story, frames: int, rng: np.random.Generator) -> Clip:
    """So many frames of a story; what it leaves open, such as where an object begins, comes of ``rng``."""
    specs, frame = story.specs, np.arange(frames)
    progress = np.zeros(frames, np.float32)
    if len(specs) == 2:
        progress = smoothstep(0, 1, ((frame - story.switch_frame) / story.blend_frames).astype(np.float32))

    def share(name: str, value: int) -> Array:
        """How far this value holds at each frame, in 0..1."""
        ends = [float(spec[name] == value) for spec in specs]
        return (ends[0] + (ends[-1] - ends[0]) * progress).astype(np.float32)

    seconds = frame.astype(np.float32) / np.float32(FPS)
    times = _times(story, progress, seconds, rng)
    rain, snow, fog = (share("weather", value) for value in (RAIN, SNOW, FOG))
    overcast = (rain * np.float32(0.6) + snow * np.float32(0.4) + fog * np.float32(0.5))[:, None]
    light = (times @ LIGHT) * (1 - np.float32(0.25) * overcast)
    zenith, horizon = times @ SKY_ZENITH, times @ SKY_HORIZON
    zenith = zenith * (1 - overcast) + grey(zenith) * overcast
    horizon = horizon * (1 - overcast) + grey(horizon) * np.float32(0.92) * overcast
    pans = [PANS[camera if (camera := spec["camera"]) is not None else 0] for spec in specs]
    start = rng.uniform(0, WIDTH) if pans[0] else 0.0
    pan = pans[0] + (pans[-1] - pans[0]) * progress
    scroll = (start + np.cumsum(pan) / FPS).astype(np.float32)

    picture = draw_sky(
        zenith, horizon, (times @ SUN_ROW)[:, 0], times @ SUN_COLOR, times[:, NIGHT], overcast[:, 0]
    )
    scenes = [share("scene", i) for i in range(len(VALUES["scene"]))]
    picture = draw_land(picture, scenes, light, horizon, times, scroll, seconds)
    picture = draw_clouds(picture, light, seconds, scroll, rng)  # above all land, and last: it moves
    picture = draw_fog(picture, fog, light, horizon, seconds)
    picture, boxes = _objects(picture, specs, progress, light, seconds, share("motion", BOUNCING), rng)
    picture = over(picture, image(fog) * np.float32(0.15), image(fog_color(light, horizon)))
    picture = draw_weather(picture, frame.astype(np.float32), rain, snow, light)
    assert picture.dtype == np.float32, picture.dtype  # one stray float64 makes all of this half as fast
    pixels = (np.clip(picture, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)
    return Clip(pixels, boxes, story.spec_index(frame), story.settled(frame), specs)


def _times(story: Story, progress: Array, seconds: Array, rng: np.random.Generator) -> Array:
    """How far it is day, sunset, night and dawn at each frame [f 4]. Where time passes it goes on from what
    it was, at a steady rate."""
    first, last = story.specs[0]["time"], story.specs[-1]["time"]
    hour = seconds * np.float32(TIMES / ROUND_SECONDS)
    if first == PASSING:
        hour = hour + np.float32(rng.uniform(0, TIMES))
    else:
        hour = hour - hour[min(story.switch_frame, len(hour) - 1)] + np.float32(first or 0)
    clock = np.zeros((len(seconds), TIMES), np.float32)
    for i, part in ((0, 1 - hour % 1), (1, hour % 1)):
        clock[np.arange(len(hour)), (np.floor(hour).astype(int) + i) % TIMES] = part
    still = np.eye(TIMES, dtype=np.float32)
    ends = [clock if value == PASSING else still[[value or 0]] for value in (first, last)]
    blended: Array = (ends[0] + (ends[1] - ends[0]) * progress[:, None]).astype(np.float32)
    return blended


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
    """Round again once all but off screen."""
    around: Array = (x + 15) % np.float32(WIDTH + 30) - 15
    return around


def _path(specs: tuple[Spec, ...], progress: Array, start: float, side: int) -> Array:
    """x by frame. Velocity bends smoothly; the object never comes to rest near an edge, and one of two only
    where the other, ``side`` of it, is seen too."""
    x, velocity, path = np.full((), start, np.float32), None, np.zeros(len(progress), np.float32)
    pair_rests = (12.0, 48.0) if side > 0 else (48.0, 84.0)
    for i, done in enumerate(progress):
        spec = specs[-1 if done > 0 else 0]
        motion = spec["motion"]
        low, high = pair_rests if spec["count"] == TWO else (20.0, 76.0)
        wanted = {LEFT: -SPEED, RIGHT: SPEED}.get(-1 if motion is None else motion, 0.0)
        if wanted == 0 and not low <= x <= high:
            nearer = SPEED if x < (low + high) / 2 else -SPEED
            wanted = float(np.sign(velocity)) * SPEED if velocity else nearer
        velocity = wanted if velocity is None else velocity + 0.12 * (wanted - velocity)
        x = _wrapped(x + velocity / FPS)
        path[i] = x
    return path
