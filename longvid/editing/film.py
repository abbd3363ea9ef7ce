"""A film and its shots, from the file alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from longvid.errors import UserError
from longvid.times import round_half_up
from longvid.video import reader, source
from longvid.video.pixels import Orientation
from longvid.video.source import Source
from longvid.video.writer import Chapter


@dataclass(frozen=True)
class Shot:
    """A span of frames, its end excluded; the film's shots lie end to end."""

    title: str
    prompt: str
    start_frame: int
    end_frame: int
    cut: bool
    """Whether it begins with a cut."""

    @property
    def name(self) -> str:
        return self.title or self.prompt


@dataclass(frozen=True)
class Film:
    source: Source
    chapters: tuple[Chapter, ...]
    shots: tuple[Shot, ...]

    @property
    def title(self) -> str:
        return self.source.metadata.get("title", "") or self.source.path.stem

    def seconds(self, frame: int) -> Fraction:
        return frame / self.source.fps

    def shot_at(self, frame: int) -> Shot:
        return next(shot for shot in self.shots if shot.start_frame <= frame < shot.end_frame)


def read(path: Path) -> Film:
    """The film. Raises UserError where it is none.

    Its shots are those that longvid wrote into its metadata; without, its chapters; without those, it is one.
    """
    clip = source.probe(path)
    if clip.picture:
        raise UserError(f"{path}: is a picture; `longvid finish` takes a film")
    chapters = tuple(
        Chapter(title, round_half_up(start * clip.fps), round_half_up(end * clip.fps))
        for title, start, end in reader.header(path).chapters
    )
    return Film(clip, chapters, shots(clip.metadata.get("shots", ""), chapters, clip.frames))


def planned(
    path: Path, size: tuple[int, int], fps: Fraction, frames: int, metadata: Mapping[str, str]
) -> Film:
    """A film that is not there yet, of which no frame can be read."""
    clip = Source(
        path=path,
        size=size,
        fps=fps,
        seconds=frames / fps,
        frames=frames,
        audio=(),
        metadata=metadata,
        picture=False,
        stream=0,
        start=Fraction(0),
        orientation=Orientation(),
        interlaced=False,
        notes=(),
    )
    return Film(clip, (), shots(metadata.get("shots", ""), (), frames))


def shots(told: str, chapters: tuple[Chapter, ...], frames: int) -> tuple[Shot, ...]:
    """The shots that the metadata tell, in order, as far as the film goes; else the chapters, else one."""
    found = _told(told) or [Shot(c.title, "", c.start_frame, c.end_frame, False) for c in chapters]
    inside = [shot for shot in found if shot.start_frame < frames]
    starts = [shot.start_frame for shot in inside]
    if not starts or starts[0] != 0 or any(a >= b for a, b in pairwise(starts)):
        return (Shot("", "", 0, frames, False),)
    ends = [*starts[1:], frames]
    return tuple(replace(shot, end_frame=end) for shot, end in zip(inside, ends, strict=True))


def _told(told: str) -> list[Shot]:
    """Metadata can hold anything: what is not as longvid writes it says nothing."""
    try:
        entries: Any = json.loads(told)
        return [
            Shot(
                title=str(entry.get("title") or ""),
                prompt=str(entry["prompt"]),
                start_frame=int(entry["start_frame"]),
                end_frame=int(entry["end_frame"]),
                cut=entry["cut"] is True,
            )
            for entry in entries
        ]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return []
