"""Any file that PyAV reads as a source: upright, with square pixels, at a constant rate, in Rec. 709 SDR.

Frame j of a source is what its file shows at j / fps: each of the file's frames takes the place that is
nearest to its time, and is shown until the next one. Memory does not grow with a file's length, and only as
much of it is read as is asked for, where its format lets one seek (raw streams, GIF and APNG do not).

Files that are damaged are used as far as they go: a frame that cannot be decoded shows the one before, and a
file that ends before its header says is as long as what is there, which its ``notes`` then say.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from math import floor
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from longvid.errors import UserError
from longvid.times import MAX_FPS, MAX_SECONDS, clock, length, round_half_up
from longvid.values import MAX_SIDE_PX
from longvid.video.decoding import (
    decoded,
    decoded_from,
    demuxed,
    end,
    has_no_times,
    stated_end,
    stated_rate,
)
from longvid.video.opening import is_cut_off, opened, video_stream
from longvid.video.pixels import EXIF_ORIENTATIONS, Orientation, is_hdr, orientation, rgb
from longvid.video.pixels import fit as fit

if TYPE_CHECKING:
    from av.container import InputContainer
    from numpy.typing import NDArray

MIN_SIDE_PX = 16
NTSC = Fraction(1000, 1001)
USUAL_RATES = (24 * NTSC, *map(Fraction, (24, 25, 30, 48, 50, 60, 120)), 30 * NTSC, 60 * NTSC, 120 * NTSC)
NEAR = Fraction(1, 100)
"""How far, as a part of it, a variable rate may be from a usual one to become it; and a constant one, which
may only have been rounded."""
ROUNDING = Fraction(1, 2500)
DAMAGED = "is damaged"
"""How a note begins that tells of frames that are lost."""
MISSED_SECONDS = Fraction(1, 2)
"""What a clip may be shorter than its header says without a word."""
MAX_METADATA_CHARACTERS = 1 << 20
ANIMATED = {"gif", "apng", "jpegxl_anim"}
"""Formats of pictures and of clips; and brands of MP4 that are pictures, if of one frame."""
STILL_BRANDS = {"avif", "avis", "mif1", "msf1", "heic", "heix"}
UNDECODABLE = (
    "nothing in it can be decoded: it is damaged, encrypted or too large; copy it again or convert it"
)
HEAD_FRAMES = 4
"""Frames that are decoded to know a file."""


@dataclass(frozen=True)
class AudioTrack:
    """A track of sound. ``index``: of its stream in the file. ``language``: as tagged (ISO 639), or empty."""

    index: int
    codec: str
    sample_rate: int
    channels: int
    language: str


@dataclass(frozen=True)
class Source:
    """A clip or a picture as it is shown; times are seconds, the first frame being at 0."""

    path: Path
    size: tuple[int, int]
    """Width, height in pixels as shown: upright, with square pixels. They may be odd."""
    fps: Fraction
    """The nearest constant rate; 1 to 240."""
    seconds: Fraction
    """When the last frame ends."""
    frames: int
    """At that rate: round-half-up(seconds * fps); at least 1."""
    audio: tuple[AudioTrack, ...]
    metadata: Mapping[str, str]
    picture: bool
    """A still picture: one frame of a picture format. Its rate and length mean nothing."""
    stream: int
    """The index of the video's stream in the file."""
    start: Fraction
    """When the first frame is shown on the file's own clock, which the audio's times are on as well."""
    orientation: Orientation
    interlaced: bool
    notes: tuple[str, ...]
    """What a person should know of it, a phrase each: that its end is missing, its rate varies, it is HDR."""


def probe(path: Path) -> Source:
    """What the file is. Its first frames are decoded, and packets of its tail are read for where it ends.

    Raises UserError where it is no picture and no clip of two frames or more, or cannot be decoded, has a
    side below 16 or above 8192 pixels, or lasts longer than a day.
    """
    path = Path(path)
    with opened(path) as container:
        stream = video_stream(container, path)
        _check_sides(path, (stream.codec_context.width, stream.codec_context.height))
        head = list(islice(decoded(container, stream, demuxed(container, stream)), HEAD_FRAMES))
        if not head:
            raise UserError(f"{path}: {UNDECODABLE}")
        start, first = head[0]
        brand = container.metadata.get("major_brand", "").strip()
        still = container.format.name.endswith("_pipe") or (
            len(head) == 1 and (container.format.name in ANIMATED or brand in STILL_BRANDS)
        )
        if len(head) == 1 and not still:
            raise UserError(
                f"{path}: has one frame only; name a longer clip, or save it as a PNG for a picture"
            )
        rate, stated = stated_rate(container, stream), stated_end(stream)
        fps = _constant(rate, constant=rate == stream.base_rate or has_no_times(container))
        index, audio, metadata = stream.index, _audio(container), _metadata(container)
        aspect = stream.sample_aspect_ratio or Fraction(1)

    turned = _exif_orientation(path) if still else None
    turned = turned or orientation(first)
    # A width that is made is even, as H.264 wants it; one that is found stays.
    width = first.width if aspect == 1 else 2 * round_half_up(first.width * aspect / 2)
    height = first.height
    size = (height, width) if turned.swapped else (width, height)
    _check_sides(path, size)

    notes = ["is HDR, and is shown in SDR"] if is_hdr(first) else []
    seconds = 1 / fps
    if not still:
        seconds = max(end(path, index, start) - start, seconds)
        if seconds > MAX_SECONDS:
            raise UserError(f"{path}: lasts {clock(seconds)}, and a film a day at most; cut it first")
        if stated is not None and stated - start - seconds > max(MISSED_SECONDS, 2 / fps):
            notes.append(f"{DAMAGED}: only the first {clock(seconds)} of {clock(stated - start)} are there")
        elif is_cut_off(path):
            notes.append(f"{DAMAGED}: its end is missing, from {clock(seconds)} on")
        if abs(fps - rate) > NEAR * rate / 10:
            notes.append(f"goes at {float(rate):.5g} frames a second on average, taken as {float(fps):.5g}")
        # A clock that counts milliseconds cannot say when a frame ends; the rate can.
        whole = round_half_up(seconds * fps) / fps
        if abs(whole - seconds) < Fraction(1, 500):
            seconds = whole
    return Source(
        path=path,
        size=size,
        fps=fps,
        seconds=seconds,
        frames=max(round_half_up(seconds * fps), 1),
        audio=audio,
        metadata=metadata,
        picture=still,
        stream=index,
        start=start,
        orientation=turned,
        interlaced=not still and any(frame.interlaced_frame for _, frame in head),
        notes=tuple(notes),
    )


def frames(source: Source, start_frame: int = 0, end_frame: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """Frames start_frame ... end_frame - 1 [h w 3] of the source, one at a time, by seeking to the first.

    Without ``end_frame`` up to its last; never beyond it. A frame that is shown longer comes as the same
    array again. Raises UserError where the file cannot be read any more.
    """
    end_frame = source.frames if end_frame is None else min(end_frame, source.frames)
    if start_frame < 0:
        raise ValueError(f"a source has no frame {start_frame}")
    yield from at(source, range(start_frame, end_frame))


def at(source: Source, places: Iterable[int]) -> Iterator[NDArray[np.uint8]]:
    """The frames [h w 3] that have these numbers, which do not fall, one at a time, by seeking to the first.

    As ``frames``; those between them are decoded, and no more is done to them.
    """
    wanted = iter(places)
    place = next(wanted, None)
    if place is None:
        return
    begin = place / source.fps
    width, height = source.size[::-1] if source.orientation.swapped else source.size
    reformatter = VideoReformatter()

    def shown(frame: av.VideoFrame) -> NDArray[np.uint8]:
        try:
            return source.orientation.upright(rgb(frame, (width, height), reformatter))
        except av.FFmpegError as error:
            raise UserError(f"{source.path}: {UNDECODABLE}") from error

    held: av.VideoFrame | None = None
    for time, frame in decoded_from(
        source.path, source.stream, source.start, begin, interlaced=source.interlaced
    ):
        following = place_of(source, time)
        if held is not None and following > place:
            pixels = shown(held)
            while place < following:
                yield pixels
                place = next(wanted, None)
                if place is None:
                    return
        held = frame
    if held is None:
        raise UserError(
            f"{source.path}: cannot be decoded at {clock(begin)}: damaged; copy it again or cut that part"
        )
    pixels = shown(held)
    while place is not None:
        yield pixels
        place = next(wanted, None)


def place_of(source: Source, time: Fraction) -> int:
    """The number of the frame from which on the file's frame of this ``time``, on its own clock, is shown."""
    place = round_half_up((time - source.start) * source.fps)
    # A short last frame is shown all the same.
    return min(place, source.frames - 1) if time < source.start + source.seconds else place


def last(source: Source, count: int, fps: Fraction) -> Iterator[NDArray[np.uint8]]:
    """``count`` frames [h w 3]: what is shown at end - (count - k) / fps, k = 0 ... count - 1; by its tail.

    The end is that of its last frame at the constant rate. Raises UserError where the source is shorter.
    """
    end = source.frames / source.fps
    places = [floor((end - (count - k) / fps) * source.fps) for k in range(count)]
    if places[0] < 0:
        raise UserError(
            f"{source.path}: lasts {length(end)}, and {length(count / fps)} are needed to go on from; "
            "name a longer clip, or start from a picture"
        )
    return at(source, places)


def picture(source: Source) -> NDArray[np.uint8]:
    """A picture's pixels, or a clip's first frame [h w 3]."""
    return next(frames(source, 0, 1))


def _constant(rate: Fraction, *, constant: bool) -> Fraction:
    """The constant rate nearest to a stated one: a usual one where that is near, within 1 to 240."""
    usual = min(USUAL_RATES, key=lambda usual: abs(usual - rate))
    if abs(usual - rate) <= (ROUNDING if constant else NEAR) * usual:
        return usual
    return min(max(rate.limit_denominator(1001), Fraction(1)), Fraction(MAX_FPS))


def _check_sides(path: Path, size: tuple[int, int]) -> None:
    width, height = size
    if not (width and height):
        raise UserError(f"{path}: {UNDECODABLE}")
    if max(size) > MAX_SIDE_PX:
        raise UserError(
            f"{path}: is {width}x{height}; at most {MAX_SIDE_PX} pixels a side: scale it down first"
        )
    if min(size) < MIN_SIDE_PX:
        raise UserError(
            f"{path}: is {width}x{height}; at least {MIN_SIDE_PX} pixels a side: scale it up first"
        )


def _audio(container: InputContainer) -> tuple[AudioTrack, ...]:
    return tuple(
        AudioTrack(
            index=stream.index,
            codec=stream.codec_context.name,
            sample_rate=stream.codec_context.sample_rate,
            channels=stream.codec_context.channels,
            language=(stream.language or "").removeprefix("und"),
        )
        for stream in container.streams.audio
        if stream.codec_context is not None and stream.codec_context.sample_rate
    )


def _metadata(container: InputContainer) -> Mapping[str, str]:
    """The file's metadata, up to a size that another file may take over."""
    kept: dict[str, str] = {}
    room = MAX_METADATA_CHARACTERS
    for key, value in container.metadata.items():
        if len(key) + len(value) <= room:
            kept[key] = value
            room -= len(key) + len(value)
    return MappingProxyType(kept)


EXIF = re.compile(rb"(?:Exif\x00\x00|eXIf|EXIF.{4})(?=(II\*\x00|MM\x00\*)(.{4}))", re.DOTALL)
"""Where it begins in a JPEG, a PNG and a WebP; its order of bytes, and where its first directory lies."""
EXIF_ORIENTATION = 0x0112


def _exif_orientation(path: Path) -> Orientation | None:
    """A picture's orientation by its EXIF, or None without: PyAV tells the angle alone, and no mirroring."""
    content = path.read_bytes()
    found = EXIF.search(content)
    if found is None:
        return None
    order = "<" if found[1].startswith(b"I") else ">"
    exif = content[found.end() : found.end() + EXIF_MOST_BYTES]
    with suppress(struct.error):
        (at,) = struct.unpack(f"{order}I", found[2])
        (entries,) = struct.unpack_from(f"{order}H", exif, at)
        for entry in range(entries):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", exif, at + 2 + 12 * entry)
            if tag == EXIF_ORIENTATION and 1 <= value <= len(EXIF_ORIENTATIONS):
                return EXIF_ORIENTATIONS[value - 1]
    return None


EXIF_MOST_BYTES = 1 << 16
