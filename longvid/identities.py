"""What a chunk, and the loop's state behind an evaluation, depend on: chains of SHA-256. Torch-free.

Two plans that give a chunk the same identity give it the same latents, or the same frames, so it can be kept;
two that give a state the same identity can both go on from it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from longvid.backends import Geometry
from longvid.files import digest
from longvid.plan import RenderPlan
from longvid.units import UnitPlan
from longvid.walks import Walk

NUMERICS = 2
"""Raised when a version of longvid gives other numbers for the same plan, so that chunks are not mixed."""


@dataclass(frozen=True)
class Identities:
    """Of all chunks of a film, and of its states.

    ``film``: of what holds for all latents. ``conditions``: of each unit's own. ``latents``: the chain, each
    unit's identity: that of the unit before, and the conditions of every unit that shares a window with it,
    which are those with enter(j) < leave(i). ``chunks``: of its frames in the file.
    """

    film: str
    conditions: tuple[str, ...]
    walk: Walk
    latents: tuple[str, ...]
    chunks: tuple[str, ...]

    @property
    def enter(self) -> tuple[int, ...]:
        """The global step at which each enters."""
        return self.walk.enter

    @property
    def end(self) -> int:
        """Global steps of the film."""
        return self.walk.leave[-1]

    def finished(self, step: int) -> int:
        """Units that are finished before this global step."""
        return bisect_right(self.walk.leave, step)

    def is_clear(self, unit: int) -> bool:
        """Whether all units before this one are finished when it enters, so that it shares no window with
        them: at a run's start, and between two groups that move together."""
        return unit == 0 or self.enter[unit] >= self.walk.leave[unit - 1]

    def is_entry(self, step: int) -> bool:
        """Whether a unit enters at this global step, and none has just been finished: a film that parts from
        this one there can go on from the loop's state before it, and that is no finished chunk's.

        At 0, where something is in the window before anything was done: noised chunks."""
        in_window = bisect_left(self.enter, step) > self.finished(step)
        behind_none = _has(self.enter, step) and not _has(self.walk.leave, step)
        return in_window and (step == 0 or behind_none)

    def of_state(self, step: int) -> str:
        """Of the loop's state before this global step: what is finished, and what has entered."""
        finished, entered = self.finished(step), bisect_left(self.enter, step)
        behind = self.latents[finished - 1] if finished else self.film
        return digest([behind, step, self.conditions[finished:entered]])


def _has(steps: Sequence[int], step: int) -> bool:
    """Whether it is one of the steps, which are in order."""
    place = bisect_left(steps, step)
    return place < len(steps) and steps[place] == step


def identities(plan: RenderPlan, geometry: Geometry, fingerprint: str, dtype: str) -> Identities:
    """``fingerprint`` is the loaded model's, ``dtype`` the one its network runs in. Device and thread count
    are no part of it: they change bits, not conditions. What the plan starts from is what it is, however it
    was made.
    """
    film = digest(
        {
            "numerics": NUMERICS,
            "model": plan.model,
            "model_options": dict(plan.model_options),
            "fingerprint": fingerprint,
            "dtype": dtype,
            "geometry": [geometry.chunk_latents, geometry.chunk_frames, geometry.first_chunk_frames],
            "size": plan.size,
            "fps": str(plan.fps),
            "steps": plan.steps,
            "window": plan.window,
            "method": plan.method,
            "solver": plan.solver,
        }
        | ({"lora": [[lora.fingerprint, lora.strength] for lora in plan.loras]} if plan.loras else {})
    )
    walk = plan.walk
    conditions = unit_conditions(plan)
    latents: list[str] = []
    chunks: list[str] = []
    for unit in plan.units:
        end = bisect_left(walk.enter, walk.leave[unit.index])
        if plan.start is None or unit.index >= plan.start.given:
            latents.append(digest([latents[-1] if latents else film, conditions[unit.index : end]]))
        elif plan.start.clip is None:
            latents.append(plan.start.sources[unit.index])
        else:
            latents.append(digest([film, plan.start.sources[unit.index]]))
        # A codec may hold frames back until a run ends: the last chunk then has more than its own.
        ends_run = unit.chunk == plan.runs[unit.run] - 1
        chunks.append(digest([latents[-1], unit.frames, ends_run, plan.scale, plan.crf]))
    return Identities(film, conditions, walk, tuple(latents), tuple(chunks))


def unit_conditions(plan: RenderPlan) -> tuple[str, ...]:
    """Of each unit alone: what it is told, when it enters, its noise, and what it begins from; and of the
    first behind those that are given, what these are told as its context. The chain of identities knows that
    of all others' context."""
    enter = plan.walk.enter
    given = plan.start.given if plan.start else 0
    noised = dict(enumerate(plan.start.sources)) if plan.start else {}
    pictures = {shot.first_unit: shot.picture for shot in plan.shots if shot.picture}

    def told(unit: UnitPlan) -> dict[str, object]:
        return {
            "mix": [[plan.prompts[p], plan.negatives[p], weight] for p, weight in unit.mix],
            "guidance": unit.guidance,
            "seed": unit.seed,
        }

    def context(unit: UnitPlan) -> list[dict[str, object]]:
        first = unit.index - min(unit.chunk, plan.walk.context_chunks)
        return [told(each) for each in plan.units[first : unit.index]]

    return tuple(
        digest(
            {**told(unit), "chunk": unit.chunk, "enter": enter[unit.index]}
            | ({"source": noised[unit.index]} if unit.index in noised else {})
            | ({"picture": pictures[unit.index]} if unit.index in pictures else {})
            | ({"context": context(unit)} if unit.index == given and context(unit) else {})
        )
        for unit in plan.units
    )
