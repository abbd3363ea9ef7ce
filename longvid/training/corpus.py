"""A folder of captioned clips, each looked through once: what can be trained on, and what cannot and why.

    listed = listing(folder)
    found = corpus(listed, examined(listed, cache, workers))

What took long to find out (a file's digest, its scenes) is remembered in the cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from longvid.errors import UserError
from longvid.files import digest, read_sealed, sealed, write
from longvid.locks import locked, refused
from longvid.training.captions import Captioned, Listing, Problem
from longvid.training.scenes import VERSION, Scene, finds_cuts, scenes
from longvid.video import source
from longvid.video.source import Source

SCANS = "scans"


@dataclass(frozen=True)
class Example:
    """A clip that can be trained on. ``sha256``: of its file; ``scenes``: at least one."""

    source: Source
    caption: str
    sha256: str
    scenes: tuple[Scene, ...]

    @property
    def path(self) -> Path:
        return self.source.path

    @property
    def seconds(self) -> Fraction:
        """Of all its scenes."""
        return sum(end - begin for begin, end in self.scenes) / self.source.fps


@dataclass(frozen=True)
class Corpus:
    """The usable clips of a folder, by name. ``cut``: whether their scenes end at cuts, which takes
    PySceneDetect; without it a clip is one scene, whatever is in it."""

    folder: Path
    examples: tuple[Example, ...]
    problems: tuple[Problem, ...]
    cut: bool


def examined(listed: Listing, cache: Path, workers: int) -> Iterator[Example | Problem]:
    """Each clip of a listing in turn; ``workers`` of them are looked through at a time, in threads, as the
    decoding is done outside of Python. ``cache``: a folder, made if need be.

    Raises UserError for a cache that cannot be, LockedError where another process fills it, RenderError for
    a full disk.
    """
    stop, cuts = Event(), finds_cuts()
    scans = cache / SCANS
    with refused(cache):
        scans.mkdir(parents=True, exist_ok=True)
    with locked(cache, "prepares clips"), ThreadPoolExecutor(workers, "clip") as pool:
        try:
            for result, fresh in pool.map(partial(_examine, scans, cuts=cuts, stop=stop), listed.clips):
                for path, content in fresh.items():
                    write(path, sealed({"found": content}), commit=False)
                yield result
        finally:
            # Where the caller goes away, the threads do not look through the rest.
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)


def corpus(listed: Listing, results: Iterable[Example | Problem]) -> Corpus:
    """What was found of the clips of a listing. Raises UserError where none can be used."""
    examples: list[Example] = []
    problems: list[Problem] = []
    known: dict[tuple[str, str], Path] = {}
    for result in results:
        if isinstance(result, Problem):
            problems.append(result)
        elif (first := known.setdefault((result.sha256, result.caption), result.path)) != result.path:
            problems.append(Problem(result.path, f"is {first} once more, under the same caption"))
        else:
            examples.append(result)
    if not examples:
        each = (
            f"none of {len(listed.clips)} clips with a caption" if problems[1:] else "no clip with a caption"
        )
        raise UserError(f"{listed.folder}: {each} can be used: {problems[0]}")
    return Corpus(listed.folder, tuple(examples), (*listed.problems, *problems), finds_cuts())


def _examine(
    scans: Path, clip: Captioned, *, cuts: bool, stop: Event
) -> tuple[Example | Problem, dict[Path, Any]]:
    """What a clip is, and what is to be remembered of it, by the file that does."""
    path, fresh = clip.path, dict[Path, Any]()

    def remembered(key: list[Any], find: Callable[[], Any]) -> Any:
        file = scans / f"{digest(key)}.json"
        record = read_sealed(file)
        if record is not None and "found" in record:
            return record["found"]
        fresh[file] = find()
        return fresh[file]

    try:
        clip_source = source.probe(path)
        if clip_source.picture:
            return Problem(path, "is a picture; training takes clips, in which something moves"), {}
        state = path.stat()
        identity = [str(path.absolute()), state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
        sha256 = remembered(["file", *identity], lambda: _sha256(path, stop))
        found = remembered(
            ["scenes", VERSION, cuts, sha256], lambda: scenes(clip_source, cuts=cuts, stop=stop)
        )
    except UserError as error:
        return Problem(path, str(error).removeprefix(f"{path}: ")), {}
    except OSError as error:
        return Problem(path, f"cannot be read: {error.strerror}"), {}
    if not found:
        return Problem(path, source.UNDECODABLE), fresh
    return Example(clip_source, clip.caption, sha256, tuple((begin, end) for begin, end in found)), fresh


def _sha256(path: Path, stop: Event) -> str:
    """Of a file's content, in hex."""
    content = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            if stop.is_set():
                raise CancelledError
            content.update(block)
    return content.hexdigest()
