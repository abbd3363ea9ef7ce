"""The takes of a film: what its work directory renders now, and what it put aside in ``takes/NAME``.

Each is a work directory of the same layout, made of hard links: a chunk that takes share lies on disk once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from itertools import count, zip_longest
from pathlib import Path
from typing import Any

from longvid import __version__, exchange
from longvid.document import NodePath, spell
from longvid.errors import RenderError, UserError
from longvid.files import checksum, read_sealed, replacing
from longvid.joining import check_clip, join_film
from longvid.locks import locked
from longvid.outputs import made_here, work_film
from longvid.request import Request
from longvid.state import (
    SHEETS,
    WorkDirectory,
    holder,
    render_files,
    take_folders,
)
from longvid.video import sheet, writer

FLAGS = {
    "branch_at": "--from",
    "branch_seed": "--as",
    "start": "what it starts from",
    "pictures": "the pictures that shots start from",
    "extension": "how it follows its clip",
}
"""How a person asks for what a request calls otherwise."""


@dataclass(frozen=True)
class Take:
    """A render as its folder tells it.

    ``records``: of its finished chunks, up to the first that is missing or damaged; their files are not read.
    ``plan``, ``run`` and ``request`` are {} where missing or damaged.
    """

    path: Path
    name: str | None
    """None for what is rendered now, where no take holds all of it."""
    current: bool
    plan: Mapping[str, Any]
    run: Mapping[str, Any]
    request: Mapping[str, Any]
    records: tuple[Mapping[str, Any], ...]

    @property
    def chunks(self) -> int:
        """Of the whole film."""
        return sum(self.plan.get("runs", []))

    @property
    def complete(self) -> bool:
        return 0 < self.chunks <= len(self.records)

    @property
    def frames_done(self) -> int:
        return sum(record["frames"] for record in self.records)

    @property
    def fps(self) -> Fraction:
        return Fraction(self.plan.get("fps", 1))

    @property
    def rendered_at(self) -> float | None:
        """When its last chunk was finished, in seconds since 1970."""
        if not self.records:
            return None
        return WorkDirectory(self.path).record(len(self.records) - 1).stat().st_mtime

    @property
    def segments(self) -> list[tuple[Path, int]]:
        """Segments of the finished chunks and their frames; one that shows nothing is left out."""
        work = WorkDirectory(self.path)
        shown = [record for record in self.records if record["frames"]]
        return [(work.segment(record["chunk"]), record["frames"]) for record in shown]


def read(path: Path, name: str | None, *, current: bool = False) -> Take:
    """The take in a folder."""
    work = WorkDirectory(path)
    records = []
    for chunk in count():
        record = read_sealed(work.record(chunk))
        if record is None:
            break
        records.append(record)
    plan, run, request = (read_sealed(path / sheet) or {} for sheet in SHEETS)
    return Take(path, name, current, plan, run, request, tuple(records))


def takes(path: Path) -> list[Take]:
    """Every take of a work directory, the current one first, the others by name."""
    same = holder(path)
    current = read(path, same.name if same else None, current=True)
    return [current, *(read(folder, folder.name) for folder in take_folders(path) if folder != same)]


# What differs


def differing(one: Take, other: Take) -> list[str]:
    """What was asked for otherwise, as a person writes it: ``shots[1].prompt``, ``--seed``."""
    if not (one.request and other.request):
        derived = ("prompts", "negatives", "shots", "runs")
        keys = [key for key in one.plan if one.plan[key] != other.plan.get(key)]
        return [key for key in keys if key not in derived] or keys
    asked, otherwise = dict(one.request), dict(other.request)
    found = [spell(node) for node in _nodes(asked.pop("timeline"), otherwise.pop("timeline"))]
    asked |= asked.pop("overrides")
    otherwise |= otherwise.pop("overrides")
    for key in ("name", "folder", "device", "compile"):  # of no consequence for what is rendered
        asked.pop(key, None)
    return found + [FLAGS.get(key, f"--{key}") for key in asked if asked[key] != otherwise.get(key)]


def _nodes(one: object, other: object, path: NodePath = ()) -> Iterator[NodePath]:
    """The highest nodes at which two documents differ and are not both mappings or both lists."""
    if one == other:
        return
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys([*one, *other]):
            yield from _nodes(one.get(key), other.get(key), (*path, key))
    elif isinstance(one, list) and isinstance(other, list):
        for index, (left, right) in enumerate(zip_longest(one, other)):
            yield from _nodes(left, right, (*path, index))
    else:
        yield path


def first_other_frame(one: Take, other: Take) -> int | None:
    """The frame from which on two takes are not the same; None where they are, as far as both have got."""
    frame = 0
    for mine, theirs in zip(one.records, other.records, strict=False):
        if mine["identity"] != theirs["identity"]:
            return frame
        frame += mine["frames"]
    return frame if len(one.records) != len(other.records) and one.complete and other.complete else None


def write_strips(shown: Sequence[Take], path: Path, columns: int = 8, width_px: int = 160) -> None:
    """A PNG with a row for each take: its frames at the same times as those of the others, in columns."""
    longest = max((take.frames_done / take.fps for take in shown), default=Fraction(0))
    times = [longest * Fraction(2 * column + 1, 2 * columns) for column in range(columns)]
    rows = []
    for take in shown:
        frames = [int(time * take.fps) for time in times if time * take.fps < take.frames_done]
        if take.frames_done:
            try:
                rows.append(sheet.segments_strip(take.segments, frames or [0], width_px))
            except Exception as error:  # whatever PyAV makes of a damaged file
                raise RenderError(
                    f"{take.path}: a segment cannot be read; `longvid verify` names it"
                ) from error
    if not rows:
        raise UserError("there is no picture to show yet: no take has a finished chunk")
    with replacing(path) as partial:
        sheet.write_png(rows, partial)


# Another one as the film


@dataclass(frozen=True)
class Used:
    """``film`` is None where the take is not complete; ``chunks_done`` of its ``chunks`` are then there."""

    film: Path | None
    chunks_done: int
    chunks: int
    aside: str | None
    """The take that the render before was put aside as, where none held it."""


def use(path: Path, name: str) -> Used:
    """Make a take the film: its files those of the work directory, and the film joined from its segments.

    Whatever was rendered there before is then in a take of its own. After a kill at any moment both are
    whole, and the same call, or the next render, finishes what was begun. Raises UserError, LockedError, and
    RenderError where the disk refuses.
    """
    film = work_film(path)
    with locked(path, "changes takes"):
        others = [folder.name for folder in take_folders(path)]
        if name not in others:
            near = get_close_matches(name, others, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there is: {', '.join(others) or 'none'}"
            raise UserError(f"--use {name}: {path} has no such take; {hint}")
        if film.exists() and not made_here(film):
            raise UserError(f"{film} is there, and no render here made it; move it away first")
        wanted = read(path / "takes" / name, name)
        if wanted.complete and wanted.request and (follows := Request.of(wanted.request).extension):
            check_clip(follows)
        work = WorkDirectory(path)
        aside: str | None = None
        if not (path / exchange.FILE).exists() and holder(path) is None and render_files(path):
            aside = work.take_aside().name
        exchange.exchange(path, name)
        return _joined(work, film, aside)


def _joined(work: WorkDirectory, film: Path, aside: str | None) -> Used:
    """The film and the preview of what is in the work directory, where they are not there yet."""
    now = read(work.path, None)
    done = 0
    for record in now.records:
        files = (file for file in record["files"] if file.startswith("segments/"))
        if any(not _is_right(work.path / file, record["files"][file]) for file in files):
            break
        done += 1
    if done:
        writer.join(work.segments(done), work.preview, now.fps)
    else:
        work.preview.unlink(missing_ok=True)
    if not 0 < now.chunks <= done:
        return Used(None, done, now.chunks, aside)
    if not is_whole(now, film):
        made_by = now.run.get("versions", {}).get("longvid", __version__)
        join_film(work, now.plan, made_by, film, Request.of(now.request) if now.request else None)
        work.write_run({**now.run, "status": "finished", "film": checksum(film)})
    return Used(film, done, now.chunks, aside)


def is_whole(take: Take, film: Path) -> bool:
    """Whether the film is there, as the take's render left it."""
    finished = take.run.get("status") == "finished"
    return finished and film.is_file() and checksum(film) == take.run.get("film")


def _is_right(path: Path, wanted: str) -> bool:
    try:
        return checksum(path) == wanted
    except OSError:
        return False
