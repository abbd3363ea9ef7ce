"""The film's own name, that of its work directory, and whether a render may take them. Torch-free."""

from __future__ import annotations

import glob
from contextlib import nullcontext
from itertools import chain
from pathlib import Path

from longvid.errors import UserError
from longvid.files import checksum, read_sealed
from longvid.locks import locked, refused


def work_path(output: Path) -> Path:
    """The work directory of a film: beside it, ``film.mp4`` -> ``film.longvid``.

    That of a take, ``film.longvid/takes/NAME.mp4``, is ``film.longvid/takes/NAME``.
    """
    return output.with_suffix("" if is_take(output) else ".longvid")


def is_take(path: Path) -> bool:
    """Whether a film or a work directory is that of a take."""
    return path.parent.name == "takes" and path.parent.parent.suffix == ".longvid"


def work_film(work: Path) -> Path:
    """The inverse of ``work_path``. Raises UserError where ``work`` is no work directory."""
    if not work.is_dir():
        raise UserError(f"{work}: there is no such folder; a film's work directory is named film.longvid")
    if not (work / "chunks").is_dir():
        raise UserError(f"{work}: is no film's work directory; one is named film.longvid, beside the film")
    named = work if work.name.strip(".") else work.resolve()
    return named.with_name(f"{named.name}.mp4") if is_take(named) else named.with_suffix(".mp4")


def check_free(output: Path, *, overwrite: bool = False) -> None:
    """Raise what stands in the way of a render into ``output``; nothing is touched.

    UserError where ``output`` cannot become a film: it is no .mp4, its folder is missing or cannot be
    written, or there is a file that no work directory made (unless ``overwrite``). LockedError where another
    process has its work directory.
    """
    with refused(output):
        check_output(output)
    path = work_path(output)
    with refused(path):
        there = path.exists()
    with locked(path) if there else nullcontext():
        _check_foreign(output, overwrite)


def check_output(output: Path) -> None:
    """Raise UserError where ``output`` can be no film."""
    if output.is_dir():
        raise UserError(f"--output {output} is a folder; name a file in it, as {output / 'film.mp4'}")
    if output.suffix.lower() != ".mp4":
        raise UserError(f"--output {output}: a film is written as .mp4; try {_as_mp4(output)}")
    if output.exists() and not output.is_file():
        raise UserError(f"--output {output}: is there and no ordinary file; name another")
    if not output.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}; create it first")


def _as_mp4(output: Path) -> Path:
    """The nearest name of a film; ``.mp4`` alone is a hidden file's name, without an ending."""
    return output.with_name("film.mp4") if output.name.lower() == ".mp4" else output.with_suffix(".mp4")


def _check_foreign(output: Path, overwrite: bool) -> None:
    if overwrite or not output.exists():
        return
    with refused(output):
        ours = made_here(output)
    if not ours:
        run = work_path(output) / "run.json"
        damaged = run.exists() and read_sealed(run) is None
        why = (
            f"{run}, which tells whether a render here made it, is damaged"
            if damaged
            else "no render here made it"
        )
        raise UserError(
            f"{output} exists, and {why}; --overwrite replaces it, or write elsewhere with --output"
        )


def made_here(output: Path) -> bool:
    """Whether the film is as a render left it: its own work directory's, a take's, or one moved aside."""
    film, work = checksum(output), glob.escape(work_path(output).name)
    runs = (output.parent.glob(f"{work}{below}/run.json") for below in ("*", "*/takes/*"))
    told = (read_sealed(run) or {} for run in chain.from_iterable(runs))
    return any(film in (run.get("film"), run.get("next_film")) for run in told)
