"""Renders of the tiny model that leave takes behind, in no hurry with the disk."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longvid import rendering
from longvid.progress import ChunkSaved
from longvid.request import Request
from longvid.timeline import build
from tests.tiny import TinyBackend

SHOTS = ({"prompt": "a red boat", "seconds": 4}, {"prompt": "the sea", "seconds": 2})
EDITED = (SHOTS[0], {"prompt": "a storm", "seconds": 2})


def render(film: Path, /, *shots: Mapping[str, Any], chunks: int | None = None, **keys: Any) -> Path:
    """Render the shots into ``film``, stopped once so many ``chunks`` are finished; its work directory."""
    request = Request(build({"model": "tiny", "seed": 7, **keys, "shots": list(shots or SHOTS)}))
    backend = TinyBackend()
    happening = rendering.events(
        request.plan(backend), backend, film, device="cpu", dtype="float32", request=request
    )
    for event in happening:
        if isinstance(event, ChunkSaved) and event.chunk + 1 == chunks:
            happening.close()
    return film.with_suffix(".longvid")


def copied(work: Path, folder: Path) -> Path:
    """The film, its work directory and the takes there, each file on its own."""
    folder.mkdir(exist_ok=True)
    film = work.with_suffix(".mp4")
    if film.exists():
        shutil.copy2(film, folder / film.name)
    return Path(shutil.copytree(work, folder / work.name))


def flip(path: Path, place: int) -> None:
    """One bit of a byte, in the file itself."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    with open(path, "r+b") as file:
        file.write(content)
