"""The film as a file: one closed H.264 segment a chunk, and their join without another encode.

Equal frames give equal bytes, on any number of cores and in any process: x264 runs on one thread with code
that does not depend on the CPU's features, and nothing that is written holds a date, a host or a path.
"""

from __future__ import annotations

import heapq
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation

from longvid.errors import RenderError
from longvid.files import replacing

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

PRESET = "medium"
X264 = "cpu-independent=1:stitchable=1"
SQUARE = Fraction(1)
REORDER_DELAY = 2
"""Frames by which x264 decodes ahead of what it shows, at most (B-frames with a pyramid)."""


@dataclass(frozen=True)
class Chapter:
    """A named span of frames, its end excluded."""

    title: str
    start_frame: int
    end_frame: int


class Sound(Protocol):
    """What a film is heard by."""

    def add_to(self, container: OutputContainer) -> Iterator[Packet[Any]]:
        """Give the container its streams; returns their packets, by rising time."""
        ...


def encode(frames: NDArray[np.uint8], fps: Fraction, crf: int) -> bytes:
    """A closed H.264 segment (an MP4) of frames [f h w 3]: Rec. 709, 4:2:0, quality ``crf``.

    Width and height must be even, f at least 1: the plan has made sure of it.
    """
    count, height, width, _ = frames.shape
    if count < 1 or height % 2 or width % 2:
        raise ValueError(f"a segment needs frames of even width and height: {frames.shape}")
    return encode_stream(frames, (width, height), fps, crf)


def encode_stream(
    frames: Iterable[NDArray[np.uint8]],
    size: tuple[int, int],
    fps: Fraction,
    crf: int,
    pixel_aspect: Fraction = SQUARE,
) -> bytes:
    """As ``encode``, of one frame [h w 3] after the other, at least one, of any (width, height).

    An odd side makes it 4:4:4, since 4:2:0 has half as many colours as pixels along each. ``pixel_aspect``:
    a pixel's width over its height.
    """
    width, height = size
    pixel_format = "yuv444p" if width % 2 or height % 2 else "yuv420p"
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        options = {"preset": PRESET, "crf": str(crf), "threads": "1", "x264-params": X264}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        codec = stream.codec_context
        codec.time_base = 1 / fps
        codec.colorspace, codec.color_range = Colorspace.ITU709, ColorRange.MPEG
        codec.color_primaries, codec.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        if pixel_aspect != SQUARE:
            codec.sample_aspect_ratio = pixel_aspect
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                format=pixel_format,
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT,
                threads=1,
            )
            frame.pts, frame.time_base = index, 1 / fps
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def join(
    segments: Sequence[Path],
    output: Path,
    fps: Fraction,
    chapters: Sequence[Chapter] = (),
    metadata: Mapping[str, str] | None = None,
) -> int:
    """One MP4 of all segments' packets, at exact times, ready to stream; returns its number of frames.

    The file appears whole or not at all. Raises RenderError where it cannot be written, or where a segment
    cannot be read or was made with other settings than the first.
    """
    with replacing(output) as partial:
        return remux(segments, partial, fps, chapters, metadata or {})


def remux(
    segments: Iterable[Path | bytes],
    path: Path,
    fps: Fraction,
    chapters: Sequence[Chapter],
    metadata: Mapping[str, str],
    sound: Sound | None = None,
) -> int:
    """What ``join`` does, straight into the file ``path``, with ``sound`` beside the pictures.

    A segment may also be given as its content. They are taken one at a time, while the film grows.
    """
    options = {"movflags": "+faststart+use_metadata_tags"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        container.metadata.update(metadata)
        container.set_chapters(
            [
                {
                    "id": number,
                    "start": chapter.start_frame,
                    "end": chapter.end_frame,
                    "time_base": 1 / fps,
                    "metadata": {"title": chapter.title},
                }
                for number, chapter in enumerate(chapters)
            ]
        )
        pictures = _packets(segments, container, fps)
        first = list(islice(pictures, 1))  # the container has its stream now, before those of the sound
        heard = iter(()) if sound is None else sound.add_to(container)
        shown: Iterator[Packet[Any]] = chain(first, pictures)
        frames = 0
        for packet in heapq.merge(shown, heard, key=_decoded_at):
            frames += packet.stream.type == "video"
            container.mux(packet)
    return frames


def _packets(
    segments: Iterable[Path | bytes], container: OutputContainer, fps: Fraction
) -> Iterator[Packet[VideoStream]]:
    """The segments' packets, one behind the other, in a stream that the container gets with the first."""
    stream: VideoStream | None = None
    frames = 0
    for segment in segments:
        name = str(segment) if isinstance(segment, Path) else "a segment"
        with _opened(segment, name) as file:
            source = file.streams.video[0]
            if stream is None:
                stream = container.add_stream_from_template(source)
                header, first = source.codec_context.extradata, name
            if source.codec_context.extradata != header:
                raise RenderError(f"{name}: was encoded with other settings than {first}")
            packets = [(packet.pts, packet) for packet in file.demux(source) if packet.pts is not None]
        for count, (shown_at, packet) in enumerate(packets):
            # Each frame lasts one tick, so the order of decoding is itself the decoding time: a segment's
            # own may begin at 0 or below it, depending on how many frames it has.
            packet.pts = frames + round(shown_at * packet.time_base * fps)
            packet.dts = frames + count - REORDER_DELAY
            packet.duration = 1
            packet.time_base = 1 / fps
            packet.stream = stream
            yield packet
        frames += len(packets)


def _decoded_at(packet: Packet[Any]) -> Fraction:
    return (packet.dts or 0) * packet.time_base


def settings(segment: Path | bytes) -> tuple[tuple[int, int], bytes | None]:
    """A segment's (width, height), and what its encoder tells a decoder once for all; equal ones join.

    Raises RenderError where the segment cannot be read.
    """
    with _opened(segment, str(segment) if isinstance(segment, Path) else "a segment") as file:
        stream = file.streams.video[0]
        return (stream.width, stream.height), stream.codec_context.extradata


@contextmanager
def _opened(segment: Path | bytes, name: str) -> Iterator[InputContainer]:
    """A segment to read from; what is wrong with it is said of it, not of the film being written."""
    try:
        with av.open(str(segment) if isinstance(segment, Path) else io.BytesIO(segment), "r") as container:
            yield container
    except av.FFmpegError as error:
        raise RenderError(f"{name}: cannot be read: {error.strerror}") from error
