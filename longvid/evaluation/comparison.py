"""A suite's films: each rendered and measured by a `longvid` of its own, what is there already left alone.

OUT/films/NAME.yaml, NAME.mp4, NAME.longvid/    a film, as `longvid render` leaves it
OUT/scores/NAME.json                            what `longvid evaluate` said of it, sealed
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longvid.errors import RenderError
from longvid.evaluation.processes import Run
from longvid.evaluation.suite import Film
from longvid.files import checksum, read_sealed, write, write_sealed
from longvid.locks import refused

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Scored:
    """A film, and all that `longvid evaluate` says of it. ``warnings``: what was said while it was made."""

    film: Film
    values: dict[str, Any]
    content: str
    """SHA-256 of the film's file."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    """A film that could not be made or measured, and the line that says why."""

    film: Film
    why: str


@dataclass(frozen=True)
class Place:
    """Where a comparison lies."""

    folder: Path

    def timeline(self, film: Film) -> Path:
        return self.folder / "films" / f"{film.name}.yaml"

    def film(self, film: Film) -> Path:
        return self.folder / "films" / f"{film.name}.mp4"

    def scores(self, film: Film) -> Path:
        return self.folder / "scores" / f"{film.name}.json"

    def chunks(self, films: Iterable[Film]) -> int:
        """How many of these films' chunks are finished."""
        return sum(len(list(self.film(film).with_suffix(".longvid").glob("chunks/*.json"))) for film in films)

    @property
    def votes(self) -> Path:
        return self.folder / "votes"

    def make(self) -> None:
        """Its folders. Raises UserError where the file system refuses."""
        for name in ("films", "scores", "sheets", "votes"):
            with refused(self.folder):
                (self.folder / name).mkdir(parents=True, exist_ok=True)

    def known(self, films: Iterable[Film], *, vbench: bool = False) -> dict[str, Scored]:
        """By name, those that were measured, with ``vbench`` by it too, and are still the files that were."""
        scored = {}
        for film in films:
            path, found = self.film(film), read_sealed(self.scores(film))
            if vbench and found is not None and found["values"].get("vbench") is None:
                continue
            if found is not None and path.is_file() and found["content"] == checksum(path):
                warnings = tuple(found["warnings"])
                scored[film.name] = Scored(film, found["values"], found["content"], warnings)
        return scored

    def keep(self, scored: Scored) -> None:
        """Write a film's scores. Raises RenderError."""
        content = {"content": scored.content, "warnings": list(scored.warnings), "values": scored.values}
        write_sealed(self.scores(scored.film), content)


def make(film: Film, place: Place, run: Run, *, rendering: Sequence[str], measuring: Sequence[str]) -> Scored:
    """Render a film and measure it, with further options of the two commands.

    Raises RenderError, with the line that a command ended on.
    """
    timeline, path = place.timeline(film), place.film(film)
    write(timeline, film.written())
    timeline, path = timeline.absolute(), path.absolute()  # a cluster's machines work in other folders
    rendered = run(("render", str(timeline), "--output", str(path), "--progress", "plain", *rendering))
    if rendered.code:
        raise RenderError(rendered.last_line)
    measured = run(("evaluate", str(path), "--json", *measuring))
    if measured.code:
        raise RenderError(measured.last_line)
    values = {**json.loads(measured.out)["films"][0], "film": f"films/{path.name}"}
    scored = Scored(film, values, checksum(path), tuple({*rendered.warnings, *measured.warnings}))
    place.keep(scored)
    return scored


def made(
    films: Iterable[Film], one: Callable[[Film], Scored], jobs: int
) -> Generator[Scored | Failed | None, None, None]:
    """Each film as ``one`` makes it, in the order they are finished, so many ``jobs`` at a time.

    None now and then, while none is finished. Closed, it begins no further film, and waits for those at work.
    """
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(one, film): film for film in films}
        try:
            while waiting:
                ended, _ = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
                if not ended:
                    yield None
                for future in ended:
                    film = waiting.pop(future)
                    try:
                        yield future.result()
                    except (RenderError, OSError) as error:
                        yield Failed(film, str(error))
        finally:
            pool.shutdown(cancel_futures=True)
