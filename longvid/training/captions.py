"""The clips of a folder and what is said of each: a text beside a clip, or a list of all of them.

    clips/boat.mp4  clips/boat.txt
    clips/metadata.csv      file_name,text
    clips/metadata.jsonl    {"file_name": "boat.mp4", "text": "a red boat"}

A list tells of files in its own folder and below it. Folders are read to any depth; what is hidden is left
out. Whatever is wrong with one clip is told as a Problem and costs that clip only.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longvid.document import show
from longvid.errors import UserError

LISTS = ("metadata.csv", "metadata.jsonl")
BESIDE = ".txt"
CLIP_SUFFIXES = frozenset(
    (
        *(".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"),
        *(".mxf", ".ogv", ".ts", ".webm", ".wmv", ".y4m"),
    )
)
"""Files that are clips without being named as such; any other becomes one by its caption."""
MAX_CHARACTERS = 1 << 20
"""Of a caption's file that are read; no encoder reads so much."""
NOT_MOUNTED = "__MACOSX"
NAME, TEXT = "file_name", "text"


@dataclass(frozen=True)
class Problem:
    """A file that is not used, or a part of it, and why: one clause with the nearest fix."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class Captioned:
    """A file and its caption, one line that is not empty. Nothing is known yet of what is in the file."""

    path: Path
    caption: str


@dataclass(frozen=True)
class Listing:
    """What a folder holds, by name: the clips that have a caption, and what lacks the one or the other."""

    folder: Path
    clips: tuple[Captioned, ...]
    problems: tuple[Problem, ...]


def listing(folder: Path) -> Listing:
    """The captioned clips of a folder, without one being opened.

    A text beside a clip goes before what a list says of it. Raises UserError where there is no such folder,
    no clip in it, or none with a caption.
    """
    problems: list[Problem] = []
    files = list(_files(folder, problems))
    listed: dict[Path, str] = {}
    for path in files:
        if path.name in LISTS:
            _read_list(path, set(files), listed, problems)

    texts = {path for path in files if path.suffix.lower() == BESIDE}
    others = [path for path in files if path not in texts and path.name not in LISTS]
    beside = {text.with_suffix(""): text for text in texts}
    clips = []
    bare = []
    for path in others:
        text = beside.get(path.with_suffix(""))
        is_clip = path.suffix.lower() in CLIP_SUFFIXES
        if text is not None:
            texts.discard(text)
            caption = _read_text(text, problems)
        elif path in listed:
            caption = listed[path]
        else:
            if is_clip:
                name = path.with_suffix(BESIDE).name
                bare.append(Problem(path, f"has no caption; write one as {name} beside it"))
            continue
        if caption:
            clips.append(Captioned(path, caption))
    problems += [Problem(text, "is a caption without a clip of its name beside it") for text in texts]

    if not clips:
        count = sum(path.suffix.lower() in CLIP_SUFFIXES for path in others)
        if not count:
            raise UserError(
                f"{folder}: holds no clip; put clips there, each with a caption beside as NAME.txt"
            )
        if problems:
            raise UserError(f"{folder}: no clip has a caption that can be read: {problems[0]}")
        raise UserError(
            f"{folder}: holds {count} clip{'s'[: count > 1]} and no caption for "
            f"{'any' if count > 1 else 'it'}; "
            f"write one beside each as NAME.txt, or a {LISTS[0]} with {NAME} and {TEXT}"
        )
    problems += bare
    return Listing(folder, tuple(clips), tuple(sorted(problems, key=lambda problem: problem.path)))


def _files(folder: Path, problems: list[Problem]) -> Iterator[Path]:
    """Every file below a folder, sorted; links are followed, each folder once."""
    if not os.path.isdir(folder):
        what = "is no folder" if os.path.lexists(folder) else "there is no such folder"
        raise UserError(f"{folder}: {what}; name the folder that holds the clips")

    def refused(error: OSError) -> None:
        problems.append(Problem(Path(error.filename), f"cannot be read: {error.strerror}"))

    seen: set[tuple[int, int]] = set()
    for place, below, names in os.walk(folder, onerror=refused, followlinks=True):
        stat = os.stat(place)
        if (stat.st_dev, stat.st_ino) in seen:
            below.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        below[:] = sorted(name for name in below if not name.startswith(".") and name != NOT_MOUNTED)
        for name in sorted(names):
            path = Path(place, name)
            # A pipe or a device is no file that a caption could be read from; a broken link is told of.
            if not name.startswith(".") and (path.is_file() or path.is_symlink()):
                yield path


def _read_text(path: Path, problems: list[Problem]) -> str:
    """A caption from a file of its own, as one line; empty, with a Problem, where there is none."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            caption = " ".join(file.read(MAX_CHARACTERS).split())
    except (OSError, UnicodeError) as error:
        problems.append(Problem(path, _unread(error)))
        return ""
    if not caption:
        problems.append(Problem(path, "is empty; write the caption into it"))
    return caption


def _unread(error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError):
        return "is no UTF-8 text; save it as UTF-8"
    return f"cannot be read: {error.strerror}"


def _read_list(path: Path, files: set[Path], listed: dict[Path, str], problems: list[Problem]) -> None:
    """Add to ``listed`` what a list says of files that are there.

    Raises UserError for a list that is none: without the two columns, or not to be read at all.
    """
    rows = _csv_rows(path) if path.suffix == ".csv" else _json_rows(path)
    for number, row in rows:
        here = Path(f"{path}:{number}")
        if isinstance(row, str):
            problems.append(Problem(here, row))
            continue
        name, text = row.get(NAME), row.get(TEXT)
        if not isinstance(name, str) or not isinstance(text, str):
            lacks = NAME if not isinstance(name, str) else TEXT
            problems.append(Problem(here, f"{lacks} is {show(row.get(lacks))}, and is to be text"))
            continue
        # Only what was found below the folder: a name that leads out of it is not there.
        clip, caption = Path(os.path.normpath(path.parent / name)), " ".join(text.split())
        if clip not in files:
            problems.append(Problem(here, f"is a caption without a clip: there is no {show(name)} here"))
        elif not caption:
            problems.append(Problem(here, f"{show(name)} has an empty caption"))
        elif listed.setdefault(clip, caption) != caption:
            problems.append(Problem(here, f"is the second caption of {show(name)}; the first one counts"))


Row = tuple[int, dict[str, Any] | str]
"""A line's number, and what it says; or what is wrong with it."""


def _csv_rows(path: Path) -> Iterator[Row]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file)
            columns = lines.fieldnames or ()
            for lacks in (NAME, TEXT):
                if lacks not in columns:
                    found = ", ".join(map(show, columns)) or "none"
                    raise UserError(f"{path}:1: has no column {lacks}; its columns are {found}")
            yield from ((lines.line_num, row) for row in lines)
    except (OSError, UnicodeError) as error:
        raise UserError(f"{path}: {_unread(error)}") from error
    except csv.Error as error:
        raise UserError(f"{path}:{lines.reader.line_num}: is no CSV: {error}") from error


def _json_rows(path: Path) -> Iterator[Row]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    row = None
                yield number, row if isinstance(row, dict) else f'is no {{"{NAME}": ..., "{TEXT}": ...}}'
    except (OSError, UnicodeError) as error:
        raise UserError(f"{path}: {_unread(error)}") from error
