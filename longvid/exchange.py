"""One take's files in place of another's, in a work directory that is locked.

Many files change places and no file system does that at once. So ``exchange.json`` says first which take is
meant, and goes when it is done: after a kill in between, whoever comes next finishes it. Both takes lie whole
in ``takes/`` all the while, so nothing can be lost.
"""

from __future__ import annotations

import os
from pathlib import Path

from longvid.errors import RenderError, UserError
from longvid.files import read_sealed, sync, write_sealed
from longvid.locks import locked
from longvid.state import FOLDERS, SHEETS

FILE = "exchange.json"


def pending(path: Path) -> Path | None:
    """The take whose files an exchange that was broken off shall bring; None where there is no such.

    Raises UserError where that cannot be told, or is no more.
    """
    if not (path / FILE).exists():
        return None
    said = read_sealed(path / FILE)
    take = None if said is None else path / "takes" / str(said.get("take"))
    if take is None or not take.is_dir():
        what = "is damaged" if take is None else f"names {take}, which is no more"
        raise UserError(f"{path / FILE}: {what}; `longvid takes {path} --use NAME` says which take is meant")
    return take


def exchange(path: Path, name: str) -> None:
    """Make what lies in ``takes/NAME`` what lies in ``path``; what lay there must be in a take of its own.

    Raises RenderError where the disk refuses, LockedError where that take is being rendered.
    """
    with locked(path / "takes" / name, "changes takes"):
        write_sealed(path / FILE, {"take": name})
        _link(path, path / "takes" / name)


def finish(path: Path) -> None:
    """Finish an exchange that was broken off, if there is one. Raises as ``pending`` and ``exchange``."""
    take = pending(path)
    if take is not None:
        with locked(take, "changes takes"):
            _link(path, take)


def _link(path: Path, take: Path) -> None:
    try:
        for folder in reversed(FOLDERS):  # the records first: without its own, no file counts
            (path / folder).mkdir(exist_ok=True)
            for file in (path / folder).iterdir():
                if not _is(file, take / folder / file.name):
                    file.unlink()
        for folder in FOLDERS:
            for file in sorted((take / folder).glob("[!.]*")):
                if not (path / folder / file.name).exists():
                    os.link(file, path / folder / file.name)
            sync(path / folder)
        for name in SHEETS:
            _replace(take / name, path / name)
        sync(path)
        (path / FILE).unlink()
        sync(path)
    except OSError as error:
        raise RenderError(
            f"{path}: the files of {take} cannot be put there: {error.strerror}; nothing is lost, "
            f"`longvid takes {path} --use {take.name}` goes on"
        ) from error


def _is(file: Path, twin: Path) -> bool:
    return twin.exists() and file.samefile(twin)


def _replace(source: Path, target: Path) -> None:
    """Link ``source`` as ``target``, whatever is there; where there is no source, nothing shall be."""
    if not source.exists():
        target.unlink(missing_ok=True)
    elif not (target.exists() and _is(target, source)):
        partial = target.with_name(f".{target.stem}.part")
        partial.unlink(missing_ok=True)
        os.link(source, partial)
        os.replace(partial, target)
