"""The frames of a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from av.video.reformatter import Interpolation

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Header:
    """What a file says of itself, without a frame being decoded."""

    size: tuple[int, int]
    """Width, height in pixels."""
    fps: Fraction
    frames: int
    chapters: tuple[tuple[str, Fraction, Fraction], ...]
    """(title, start, end) in seconds."""
    metadata: dict[str, str]


def header(path: Path) -> Header:
    """What the file says of itself. Raises OSError or av.FFmpegError where it is no video."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return Header(
            size=(stream.width, stream.height),
            fps=stream.average_rate or Fraction(0),
            frames=stream.frames,
            chapters=tuple(
                (
                    chapter["metadata"].get("title", ""),
                    chapter["start"] * Fraction(chapter["time_base"] or 1),
                    chapter["end"] * Fraction(chapter["time_base"] or 1),
                )
                for chapter in container.chapters()
            ),
            metadata=dict(container.metadata),
        )


def frames(path: Path) -> Iterator[tuple[Fraction, NDArray[np.uint8]]]:
    """(time in seconds, pixels [h w 3]) of each frame, in the order they are shown, one at a time."""
    flags = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            pixels = frame.to_ndarray(format="rgb24", interpolation=flags).astype(np.uint8, copy=False)
            yield (frame.pts or 0) * Fraction(frame.time_base or 1), pixels
