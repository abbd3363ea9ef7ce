"""A source and the new frames that go on from it, as one film.

By default the film has the source's size, rate and frames, and the new frames are brought to them; in native
mode everything has the model's. Pictures that stay as they are in their segments are copied, not encoded.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from longvid.errors import RenderError, UserError
from longvid.files import replacing
from longvid.times import round_half_up
from longvid.video import reader, writer
from longvid.video import source as sources
from longvid.video.opening import opened
from longvid.video.pixels import rgb
from longvid.video.soundtrack import Soundtrack
from longvid.video.timing import Timing as Timing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longvid.video.source import Source

SOFT_PX = 16
"""What is put beside the new frames has so many pixels along its width, so that nothing is made out."""
SEGMENT_FRAMES = 240
"""Frames of a segment that is encoded here: as many as one key frame serves anyhow."""
INSIDE_SECONDS = Fraction(2)
"""How much of the film before and behind the join its figure is compared with."""


@dataclass(frozen=True)
class Way:
    """How the extended film is written."""

    native: bool = False
    """Everything at the model's size and rate, the source fitted to them; else all at the source's."""
    fit: Literal["crop", "pad"] = "crop"
    """How the source was fitted to the model's shape: by default the new frames are laid back to where their
    picture was, and beside a crop, which is all that the model has seen, their colours go on out of focus."""
    tail_only: bool = False
    """Only the frames behind the source's end: source and film, one after the other, are the whole film."""
    audio: Literal["keep", "fade", "drop"] = "keep"
    """The source's sound under the source; fade: its last second fades out. Behind the join is silence."""
    crf: int = 18


@dataclass(frozen=True)
class Join:
    """How much the picture changes where the new frames take over.

    A difference is the mean absolute one of two frames that follow each other, in RGB levels of 8 bits.
    """

    seconds: Fraction
    """When the source ends."""
    difference: float
    """At the join; in a crossfade the largest of it."""
    inside: float
    """The median of those up to 2 seconds before and behind it, without frames that repeat the last one."""

    @property
    def ratio(self) -> float:
        """1 for a join like any other frame; infinite where all else stands still."""
        if not self.inside:
            return math.inf if self.difference else 1.0
        return self.difference / self.inside


def timing(
    source: Source,
    fps: Fraction,
    new_frames: int,
    *,
    replaced_frames: int,
    crossfade_frames: int,
    seconds: Fraction,
    way: Way,
) -> Timing:
    """Of the film that ``write`` makes of so many new frames. Raises ValueError where they are not enough."""
    if not 0 <= crossfade_frames <= replaced_frames < new_frames:
        raise ValueError(
            f"{replaced_frames} of {new_frames} new frames, {crossfade_frames} of them crossfaded"
        )
    # The last one may be shown a little longer where the rates do not divide each other.
    if seconds <= 0 or (new_frames - replaced_frames + 1) / fps < seconds:
        raise ValueError(f"{new_frames - replaced_frames} new frames at {fps} do not last {seconds} s")
    shown_fps = fps if way.native else source.fps
    return Timing(
        fps=shown_fps,
        frames=round_half_up((source.seconds + seconds) * shown_fps),
        join_frame=round_half_up(source.seconds * shown_fps),
        source_fps=source.fps,
        source_frames=source.frames,
        new_fps=fps,
        new_frames=new_frames,
        replaced_frames=replaced_frames,
        crossfade_frames=crossfade_frames,
    )


def write(
    source: Source,
    pieces: Sequence[tuple[Path, int]],
    fps: Fraction,
    output: Path,
    *,
    replaced_frames: int,
    crossfade_frames: int,
    seconds: Fraction,
    way: Way,
    chapters: Sequence[writer.Chapter] = (),
    metadata: Mapping[str, str] | None = None,
) -> Join:
    """The source, longer by ``seconds``, as the MP4 ``output``, whole or not at all; returns its join.

    ``pieces``: closed segments of the new frames at the model's size and ``fps``, with each one's number of
    frames. Their first ``replaced_frames`` show the source's end once more, and during the first
    ``crossfade_frames`` the source fades into them. ``chapters``: in frames of the film that is written.

    Equal input gives equal bytes. A source with an odd side is written in 4:4:4, which keeps its size and
    every pixel, though fewer players show it. Raises UserError where the source cannot be read any more
    or is the output, RenderError where a segment cannot be read or the output not be written.
    """
    if output.exists() and output.samefile(source.path):
        raise UserError(f"{output}: is the clip to extend; name another output with -o")
    pieces = [(path, frames) for path, frames in pieces if frames]
    new_size, _ = writer.settings(pieces[0][0])
    size, pixel_aspect = (new_size, Fraction(1)) if way.native else _stored(source)
    film = _Film(
        source=source,
        pieces=pieces,
        new_size=new_size,
        size=size,
        pixel_aspect=pixel_aspect,
        timing=timing(
            source,
            fps,
            sum(frames for _, frames in pieces),
            replaced_frames=replaced_frames,
            crossfade_frames=crossfade_frames,
            seconds=seconds,
            way=way,
        ),
        way=way,
    )
    sound = None
    if source.audio and way.audio != "drop" and not way.tail_only:
        sound = Soundtrack(source, fades=way.audio == "fade")
    join = _measured(film)
    wanted = film.timing.frames - (film.timing.join_frame if way.tail_only else 0)
    with replacing(output) as partial:
        frames = writer.remux(_segments(film), partial, film.timing.fps, chapters, metadata or {}, sound)
        if frames != wanted:
            raise RenderError(f"{pieces[0][0].parent}: its segments make {frames} frames instead of {wanted}")
    return join


@dataclass(frozen=True)
class _Film:
    """All that the extended film is made of."""

    source: Source
    pieces: Sequence[tuple[Path, int]]
    new_size: tuple[int, int]
    """The new frames'."""
    size: tuple[int, int]
    """The film's, of its frames as they are stored."""
    pixel_aspect: Fraction
    """Width over height of such a pixel."""
    timing: Timing
    way: Way


def _stored(source: Source) -> tuple[tuple[int, int], Fraction]:
    """Width, height of the source's frames upright, but not stretched where its pixels are no squares; and
    width over height of a pixel."""
    with opened(source.path) as file:
        stream = file.streams[source.stream]
        assert isinstance(stream, av.VideoStream)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        if aspect == 1:
            return source.size, aspect
        width, height = stream.codec_context.width, stream.codec_context.height
        return ((height, width), 1 / aspect) if source.orientation.swapped else ((width, height), aspect)


def _segments(film: _Film) -> Iterator[Path | bytes]:
    """The extended film in closed segments: the new frames' own wherever they are shown as they are."""
    timing = film.timing
    at = timing.join_frame if film.way.tail_only else 0
    begin = timing.join_frame - timing.replaced_frames
    for path, frames in film.pieces if _are_shown_unchanged(film) else ():
        end = begin + frames
        if max(at, timing.first_whole) <= begin and end <= timing.frames:
            yield from _encoded(film, at, begin)
            yield path
            at = end
        begin = end
    yield from _encoded(film, at, timing.frames)


def _are_shown_unchanged(film: _Film) -> bool:
    """Whether the new frames' packets could stand in the film: same size, rate, and encoder's settings."""
    if (film.size, film.timing.fps) != (film.new_size, film.timing.new_fps):
        return False
    black = np.zeros((film.size[1], film.size[0], 3), np.uint8)
    settings = writer.settings(_encode(film, [black]))
    return all(writer.settings(path) == settings for path, _ in film.pieces)


def _encode(film: _Film, frames: Iterable[NDArray[np.uint8]]) -> bytes:
    return writer.encode_stream(frames, film.size, film.timing.fps, film.way.crf, film.pixel_aspect)


def _encoded(film: _Film, start_frame: int, end_frame: int) -> Iterator[bytes]:
    """Segments of the film's frames start_frame ... end_frame - 1."""
    pictures = _pictures(film, start_frame, end_frame)
    for begin in range(start_frame, end_frame, SEGMENT_FRAMES):
        yield _encode(film, islice(pictures, min(SEGMENT_FRAMES, end_frame - begin)))


def _pictures(film: _Film, start_frame: int, end_frame: int) -> Iterator[NDArray[np.uint8]]:
    """The film's frames start_frame ... end_frame - 1 [h w 3]."""
    timing = film.timing
    first_own = timing.own(start_frame)
    # As stored: stretching a source's pixels into squares would not leave its frames untouched.
    source = film.source if film.way.native else replace(film.source, size=film.size)
    own_frames = enumerate(sources.frames(source, first_own), first_own)
    own = _Rising(own_frames, lambda pixels: _fitted(pixels, film))
    new_frames = _new_frames(film.pieces, timing.new(max(start_frame, timing.first_new)))
    new = _Rising(new_frames, lambda pixels: _laid(pixels, film))
    for frame in range(start_frame, end_frame):
        weight = timing.weight(frame)
        if weight == 0:
            yield own.at(timing.own(frame))
        elif weight == 1:
            yield new.at(timing.new(frame))
        else:
            yield _mixed(own.at(timing.own(frame)), new.at(timing.new(frame)), weight)


class _Rising:
    """Numbered frames [h w 3], asked for by rising number; one is at hand, prepared once."""

    def __init__(
        self,
        frames: Iterator[tuple[int, NDArray[np.uint8]]],
        prepare: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
    ) -> None:
        self.frames = frames
        self.prepare = prepare
        self.number = -1
        self.pixels: NDArray[np.uint8]

    def at(self, number: int) -> NDArray[np.uint8]:
        while self.number < number:
            self.number, pixels = next(self.frames)
            if self.number == number:
                self.pixels = self.prepare(pixels)
        return self.pixels


def _new_frames(
    pieces: Sequence[tuple[Path, int]], start_frame: int
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """The new frames [h w 3] with their numbers, from the piece on that holds ``start_frame``."""
    begin = 0
    for path, frames in pieces:
        if begin + frames > start_frame:
            number = begin
            try:
                for number, (_, pixels) in enumerate(reader.frames(path), begin):
                    yield number, pixels
            except (OSError, av.FFmpegError) as error:
                raise RenderError(f"{path}: cannot be read: {error.strerror or error}") from error
            if number != begin + frames - 1:
                raise RenderError(f"{path}: has {number - begin + 1} frames instead of {frames}")
        begin += frames


def _fitted(pixels: NDArray[np.uint8], film: _Film) -> NDArray[np.uint8]:
    """A frame of the source [h w 3] as the film shows it."""
    return sources.fit(pixels, film.new_size, film.way.fit) if film.way.native else pixels


def _laid(pixels: NDArray[np.uint8], film: _Film) -> NDArray[np.uint8]:
    """A new frame [h w 3] as the film shows it: by default laid back to where its picture was in the source.

    What was padded is cut off. Beside a crop, where the model has seen nothing, its colours go on out of
    focus: a larger scale would let all of the picture jump at the join, and black would show even where it
    is four pixels wide.
    """
    if film.way.native or film.source.size == film.new_size == film.size:
        return pixels
    (width, height), (new_width, new_height) = film.source.size, film.new_size
    factors = new_width / width, new_height / height
    factor = max(factors) if film.way.fit == "crop" else min(factors)
    # The whole source as the model would see it, and how far it reaches beyond the model's picture.
    seen_width, seen_height = max(round(width * factor), 1), max(round(height * factor), 1)
    left, top = -((new_width - seen_width) // 2), -((new_height - seen_height) // 2)
    if film.way.fit == "pad":
        whole = sources.fit(pixels[-top:, -left:][:seen_height, :seen_width], film.source.size, "crop")
    else:
        region = round(width * new_width / seen_width), round(height * new_height / seen_height)
        left, top = round(left * width / seen_width), round(top * height / seen_height)
        whole = _surrounded(sources.fit(pixels, region, "crop"), left, top, film.source.size)
    if film.size != film.source.size:
        whole = rgb(av.VideoFrame.from_ndarray(whole, format="rgb24"), film.size, VideoReformatter())
    return whole


def _surrounded(inner: NDArray[np.uint8], left: int, top: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Pixels [h w 3] of (width, height), ``inner`` at (left, top) among its own colours out of focus."""
    (width, height), right, bottom = size, left + inner.shape[1], top + inner.shape[0]
    mirrored = np.pad(inner, ((top, height - bottom), (left, width - right), (0, 0)), mode="symmetric")
    soft = min(SOFT_PX, width), min(SOFT_PX * height // width + 1, height)
    whole = sources.fit(sources.fit(mirrored, soft, "crop"), size, "crop")
    whole[top:bottom, left:right] = inner
    return whole


def _mixed(own: NDArray[np.uint8], new: NDArray[np.uint8], weight: Fraction) -> NDArray[np.uint8]:
    """Both pictures, ``weight`` being the new one's share; halves go up."""
    whole, part = weight.denominator, weight.numerator
    total = own.astype(np.int64) * (whole - part) + new.astype(np.int64) * part
    return ((2 * total + whole) // (2 * whole)).astype(np.uint8)


def _measured(film: _Film) -> Join:
    """The film's join, from its frames before they are encoded."""
    timing = film.timing
    around = math.floor(INSIDE_SECONDS * timing.fps)
    begin = max(0, timing.first_new - 1 - around)
    end = min(timing.frames, timing.first_whole + 1 + around)
    at_join, inside = [0.0], []
    before: NDArray[np.uint8] | None = None
    for frame, pixels in enumerate(_pictures(film, begin, end), begin):
        if before is not None:
            difference = float(np.abs(pixels.astype(np.int16) - before).mean())
            if timing.first_new <= frame <= timing.first_whole:
                at_join.append(difference)
            elif difference:
                inside.append(difference)
        before = pixels
    return Join(timing.join_frame / timing.fps, max(at_join), statistics.median(inside or [0.0]))
