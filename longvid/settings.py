"""The film's settings: a flag goes before the timeline, the timeline before the model's default."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from typing import Literal

from longvid.backends import Backend, Geometry
from longvid.document import NodePath, show
from longvid.errors import UserError
from longvid.methods import METHODS, check_steps
from longvid.timeline import Timeline
from longvid.times import round_half_up
from longvid.values import MAX_GUIDANCE, MAX_SEED, MAX_SIDE_PX, MAX_STEPS

Solver = Literal["euler", "ab2"]


@dataclass(frozen=True)
class Overrides:
    """What the command line sets; None leaves the timeline's value.

    ``seed`` replaces the film's seed (a shot's own stays), ``guidance`` that of the film and of every shot.
    ``draft`` halves the steps with the same noise. ``branch_at``: a time as in a timeline; from there
    on every chunk has the seed ``branch_seed``.
    """

    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    method: str | None = None
    solver: Solver = "euler"
    draft: bool = False
    branch_at: str | None = None
    branch_seed: int = 0


@dataclass(frozen=True)
class Settings:
    """What holds for the whole film, each value possible for the model."""

    size: tuple[int, int]
    """Width, height of the network's picture in pixels."""
    fps: Fraction
    seed: int
    steps: int
    window: int
    method: str
    solver: Solver
    scale: int


def settle(timeline: Timeline, backend: Backend, overrides: Overrides) -> Settings:
    """The film's settings. Raises UserError for what this model cannot do, with the nearest it can."""
    _check_ranges(overrides)
    try:
        backend.check_options(timeline.model_options)
    except UserError as error:
        # A backend knows no file: it says `model_options.key: what is wrong`.
        key, _, message = str(error).removeprefix("model_options").partition(": ")
        path = ("model_options", key.removeprefix(".")) if key else ("model_options",)
        raise timeline.source.error(path, message) from error
    size = _size(timeline, backend)
    steps, window = _steps(timeline, backend.geometry, overrides)
    return Settings(
        size=size,
        fps=_fps(timeline, backend),
        seed=overrides.seed if overrides.seed is not None else timeline.seed or 0,
        steps=steps,
        window=window,
        method=_method(timeline, overrides),
        solver=overrides.solver,
        scale=_scale(timeline, backend.geometry, size),
    )


def _check_ranges(overrides: Overrides) -> None:
    for flag, value, low, high in (
        ("--seed", overrides.seed, 0, MAX_SEED),
        ("--steps", overrides.steps, 1, MAX_STEPS),
        ("--guidance", overrides.guidance, 0, MAX_GUIDANCE),
    ):
        # Written so that a NaN is out of range as well.
        if value is not None and not low <= value <= high:
            raise UserError(f"{flag}: {show(value)} is out of range; {low} to {high}")
    if overrides.draft and overrides.steps is not None:
        raise UserError("--draft: chooses the steps itself; leave out --draft or --steps")


def _steps(timeline: Timeline, geometry: Geometry, overrides: Overrides) -> tuple[int, int]:
    """S and K; S a multiple of K."""
    window = timeline.window or geometry.window_units
    steps = overrides.steps or timeline.steps or geometry.steps
    try:
        check_steps(steps, window)
    except UserError as error:
        if overrides.steps:
            raise UserError(f"--steps: {error}") from error
        raise timeline.source.error(("steps",) if timeline.steps else ("window",), str(error)) from error
    if overrides.draft:
        steps = max(window, steps // 2 // window * window)
    return steps, window


def _method(timeline: Timeline, overrides: Overrides) -> str:
    method = overrides.method or timeline.method or "progressive"
    if method in METHODS:
        return method
    near = get_close_matches(method, METHODS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there is: {', '.join(METHODS)}"
    message = f"no method {show(method)}; {hint}"
    raise (
        UserError(f"--method: {message}") if overrides.method else timeline.source.error(("method",), message)
    )


def _fps(timeline: Timeline, backend: Backend) -> Fraction:
    geometry = backend.geometry
    fps = timeline.fps or geometry.fps
    if geometry.fps_min <= fps <= geometry.fps_max:
        return fps
    nearest = min(max(fps, geometry.fps_min), geometry.fps_max)
    message = f"{backend.name} does not run at {float(fps):g} frames a second; nearest: {nearest}"
    raise timeline.source.error(("fps",), message)


def _size(timeline: Timeline, backend: Backend) -> tuple[int, int]:
    """Width, height of the network's picture in pixels."""
    geometry = backend.geometry
    size = timeline.size or geometry.sizes[0]
    if size in geometry.sizes:
        return size
    stride = geometry.pixel_stride
    if geometry.any_size:
        width, height = (max(1, round_half_up(Fraction(side, stride))) * stride for side in size)
        if (width, height) == size:
            return size
        message = f"sides must be multiples of {stride} pixels; nearest: [{width}, {height}]"
    else:
        near = min(geometry.sizes, key=lambda known: abs(known[0] - size[0]) + abs(known[1] - size[1]))
        message = f"{backend.name} has no size [{size[0]}, {size[1]}]; nearest: [{near[0]}, {near[1]}]"
    raise timeline.source.error(("size",), message)


def _scale(timeline: Timeline, geometry: Geometry, size: tuple[int, int]) -> int:
    """The whole factor that the film is enlarged by: its sides are even and no longer than MAX_SIDE_PX."""
    wanted = timeline.output.scale or -(-geometry.output_width_px // size[0])
    most = MAX_SIDE_PX // max(size)
    possible = [scale for scale in range(1, most + 1) if not any(side * scale % 2 for side in size)]
    if wanted in possible:
        return wanted
    path: NodePath = ("output", "scale") if timeline.output.scale else ("size",)
    limit = f"at most {MAX_SIDE_PX}" if wanted > most else "H.264 needs even sides"
    nearest = min(possible, key=lambda scale: (abs(scale - wanted), -scale), default=None)
    fix = "choose another `size`" if nearest is None else f"nearest scale: {nearest}"
    message = f"makes {size[0] * wanted}x{size[1] * wanted} pixels, {limit}; {fix}"
    raise timeline.source.error(path, message)
