"""Prompt schedules of other tools -> a timeline, and what could not be carried over.

A module for each tool says what its schedule means, as its documentation and behaviour have it. Torch-free.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from longvid import timeline
from longvid.backends import Backend
from longvid.document import MAX_BYTES, Source, parse
from longvid.errors import UserError
from longvid.schedules import deforum, fizznodes, framepack, lists, wangp
from longvid.schedules.imports import Asked, Imported
from longvid.schedules.keyframes import loads
from longvid.schedules.manuscript import written
from longvid.spans import spans
from longvid.times import Time

MAX_SHOTS = 5_000
"""Fewer than the values that a timeline holds."""

Format = Literal["deforum", "fizznodes", "framepack", "wangp", "list"]

READERS: Mapping[Format, Callable[[str, Asked], Imported]] = {
    "deforum": deforum.read,
    "fizznodes": fizznodes.read,
    "framepack": framepack.read,
    "wangp": wangp.read,
    "list": lists.read,
}


@dataclass(frozen=True)
class Manuscript:
    """A timeline to be written, and what it does not say of the schedule, a line each."""

    tool: str
    text: str
    notes: tuple[str, ...]


def imported(
    path: Path,
    format: Format | None = None,
    fps: Fraction | None = None,
    seconds: Time | None = None,
    model: tuple[str, Backend] | None = None,
) -> Manuscript:
    """The timeline that a schedule's file becomes.

    ``format``: told from the content where None. ``fps``: rate at which the file's frames count, in place of
    its own. ``seconds``: length of each line of a list, of the whole film elsewhere. ``model``: its name in
    the timeline, and the backend; a size or a rate that it does not have is left out. Raises UserError, in
    one line that says where.
    """
    text, asked = _read(path), Asked(str(path), fps, seconds)
    schedule = READERS[format or detect(text, asked)](text, asked)
    if len(schedule.data["shots"]) > MAX_SHOTS:
        message = f"has {len(schedule.data['shots']):,} prompts; a timeline is made of at most {MAX_SHOTS:,}"
        raise asked.error(0, message)
    if model is not None:
        schedule = _fitted(schedule, *model)
    source = Source(str(path), path.parent, schedule.lines)
    film = timeline.build(schedule.data, source)
    # At any rate where none is said: times are not in both frames and seconds then.
    spans(film, film.fps or Fraction(24))
    notes = tuple(schedule.notes.told())
    heading = [f"From {schedule.tool}: {path.name}, by `longvid import`."]
    heading += ["Differs from it:"] if notes else []
    manuscript = written(schedule.data, [*heading, *(f"- {note}" for note in notes)])
    if len(manuscript.encode()) > MAX_BYTES:
        raise asked.error(0, f"becomes a timeline of more than {MAX_BYTES:,} bytes, the most there can be")
    timeline.build(*parse(manuscript, str(path)))
    return Manuscript(schedule.tool, manuscript, notes)


def detect(text: str, asked: Asked) -> Format:
    """Whose schedule a text is. Raises UserError for JSON that is none."""
    start = text.lstrip()
    if start.startswith("{"):
        return "fizznodes" if fizznodes.nodes(loads(text, asked)) else "deforum"
    if re.match(r'("[^"\n]*"|[0-9]+)\s*:\s*["(]', start):
        return "fizznodes"
    if re.match(r'\[\s*("|\]|\{)', start):
        raise asked.error(
            0, 'is a JSON list, which has no frames; a schedule reads {"0": "a boat", "48": "..."}'
        )
    if re.search(r"^shots:", text, re.MULTILINE):
        raise asked.error(0, "is a timeline already; `longvid plan` says what it becomes")
    if framepack.meant(text):
        return "framepack"
    return "wangp" if wangp.meant(text) else "list"


def _read(path: Path) -> str:
    """A schedule's text. Raises UserError for what is no small text file."""
    try:
        if path.is_dir():
            raise UserError(f"{path}: is a folder, not a schedule; name a file in it")
        if not path.exists():
            raise UserError(f"{path}: no such file")
        if not path.is_file():
            raise UserError(f"{path}: is not an ordinary file")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # a name with a NUL
        raise UserError(f"{str(path)!r}: cannot be read: {error}") from error
    if len(raw) > MAX_BYTES:
        raise UserError(f"{path}: has {path.stat().st_size:,} bytes; a schedule has at most {MAX_BYTES:,}")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: is not UTF-8 text; save it as UTF-8") from error
    if not text.strip():
        raise UserError(f"{path}: is empty; write a prompt a line, or a tool's schedule")
    if control := re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]", text):
        line = text.count("\n", 0, control.start()) + 1
        raise UserError(f"{path}:{line}: holds the control character U+{ord(control[0]):04X}")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _fitted(schedule: Imported, name: str, backend: Backend) -> Imported:
    """For a model: without a size or a rate that it does not have. Times keep their seconds."""
    geometry, data, notes = backend.geometry, {"model": name, **schedule.data}, schedule.notes
    size, fps = data.get("size"), data.get("fps")
    if size is not None:
        any_size = geometry.any_size and not any(side % geometry.pixel_stride for side in size)
        if tuple(size) not in geometry.sizes and not any_size:
            del data["size"]
            notes.add(f"the size {size[0]}x{size[1]} is left out: {backend.name} does not have it")
    if fps is not None and not geometry.fps_min <= fps <= geometry.fps_max:
        del data["fps"]
        data["shots"] = [
            {
                key: Time(value.seconds(fps)) if isinstance(value, Time) else value
                for key, value in shot.items()
            }
            for shot in data["shots"]
        ]
        notes.add(f"the rate {float(fps):g} is left out: {backend.name} does not have it; times are the same")
    return replace(schedule, data=data)
