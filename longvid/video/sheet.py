"""Contact sheets: frames of films side by side in one PNG; and a film as a GIF, which any page plays.

`python -m longvid.video.sheet FILM` writes both beside the film.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import av
import numpy as np
import typer

from longvid.errors import UserError
from longvid.exits import reported
from longvid.files import replacing
from longvid.video import reader, source

if TYPE_CHECKING:
    from numpy.typing import NDArray


def strip(film: Path, times: Sequence[Fraction | float], width_px: int) -> NDArray[np.uint8]:
    """The frames shown at these times (seconds, rising) side by side [h w 3], each `width_px` wide."""
    wanted = list(times)
    pictures: list[NDArray[np.uint8]] = []
    shown: NDArray[np.uint8] | None = None
    for time, pixels in reader.frames(film):
        while len(pictures) < len(wanted) and time > wanted[len(pictures)] and shown is not None:
            pictures.append(shown)
        if len(pictures) == len(wanted):
            break
        shown = pixels
    if shown is None:
        raise ValueError(f"{film} has no frames")
    pictures += [shown] * (len(wanted) - len(pictures))
    return _row(pictures, width_px)


def segments_strip(
    segments: Sequence[tuple[Path, int]], frames: Sequence[int], width_px: int
) -> NDArray[np.uint8]:
    """As ``strip``, of a film that lies in pieces (with the frames of each), at frames counted from its
    beginning, rising. Only pieces that are shown are read."""
    pictures: list[NDArray[np.uint8]] = []
    begin = 0
    for segment, length in segments:
        inside = [frame - begin for frame in frames if begin <= frame < begin + length]
        if inside:
            shown = [pixels for _, pixels in reader.frames(segment)]
            pictures += [shown[frame] for frame in inside]
        begin += length
    return _row(pictures, width_px)


def _row(pictures: Sequence[NDArray[np.uint8]], width_px: int) -> NDArray[np.uint8]:
    return np.concatenate([_shrink(picture, width_px) for picture in pictures], axis=1)


def _shrink(pixels: NDArray[np.uint8], width_px: int) -> NDArray[np.uint8]:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    height_px = round(frame.height * width_px / frame.width)
    return (
        frame.reformat(width_px, height_px, interpolation="LANCZOS").to_ndarray().astype(np.uint8, copy=False)
    )


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


def chapter_strips(film: Path, frames: int, width_px: int) -> list[NDArray[np.uint8]]:
    """A strip for each chapter of the film: this many frames, evenly spaced inside it. Raises UserError where
    there is no chapter."""
    chapters = reader.header(film).chapters
    if not chapters:
        raise UserError(f"{film}: has no chapters; give a film that longvid made")
    times = [
        start + (end - start) * Fraction(2 * place + 1, 2 * frames)
        for _, start, end in chapters
        for place in range(frames)
    ]
    return np.split(strip(film, times, width_px), len(chapters), axis=1)


def write_gif(film: Path, path: Path, width_px: int) -> None:
    """The whole film as a looping GIF with one palette of its own, whatever the path's ending."""
    header = reader.header(film)
    height_px = round(header.size[1] * width_px / header.size[0])
    with av.open(str(film)) as shown, av.open(str(path), "w", "gif", options={"loop": "0"}) as container:
        graph = av.filter.Graph()
        begin = graph.add_buffer(template=shown.streams.video[0])
        scale = graph.add("scale", f"{width_px}:{height_px}:flags=lanczos")
        split, palette = graph.add("split"), graph.add("palettegen", "max_colors=128")
        apply, end = graph.add("paletteuse", "dither=none"), graph.add("buffersink")
        begin.link_to(scale)
        scale.link_to(split)
        split.link_to(apply, 0, 0)
        split.link_to(palette, 1, 0)
        palette.link_to(apply, 0, 1)
        apply.link_to(end)
        graph.configure()
        for frame in shown.decode(video=0):
            graph.push(frame)
        graph.push(None)
        stream = container.add_stream("gif", rate=header.fps)
        stream.width, stream.height, stream.pix_fmt = width_px, height_px, "pal8"
        for i in range(header.frames):
            frame = graph.vpull()
            frame.pts, frame.time_base = i, 1 / header.fps
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def main(
    film: Annotated[Path, typer.Argument(help="A film that longvid made.")],
    frames: Annotated[int, typer.Option(min=1, help="Frames of each chapter on the sheet.")] = 6,
    width_px: Annotated[int, typer.Option(min=16, help="Width of a frame.")] = 192,
) -> None:
    """Write FILM's contact sheet (a row for each chapter) and a GIF of it, beside it."""
    if film.suffix in (".png", ".gif"):
        raise UserError(f"{film}: its sheet would be written over it; give it another name")
    source.probe(film)  # says what is wrong with what is no film
    strips = chapter_strips(film, frames, width_px)
    with replacing(film.with_suffix(".png")) as partial:
        write_png(strips, partial)
    with replacing(film.with_suffix(".gif")) as partial:
        write_gif(film, partial, width_px)


if __name__ == "__main__":
    with reported():
        typer.run(main)
