"""The frames of any file's video with their times: in order, from wherever one begins, by reading little.

Times are seconds on the file's own clock, which need not begin at 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from itertools import chain, dropwhile
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import av

from longvid.times import MAX_SECONDS, round_half_up
from longvid.video.opening import opened

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

NEVER_SEEK = {"gif", "apng"}
"""Formats whose packets all claim to begin anew, though each paints over the picture before."""
WITH_ALPHA: Mapping[str, Literal["libvpx", "libvpx-vp9"]] = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders of WebM's alpha, a second layer that FFmpeg's own leave out."""
AVI = "avi"
NO_TIMESTAMPS = 0x0080
"""FFmpeg's flag of a format."""
STEP_SECONDS = Fraction(1, 1_440_000)
"""A step that the usual rates and MPEG's clock divide."""


def stated_rate(container: InputContainer, stream: VideoStream) -> Fraction:
    """Frames a second on average, as far as the file tells."""
    rates = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    if has_no_times(container):
        # What is average there is the demuxer's own idea; the codec's header knows.
        rates = rates[1:] + rates[:1]
    return next((rate for rate in rates if rate is not None and rate > 0), Fraction(25))


def stated_end(stream: VideoStream) -> Fraction | None:
    """When the video ends by its own header, which says so in MP4 and AVI."""
    if stream.duration is None:
        return None
    return ((stream.start_time or 0) + stream.duration) * tick(stream)


def tick(stream: VideoStream) -> Fraction:
    """What the stream's times count, in seconds."""
    return stream.time_base or Fraction(1)


def has_no_times(container: InputContainer) -> bool:
    """Whether the format is a bare stream, so that its frames can only be counted."""
    return bool(container.format.flags & NO_TIMESTAMPS)


def seeks(container: InputContainer) -> bool:
    """Whether one may begin elsewhere than at the start."""
    return not has_no_times(container) and container.format.name not in NEVER_SEEK


def demuxed(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """The video's packets from where the file is; they end where it cannot be read any further."""
    # Where a stream appears that the head did not name, PyAV fails when all is read.
    with suppress(av.FFmpegError, IndexError):
        yield from container.demux(stream)


def decoded(
    container: InputContainer, stream: VideoStream, packets: Iterable[Packet[VideoStream]]
) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """(time, frame) of packets that begin with a keyframe, in the order they are shown. Those that cannot
    be decoded are left out."""
    numbered = has_no_times(container)
    period = 1 / stated_rate(container, stream)
    decoder: VideoCodecContext = stream.codec_context
    if stream.metadata.get("alpha_mode") == "1" and decoder.name in WITH_ALPHA:
        decoder = av.CodecContext.create(WITH_ALPHA[decoder.name], "r")
    time: Fraction | None = None
    for packet in packets:
        try:
            frames = decoder.decode(packet if packet.size else None)
        except av.FFmpegError:
            continue
        for frame in frames:
            # AVI knows only when packets are decoded, which a frame takes over in the order it is shown.
            ticks = frame.dts if frame.pts is None or container.format.name == AVI else frame.pts
            if ticks is not None and not numbered:
                time = ticks * tick(stream)
            else:
                time = Fraction(0) if time is None else time + period
            yield time, frame


def decoded_from(
    path: Path, stream_index: int, start: Fraction, seconds: Fraction, *, interlaced: bool
) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """As ``decoded``, from a frame on that is shown ``seconds`` after ``start`` or before; deinterlaced."""
    with opened(path) as container:
        stream = _stream(container, stream_index)
        period = 1 / stated_rate(container, stream)
        # A picture's first field is made whole by the pictures around it.
        wanted = start + seconds - (3 * period if interlaced else 0)
        # One may seek by times of decoding, or come upon what is no beginning: then from further back.
        back = Fraction(1) if container.format.name == AVI else Fraction(0)
        while seeks(container) and wanted - back > start:
            try:
                container.seek(floor((wanted - back) / tick(stream)), stream=stream)
            except av.FFmpegError:
                break
            packets = from_key(demuxed(container, stream))
            key = next(packets, None)
            if key is not None and _shown_at(key, stream) <= wanted:
                frames = decoded(container, stream, chain([key], packets))
                first = next(frames, None)
                if first is not None and first[0] <= wanted + period / 2:
                    frames = chain([first], frames)
                    yield from deinterlaced(stream, frames) if interlaced else frames
                    return
            back = 4 * back + 1
    with opened(path) as container:
        stream = _stream(container, stream_index)
        frames = decoded(container, stream, demuxed(container, stream))
        yield from deinterlaced(stream, frames) if interlaced else frames


def _stream(container: InputContainer, index: int) -> VideoStream:
    stream = next(stream for stream in container.streams.video if stream.index == index)
    stream.thread_type = "AUTO"
    return stream


def from_key(packets: Iterator[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
    """The packets from the first on that is decoded without any before it."""
    return dropwhile(lambda packet: not packet.is_keyframe, packets)


def _shown_at(packet: Packet[VideoStream], stream: VideoStream) -> Fraction:
    ticks = packet.dts if packet.pts is None else packet.pts
    return (ticks or 0) * tick(stream)


def deinterlaced(
    stream: VideoStream, frames: Iterator[tuple[Fraction, av.VideoFrame]]
) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """A whole picture for each frame: one that is not interlaced stays as it is."""
    graph = av.filter.Graph()
    begin = graph.add_buffer(template=stream, time_base=STEP_SECONDS)
    filtering = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
    graph.link_nodes(begin, filtering, graph.add("buffersink")).configure()

    def pulled() -> Iterator[tuple[Fraction, av.VideoFrame]]:
        with suppress(av.BlockingIOError, av.EOFError):
            while True:
                frame = graph.vpull()
                yield (frame.pts or 0) * Fraction(frame.time_base or STEP_SECONDS), frame

    for time, frame in frames:
        frame.pts, frame.time_base = round_half_up(time / STEP_SECONDS), STEP_SECONDS
        graph.vpush(frame)
        yield from pulled()
    graph.vpush(None)
    yield from pulled()


def end(path: Path, stream_index: int, start: Fraction) -> Fraction:
    """When the last frame ends that is there, the first being shown at ``start``.

    Only packets of the file's tail are read, where its format lets one seek; none is decoded.
    """
    with opened(path) as container:
        stream = _stream(container, stream_index)
        target = stated_end(stream)
        if target is None and container.duration:
            target = Fraction((container.start_time or 0) + container.duration, av.time_base)
        if target is None:
            target = start + 2 * MAX_SECONDS  # beyond every film
        back = Fraction(0)
        while seeks(container) and target - back > start:
            try:
                container.seek(floor((target - back) / tick(stream)), stream=stream)
            except av.FFmpegError:
                break
            # The packet of the last frame may come before those of others, but not before its keyframe's.
            found = _end(container, stream, from_key(demuxed(container, stream)))
            if found is not None:
                return found + (_delay(stream, start) if container.format.name == AVI else 0)
            back = 4 * back + 1
    with opened(path) as container:
        stream = _stream(container, stream_index)
        found = _end(container, stream, demuxed(container, stream))
        if found is None:
            return start
        return found + (_delay(stream, start) if container.format.name == AVI else 0)


def _delay(stream: VideoStream, start: Fraction) -> Fraction:
    """By how much frames come out later than the packets in AVI."""
    return start - (stream.start_time or 0) * tick(stream)


def _end(
    container: InputContainer, stream: VideoStream, packets: Iterable[Packet[VideoStream]]
) -> Fraction | None:
    """When the last of the packets' frames ends, or None without a packet."""
    numbered = has_no_times(container)
    period = 1 / stated_rate(container, stream)
    shown: Fraction | None = None
    found: Fraction | None = None
    for packet in packets:
        if not packet.size or packet.is_discard or packet.is_corrupt:
            continue
        lasts = packet.duration * tick(stream) if packet.duration else period
        if numbered:
            found = (found or Fraction(0)) + lasts
            continue
        ticks = packet.dts if packet.pts is None or container.format.name == AVI else packet.pts
        if ticks is not None and (shown is None or ticks * tick(stream) > shown):
            shown = ticks * tick(stream)
            found = shown + lasts
    stated = stated_end(stream)
    if shown is None or stated is None or stated <= shown or found is None:
        return found
    # MP4 tells when packets are decoded and shown, and a frame's length by the former.
    return min(found, stated)
