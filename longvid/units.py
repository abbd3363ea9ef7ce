"""Units and shots as they are planned: which chunk each is, what it is made of, what is written of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate

from longvid.errors import UserError
from longvid.settings import Overrides
from longvid.times import clock, parse_time, round_half_up


@dataclass(frozen=True)
class UnitPlan:
    """One unit of the film: what moves through the window together."""

    index: int
    """In the film, from 0."""
    shot: int
    run: int
    chunk: int
    """In its run, from 0."""
    mix: tuple[tuple[int, float], ...]
    """(index into ``RenderPlan.prompts``, weight); the weights sum to 1."""
    guidance: float
    seed: int
    frames: int
    """Frames written of it: those decoded, less what a run's last unit is trimmed by."""
    decoded_frames: int


@dataclass(frozen=True)
class ShotPlan:
    """A shot as asked for and as it will be: frames count from the film's start, ends are excluded."""

    index: int
    title: str | None
    prompt: str
    """As written, without the style."""
    first_unit: int
    units: int
    run: int
    cut: bool
    """Begins a run of its own behind another shot."""
    requested_start_frame: int
    start_frame: int
    requested_end_frame: int
    end_frame: int
    blend_units: int
    """Units over which the previous shot's prompt fades into this one's; 0 for a plain switch."""
    guidance: float
    seed: int
    picture: str | None
    """SHA-256 of the file that the shot, which begins a run, starts from."""
    unknown_words: tuple[str, ...]
    """Words of prompt, style and negative that the model cannot know."""
    evaluations: int
    """Evaluations whose newest unit is of this shot: the film's, shared out among its shots."""


def units_of(
    shot: ShotPlan,
    before: ShotPlan | None,
    texts: tuple[int, int],
    chunk: int,
    borders: Sequence[int],
    decoded: Sequence[int],
) -> Iterator[UnitPlan]:
    """The units of a shot that begins with chunk ``chunk`` of its run.

    ``texts``: places of its own text and of the one before among the prompts. Chunk by chunk of the run,
    ``borders`` are the frames at which they begin and end, ``decoded`` is how many frames they decode to.
    """
    own, previous = texts
    for k in range(shot.units):
        # Chunk k of a blend over b has (k + 1) / (b + 1) of the new prompt, and of its guidance.
        share = (k + 1) / (shot.blend_units + 1) if k < shot.blend_units else 1.0
        mix, strength = {own: share}, shot.guidance
        if share < 1 and before:
            mix[previous] = mix.get(previous, 0.0) + (1 - share)
            strength = before.guidance + share * (shot.guidance - before.guidance)
        yield UnitPlan(
            index=shot.first_unit + k,
            shot=shot.index,
            run=shot.run,
            chunk=chunk + k,
            mix=tuple(sorted(mix.items())),
            guidance=strength,
            seed=shot.seed,
            frames=borders[chunk + k + 1] - borders[chunk + k],
            decoded_frames=decoded[chunk + k],
        )


def branched(
    units: Sequence[UnitPlan], overrides: Overrides, fps: Fraction, end_frame: int
) -> list[UnitPlan]:
    """The units with another seed from the chunk border that is nearest to a time on."""
    assert overrides.branch_at is not None
    try:
        at_frame = round_half_up(parse_time(overrides.branch_at).seconds(fps) * fps)
    except ValueError as error:
        raise UserError(f"--from: {error}") from error
    starts = list(accumulate((unit.frames for unit in units), initial=0))[:-1]
    if at_frame >= end_frame:
        raise UserError(f"--from {overrides.branch_at}: the film ends at {clock(end_frame / fps)}")
    first = min(range(len(units)), key=lambda k: abs(starts[k] - at_frame))
    return [unit if unit.index < first else replace(unit, seed=overrides.branch_seed) for unit in units]
