"""The edited picture as closed segments: what nothing touches is copied, only the rest is encoded again.

A film of longvid's is a row of closed groups of frames, all encoded with the same settings (``stitchable``).
So a title costs the encoding of its first seconds, however long the film is. Any other film, or one at
another size, is encoded again as a whole.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING

import av
import numpy as np

from longvid.editing.credits import Reel
from longvid.editing.film import Film
from longvid.editing.picture import Effect, changed
from longvid.video import source, writer

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

SEGMENT_FRAMES = 250
"""The longest segment that is encoded: x264 begins another group of frames after as many by itself."""


@dataclass(frozen=True)
class Piece:
    """A span of the film's frames, its end excluded: ``copied``, or encoded again."""

    start_frame: int
    end_frame: int
    copied: bool


def pieces(film: Film, made: Sequence[Effect], size: tuple[int, int], crf: int) -> tuple[Piece, ...]:
    """The film, end to end. Only what need not be encoded again is copied."""
    groups = closed_groups(film) if stitchable(film, size, crf) else []
    if not groups:
        return (Piece(0, film.source.frames, False),)
    found: list[Piece] = []
    for start, end in groups:
        copied = not any(effect.start_frame < end and start < effect.end_frame for effect in made)
        if found and found[-1].copied == copied:
            start = found.pop().start_frame
        found.append(Piece(start, end, copied))
    return tuple(found)


def stitchable(film: Film, size: tuple[int, int], crf: int) -> bool:
    """Whether what we encode at this size can lie beside the film's own packets."""
    if size != film.source.size:
        return False
    black = np.zeros((size[1], size[0], 3), np.uint8)
    ours = io.BytesIO(writer.encode_stream([black], size, film.source.fps, crf))
    with av.open(ours) as one, av.open(str(film.source.path)) as other:
        own = other.streams[film.source.stream].codec_context
        return own.name == "h264" and own.extradata == one.streams.video[0].codec_context.extradata


def closed_groups(film: Film) -> list[tuple[int, int]]:
    """(start, end) of the film's groups of frames, end to end; none where a frame is not at its exact time,
    or a group shares frames with the next."""
    groups: list[tuple[int, int]] = []
    with av.open(str(film.source.path)) as container:
        stream = container.streams.video[0]
        shown: list[int] = []
        for packet in container.demux(stream):
            if packet.pts is None or packet.is_keyframe:
                if shown:
                    groups.append((min(shown), max(shown) + 1))
                    if sorted(shown) != list(range(*groups[-1])):
                        return []
                shown = []
            if packet.pts is not None:
                at = _frame(packet, film)
                if at.denominator != 1:
                    return []
                shown.append(int(at))
    ends = [0] + [end for _, end in groups]
    whole = all(start == end for (start, _), end in zip(groups, ends, strict=False))
    return groups if whole and ends[-1] == film.source.frames else []


def _frame(packet: Packet[VideoStream], film: Film) -> Fraction:
    assert packet.pts is not None
    return (packet.pts * packet.time_base - film.source.start) * film.source.fps


def segments(
    film: Film,
    plan: Sequence[Piece],
    made: Sequence[Effect],
    credits: Reel | None,
    size: tuple[int, int],
    crf: int,
    told: Callable[[int], None],
) -> Iterator[bytes]:
    """The edited film's closed segments, in order, one at a time. ``told``: how many frames are done."""
    fps = film.source.fps
    for piece in plan:
        if piece.copied:
            yield from copies(film, piece.start_frame, piece.end_frame)
            told(piece.end_frame)
            continue
        numbers = iter(range(piece.start_frame, piece.end_frame))
        pictures = (
            changed(number, pixels, made)
            for number, pixels in zip(
                numbers, source.frames(film.source, piece.start_frame, piece.end_frame), strict=True
            )
        )
        for start in range(piece.start_frame, piece.end_frame, SEGMENT_FRAMES):
            frames = _told(islice(pictures, SEGMENT_FRAMES), start, told)
            yield writer.encode_stream(frames, size, fps, crf)
    if credits is not None:
        for start in range(0, credits.frames, SEGMENT_FRAMES):
            drawn = (credits.draw(i) for i in range(start, min(start + SEGMENT_FRAMES, credits.frames)))
            yield writer.encode_stream(_told(drawn, film.source.frames + start, told), size, fps, crf)


def _told(
    frames: Iterator[NDArray[np.uint8]], start: int, told: Callable[[int], None]
) -> Iterator[NDArray[np.uint8]]:
    for done, frame in enumerate(frames, start + 1):
        yield frame
        told(done)


def copies(film: Film, start_frame: int, end_frame: int) -> Iterator[bytes]:
    """The film's own groups of frames from one keyframe to before another, a segment each."""
    with av.open(str(film.source.path)) as container:
        stream = container.streams.video[0]
        begin = film.source.start + start_frame / film.source.fps
        container.seek(round(begin / (stream.time_base or 1)), stream=stream)
        group: list[Packet[VideoStream]] = []
        for packet in container.demux(stream):
            at = None if packet.pts is None else _frame(packet, film)
            if group and (at is None or packet.is_keyframe):
                yield _segment(group, stream)
                group = []
            if at is None or (packet.is_keyframe and at >= end_frame):
                return
            if at >= start_frame:
                group.append(packet)


def _segment(group: Sequence[Packet[VideoStream]], like: VideoStream) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream_from_template(like)
        first = min(packet.pts or 0 for packet in group)
        for packet in group:
            assert packet.pts is not None and packet.dts is not None
            packet.pts, packet.dts = packet.pts - first, packet.dts - first
            packet.stream = stream
            container.mux(packet)
    return file.getvalue()
