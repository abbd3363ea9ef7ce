"""Contact sheets: frames of films side by side in one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from longvid.video import reader

if TYPE_CHECKING:
    from numpy.typing import NDArray


def strip(film: Path, times: Sequence[Fraction | float], width_px: int) -> NDArray[np.uint8]:
    """The frames shown at these times (seconds, rising) side by side [h w 3], each `width_px` wide."""
    wanted, pictures = list(times), []
    shown: NDArray[np.uint8] | None = None
    for time, pixels in reader.frames(film):
        while len(pictures) < len(wanted) and time > wanted[len(pictures)] and shown is not None:
            pictures.append(shown)
        shown = pixels
    if shown is None:
        raise ValueError(f"{film} has no frames")
    pictures += [shown] * (len(wanted) - len(pictures))
    return np.concatenate([_shrink(picture, width_px) for picture in pictures], axis=1)


def _shrink(pixels: NDArray[np.uint8], width_px: int) -> NDArray[np.uint8]:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    height_px = round(frame.height * width_px / frame.width)
    return frame.reformat(width_px, height_px, interpolation="LANCZOS").to_ndarray().astype(np.uint8, copy=False)


def write_png(rows: Sequence[NDArray[np.uint8]], path: Path, gap_px: int = 4) -> None:
    """Strips [h w 3] one below the other, a white gap between them."""
    width = max(row.shape[1] for row in rows)
    parts = []
    for row in rows:
        parts.append(np.pad(row, ((0, gap_px), (0, width - row.shape[1]), (0, 0)), constant_values=255))
    picture = np.concatenate(parts)[:-gap_px]
    with av.open(str(path), "w", format="image2pipe") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = picture.shape[1], picture.shape[0], "rgb24"
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
