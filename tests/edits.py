"""A film of four shots, every kind of edit of it, and what each may cost by DESIGN's one formula."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from longvid import files, rendering, state
from longvid.backends import Backend
from longvid.plan import RenderPlan, plan
from longvid.progress import ChunkSaved, Done, Event, Noted, Stepped
from longvid.timeline import build
from tests.tiny import TinyBackend
from tests.walking import enter_steps

Film = Mapping[str, Any]
Edit = Callable[[Film], Film]

BACKEND = TinyBackend(window_units=3, steps=6)
"""K = 3, S = 6: a unit moves on two levels, and shares windows with the two behind it."""

BOAT = {"prompt": "a red boat", "seconds": "40f", "title": "Boat"}
SEA = {"prompt": "the sea in a storm", "seconds": "24f", "blend_seconds": 1, "negative": "blurry"}
CITY = {"prompt": "a city at night", "seconds": "16f"}
SNOW = {"prompt": "a forest in the snow", "seconds": "21f", "cut": True, "guidance": 1}
FOX = {"prompt": "a fox", "seconds": "16f"}
FILM: Film = {"seed": 7, "shots": [BOAT, SEA, CITY, SNOW]}
"""A run of 5 + 3 + 2 chunks and one of 3, the last of 5 frames: 24 and 10 evaluations."""


def film(**keys: object) -> Edit:
    """Other keys of the film."""
    return lambda before: {**before, **keys}


def shot(index: int, **keys: object) -> Edit:
    """Other keys of a shot; None takes one away."""

    def edit(before: Film) -> Film:
        shots = [dict(shot) for shot in before["shots"]]
        shots[index] = {key: value for key, value in {**shots[index], **keys}.items() if value is not None}
        return {**before, "shots": shots}

    return edit


def shots(*new: Mapping[str, object]) -> Edit:
    """Other shots."""
    return lambda before: {**before, "shots": list(new)}


ONLY_THE_FILE: Mapping[str, Edit] = {
    "nothing": film(),
    "crf": film(output={"crf": 30}),
    "scale": film(output={"scale": 2}),
    "title": film(title="Four shots"),
    "a shot's title": shot(2, title="City"),
}
"""Costs no evaluation."""

SOME: Mapping[str, Edit] = {
    "prompt of the middle": shot(1, prompt="a calm sea"),
    "prompt of the one before a cut": shot(2, prompt="a city by day"),
    "prompt of the one behind a cut": shot(3, prompt="a forest in spring"),
    "seed of a shot": shot(2, seed=11),
    "guidance of a shot": shot(1, guidance=4),
    "guidance of the last": shot(3, guidance=3),
    "negative of a shot": shot(1, negative="rain"),
    "a negative more": shot(3, negative="people"),
    "a negative less": shot(1, negative=None),
    "blend longer": shot(1, blend_seconds=2),
    "blend removed": shot(1, blend_seconds=None),
    "blend added": shot(2, blend_seconds=1),
    "cut added": shot(2, cut=True),
    "cut removed": shot(3, cut=None),
    "order of the middle": shots(BOAT, CITY, SEA, SNOW),
    "order of the end": shots(BOAT, SEA, SNOW, CITY),
    "shot longer": shot(1, seconds="32f"),
    "shot shorter": shot(1, seconds="16f"),
    "shot a frame longer": shot(2, seconds="17f"),
    "film longer": shot(3, seconds="45f"),
    "film shorter": shot(3, seconds="13f"),
    "film longer by a frame": shot(3, seconds="22f"),
    "film shorter by a frame": shot(3, seconds="20f"),
    "film shorter by a run": shots(BOAT, SEA, CITY),
    "film shorter by half a run": shots(BOAT, SEA),
    "shot added last": shots(BOAT, SEA, CITY, SNOW, FOX),
    "run added last": shots(BOAT, SEA, CITY, SNOW, {**FOX, "cut": True}),
    "shot added in the middle": shots(BOAT, SEA, FOX, CITY, SNOW),
    "run added in the middle": shots(BOAT, SEA, CITY, {**FOX, "cut": True}, SNOW),
    "shot removed": shots(BOAT, CITY, SNOW),
}
"""The first chunk holds, the last one does not (but for a trimmed one)."""


def _other_method(before: Film) -> Film:
    return {**before, "method": "progressive" if before.get("method") == "replace" else "replace"}


ALL: Mapping[str, tuple[Edit, str]] = {
    "prompt of the first": (shot(0, prompt="a green boat"), "prompts"),
    "style": (film(style="oil on canvas"), "prompts"),
    "negative": (film(negative="dull"), "negatives"),
    "seed": (film(seed=8), "seed"),
    "guidance": (film(guidance=3), "shots"),
    "steps": (film(steps=12), "steps"),
    "window": (film(window=2), "window"),
    "method": (_other_method, "method"),
    "fps": (film(fps=24), "fps"),
    "size": (film(size=[32, 32]), "size"),
    "model options": (film(model_options={"gain": 2}), "model_options"),
    "order of the first": (shots({**SEA, "blend_seconds": 0}, BOAT, CITY, SNOW), "shots"),
    "shot added first": (shots(FOX, BOAT, SEA, CITY, SNOW), "shots"),
    "first shot removed": (shots({**SEA, "blend_seconds": 0}, CITY, SNOW), "shots"),
    "guidance of the first": (shot(0, guidance=4), "shots"),
}
"""Nothing can be kept; a key that is named then."""


# Rendering


def planned(timeline: Film, backend: Backend = BACKEND) -> RenderPlan:
    return plan(build(timeline), backend)


@dataclass(frozen=True)
class Rendered:
    """What became of a render: its evaluations, the chunks that it wrote, and what it said."""

    evaluations: int
    chunks: tuple[int, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def render(
    timeline: Film,
    output: Path,
    backend: Backend = BACKEND,
    *,
    stop_at: int | None = None,
    stop_after_chunk: int | None = None,
    seen: list[Event] | None = None,
    **options: Any,
) -> Rendered:
    """Render in this process, to the end or, as a person stops it, to behind a global step or a chunk.
    ``seen`` gets the events, one by one."""
    seen = [] if seen is None else seen
    event: Event | None = None
    options = {"device": "cpu", "dtype": "float32", **options}
    with closing(rendering.events(planned(timeline, backend), backend, output, **options)) as happening:
        for event in happening:
            seen.append(event)
            if isinstance(event, Stepped) and event.step == stop_at:
                break
            if isinstance(event, ChunkSaved) and event.chunk == stop_after_chunk:
                break
    assert isinstance(event, Done) or stop_at or stop_after_chunk
    notes = [event for event in seen if isinstance(event, Noted)]
    return Rendered(
        sum(isinstance(event, Stepped) for event in seen),
        tuple(event.chunk for event in seen if isinstance(event, ChunkSaved)),
        tuple(note.text for note in notes if not note.warning),
        tuple(note.text for note in notes if note.warning),
    )


# What there is


def contents(output: Path) -> dict[str, object]:
    """The film and all that its work directory holds for good, by the hashes of its bytes; records without
    their timings. Of a state with nothing in the window only the codec's carry counts: no more is read of it,
    and whether it holds the last unit as context is a matter of what followed in the film it was made for.
    """
    work = output.with_suffix(".longvid")
    found: dict[str, object] = {"film": _hash(output), "plan.json": _hash(work / "plan.json")}
    for folder in ("latents", "segments", "states"):
        found |= {f"{folder}/{path.name}": _hash(path) for path in (work / folder).iterdir()}
    for path in (work / "chunks").iterdir():
        record = files.read_sealed(path)
        assert record is not None, path
        del record["seconds"]
        found[f"chunks/{path.name}"] = record
        if record["step"] is not None and (behind := work / "states" / f"{path.stem}.safetensors").exists():
            held, carry = state.load_state(behind, torch.device("cpu"))
            if not any(held.levels):
                del record["files"][f"states/{behind.name}"]
                found[f"states/{behind.name}"] = {name: part.tolist() for name, part in carry.items()}
    return found


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def copied(output: Path, folder: Path, *, killed: bool = False) -> Path:
    """The film, if there is one, and its work directory, in a new folder: links, since no file is written to
    in place. ``killed``: without the state that a stop saves."""
    folder.mkdir()
    if output.exists():
        os.link(output, folder / output.name)
    work = output.with_suffix(".longvid").name
    left_out = shutil.ignore_patterns("stop.*", "lock") if killed else shutil.ignore_patterns("lock")
    shutil.copytree(output.parent / work, folder / work, copy_function=os.link, ignore=left_out)
    return folder / output.name


def new(folder: Path) -> Path:
    """The film of a new folder."""
    folder.mkdir(parents=True)
    return folder / "film.mp4"


# What it may cost


def cost(before: RenderPlan, after: RenderPlan, reached: int | None = None, *, stopped: bool = True) -> int:
    """The evaluations that an edit must take: everything behind the latest state that knows nothing of the
    first unit that changed, that is, one of before the unit entered. 0 .. the film's.

    There is a state before every step at which a unit enters or is finished, and one where the render was
    ``stopped``, at ``reached`` evaluations (None: it was finished). Written without longvid.identities, from
    DESIGN 1.
    """
    end = enter(after)[-1] + after.steps
    entered = enter(before)
    finished = [step + before.steps for step in entered]
    reached = finished[-1] if reached is None else reached
    states = {0, *(step for step in (*entered, *finished) if step <= reached)}
    if stopped:
        states.add(reached)
    latest = min(first_change(before, after), end)
    return end - max(step for step in states if step <= latest)


def first_change(before: RenderPlan, after: RenderPlan) -> int:
    """The global step at which the two films part: the first unit that is not the same enters one of them."""
    whole = ("model", "model_options", "size", "fps", "steps", "window", "method", "solver")
    if any(getattr(before, key) != getattr(after, key) for key in whole):
        return 0
    one, other = _conditions(before), _conditions(after)
    same = next((i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    first = min(len(one), len(other)) if same is None else same
    entries = [enter(of)[first] for of in (before, after) if first < len(of.units)]
    return min(entries, default=enter(after)[-1] + after.steps)


def enter(of: RenderPlan) -> tuple[int, ...]:
    """enter(i) of each unit."""
    return enter_steps(of.method, of.runs, of.steps, of.window)


def _conditions(of: RenderPlan) -> list[object]:
    mixes = [[(of.prompts[p], of.negatives[p], share) for p, share in unit.mix] for unit in of.units]
    return [
        (sorted(mix), unit.guidance, unit.seed, unit.chunk) for mix, unit in zip(mixes, of.units, strict=True)
    ]
