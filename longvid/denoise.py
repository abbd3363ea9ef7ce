"""The one loop: it takes any method's window steps from noise to finished units."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from longvid.backends import Process
from longvid.errors import RenderError
from longvid.guidance import Predict, per_frame
from longvid.methods import WindowStep
from longvid.noise import ENTRY, UnitNoise
from longvid.processes import Solver


@dataclass(frozen=True)
class WindowState:
    """What the loop knows between two evaluations; all that has to be saved to go on from here.

    ``step``: the next global step. ``units``: indices of the units held, in order of time. ``levels``: the
    level each is stored at, 0 for a finished one that is still read as context. ``latents``: [b c n h w] in
    fp32, n = len(units) l. ``memory``: the solver's, shaped like ``latents``, or None where it has none.
    """

    step: int
    units: tuple[int, ...]
    levels: tuple[int, ...]
    latents: Tensor
    memory: Tensor | None


@dataclass(frozen=True)
class Finished:
    """A clean chunk: its index in the film and its latents [b c l h w] in fp32."""

    unit: int
    latents: Tensor


def fresh(unit_shape: tuple[int, int, int, int], device: torch.device) -> WindowState:
    """The state of a film that begins from text alone: nothing is held yet. ``unit_shape``: (c, l, h, w)."""
    c, _, h, w = unit_shape
    return WindowState(0, (), (), latents=torch.zeros(1, c, 0, h, w, device=device), memory=None)


def denoise(
    steps: Iterable[WindowStep],
    state: WindowState,
    *,
    predict: Predict,
    schedule: Callable[[Tensor], Tensor],
    process: Process,
    solver: Solver,
    total_levels: int,
    noise: UnitNoise,
    parts: int = 1,
) -> Iterator[tuple[WindowState, list[Finished]]]:
    """Paper Alg. 1 with variable length, for any method: yields the state, and what finished, after every
    step.

    ``steps``: all window steps of the film; those before ``state.step`` are skipped, so that a saved state
    goes on. They are kept only where they cannot be gone over again, as an iterator's. ``predict``: the
    guided network (guidance.py). ``schedule``: level / S in [0, 1] to time t in [0, 1]. ``total_levels``: S.
    ``noise``: of a unit at a step (noise.py). ``parts``: units in a chunk, which finishes as a whole. Runs on
    the device that ``state.latents`` is on, in fp32, and waits for it once a step, at the step's end.

    A unit is held from the step that first reads it to the step that last does, or that finishes its chunk.
    One that is not held yet enters as pure noise; one shown above its stored level is first noised up to it
    (paper eq. 2); one whose ``after`` is None keeps its stored latents. Raises RenderError, which names unit
    and step, when latents become NaN or infinite.
    """
    # They are gone over twice, since a film of hours has too many to keep.
    again = list(steps) if isinstance(steps, Iterator) else steps
    begin = state.step
    last_read = {unit: step.step for step in again if step.step >= begin for unit in step.reads}

    nothing = state.latents[:, :, :0]
    # Held on the host: every number of a step is known to it, so that it never waits inside of one.
    times = schedule(torch.arange(total_levels + 1) / total_levels)
    clock = process.clock(times).tolist()
    held = _held(state, total_levels)

    for step in again:
        if step.step < begin:
            continue
        with torch.inference_mode():
            # Show each unit at its level: a new one is pure noise, one that is too clean is noised up.
            shown: list[Tensor] = []
            previous: list[Tensor | None] = []
            for unit, level in zip(step.reads, step.before, strict=True):
                if unit not in held and level == total_levels:
                    entering = noise(unit, ENTRY).to(nothing.device)
                    held[unit] = _Unit(level, entering, None)
                if unit not in held or level < held[unit].level:
                    raise ValueError(f"{step}: unit {unit} cannot be shown at level {level}")
                stored = held[unit]
                if level == stored.level:
                    shown.append(stored.latents)
                    previous.append(stored.slope)
                else:
                    more = noise(unit, step.step).to(nothing.device)
                    shown.append(process.renoise(stored.latents, more, times[stored.level], times[level]))
                    previous.append(None)

            # Evaluate the network, once.
            x = torch.cat(shown, dim=2)
            towards = [old if new is None else new for old, new in zip(step.before, step.after, strict=True)]
            t, t_next = per_frame(times[list(step.before)], x), per_frame(times[towards], x)
            prediction = predict(x, t.flatten().expand(len(x), -1), step.reads).float()

            # Move along the slope. What a solver remembers of a unit was made one level above.
            ratio = [
                0.0 if slope is None else (clock[new] - clock[old]) / (clock[old] - clock[old + 1])
                for slope, old, new in zip(previous, step.before, towards, strict=True)
            ]
            slope = process.slope(x, prediction, t)
            slope, remembered = solver(slope, _join(previous, shown[0]), per_frame(torch.tensor(ratio), x))
            moved = process.step(x, slope, t, t_next)

            # Store what lost a level, and let go of what no later step reads.
            units = moved.chunk(len(step.reads), dim=2)
            slopes = [None] * len(units) if remembered is None else remembered.chunk(len(units), dim=2)
            finite = torch.stack([unit.isfinite().all() for unit in units]).tolist()
            for k, (unit, new) in enumerate(zip(step.reads, step.after, strict=True)):
                if new is None:
                    continue
                if not finite[k]:
                    raise RenderError(
                        f"chunk {unit} became NaN or infinite at step {step.step} (level {new + 1} of "
                        f"{total_levels}): the weights are damaged, or the dtype is too narrow for them"
                    )
                held[unit] = _Unit(new, units[k], slopes[k] if new > 0 else None)
            done = [unit // parts for unit in step.emits if (unit + 1) % parts == 0]
            finished = [Finished(chunk, _whole(held, chunk, parts)) for chunk in done]
            held = {
                unit: held[unit]
                for unit in sorted(held)
                if last_read.get(unit, -1) > step.step or _is_waiting(held, unit, parts)
            }

            state = WindowState(
                step=step.step + 1,
                units=tuple(held),
                levels=tuple(unit.level for unit in held.values()),
                latents=torch.cat([nothing, *(unit.latents for unit in held.values())], dim=2),
                memory=_join([unit.slope for unit in held.values()], shown[0]),
            )
        yield state, finished


class _Unit(NamedTuple):
    """What is held of one unit: its level, its latents [b c l h w], and the slope that brought it there."""

    level: int
    latents: Tensor
    slope: Tensor | None


def _whole(held: dict[int, _Unit], chunk: int, parts: int) -> Tensor:
    """A chunk's latents [b c l h w], of its units."""
    units = range(chunk * parts, (chunk + 1) * parts)
    return torch.cat([held[unit].latents for unit in units], dim=2)


def _is_waiting(held: dict[int, _Unit], unit: int, parts: int) -> bool:
    """Whether a unit is finished, and its chunk is not: units finish in order."""
    last = unit // parts * parts + parts - 1
    return held[unit].level == 0 and unit != last and (last not in held or held[last].level > 0)


def _held(state: WindowState, total_levels: int) -> dict[int, _Unit]:
    """The state unit by unit. One that has not moved yet or is finished has no slope: its rows are blank."""
    count = max(len(state.units), 1)
    latents = state.latents.chunk(count, dim=2)
    slopes = [None] * count if state.memory is None else state.memory.chunk(count, dim=2)
    return {
        unit: _Unit(level, latents[k], slopes[k] if 0 < level < total_levels else None)
        for k, (unit, level) in enumerate(zip(state.units, state.levels, strict=True))
    }


def _join(slopes: Sequence[Tensor | None], like: Tensor) -> Tensor | None:
    """The units' slopes in one tensor, zero for a unit without one, or None where none has one."""
    if all(slope is None for slope in slopes):
        return None
    return torch.cat([torch.zeros_like(like) if slope is None else slope for slope in slopes], dim=2)
