"""Files that others made, opened for reading: whatever is wrong with one is said in one line."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import av

from longvid.errors import UserError
from longvid.values import MAX_SIDE_PX
from longvid.video import webp

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

NO_CLIP = "is no clip or picture that can be read"
CONVERT = "convert it to MP4 or PNG"
TEXT_FORMATS = {"tty", "bin", "xbin", "adf", "idf"}
"""Demuxers that draw any text as a picture of a terminal."""
ATTACHED = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """The file, to read from. Raises UserError, also for what FFmpeg meets inside the context.

    It is opened by us and handed over as bytes: FFmpeg opens nothing else, whatever a playlist or a reference
    inside it names, and a file's name is never taken for a protocol's.
    """
    with _file(path) as file:
        head = file.read(HEAD_BYTES)
        if not head:
            raise UserError(f"{path}: is empty; copy or download it again")
        file.seek(0)
        try:
            container = av.open(
                _readable(file, head),
                "r",
                metadata_errors="replace",
                options={"protocol_whitelist": "none", "max_pixels": str(MAX_SIDE_PX**2)},
            )
        except (av.FFmpegError, ValueError, IndexError) as error:
            raise UserError(f"{path}: {_unread(head)}") from error
        with container:
            if container.format.name in TEXT_FORMATS:
                raise UserError(f"{path}: {_unread(head)}")
            try:
                yield container
            except av.FFmpegError as error:
                raise UserError(f"{path}: cannot be read: {error.strerror}; {CONVERT} first") from error


def _file(path: Path) -> BinaryIO:
    try:
        # Without waiting for a pipe's other end: it is refused.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except PermissionError as error:
        raise UserError(f"{path}: may not be read; `chmod u+r` lets you, if it is yours") from error
    except FileNotFoundError as error:
        what = "is a link to a file that is not there" if path.is_symlink() else "there is no such file"
        raise UserError(f"{path}: {what}; name a clip or a picture file") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        what = "is a folder" if stat.S_ISDIR(mode) else "is a device or a pipe"
        raise UserError(f"{path}: {what}; name a clip or a picture file")
    return os.fdopen(descriptor, "rb")


HEAD_BYTES = 512


def _readable(file: BinaryIO, head: bytes) -> BinaryIO:
    """The file, or, of an animated WebP, what FFmpeg can read in its place."""
    if webp.is_animated(head) and max(webp.size(head)) <= MAX_SIDE_PX:
        return webp.redrawn(file.read())
    return file


def is_cut_off(path: Path) -> bool:
    """Whether a Matroska or WebM file is shorter than it says; others tell their length in frames."""
    with _file(path) as file:
        head = file.read(HEAD_BYTES)
        length = os.fstat(file.fileno()).st_size
    at = head.find(MATROSKA_SEGMENT)
    size = head[at + 4 : at + 12]
    if at < 0 or len(size) < 8 or size[0] != 1 or size[1:] == b"\xff" * 7:
        return False  # no Matroska, or written without knowing its length
    return at + 12 + int.from_bytes(size[1:], "big") > length


MATROSKA_SEGMENT = b"\x18\x53\x80\x67"


def _unread(head: bytes) -> str:
    """What a file is that FFmpeg cannot make out, by its first bytes, and what to do."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
        return "is a damaged MP4: its index is missing or broken (cut off while being recorded or copied?)"
    if head.startswith(b"PK\x03\x04"):
        return "is a zip archive; unpack it and name the clip inside"
    if head.startswith(b"#EXTM3U"):
        return "is a playlist; name the clip itself"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "is a damaged or too large WebP; copy it again or convert it to MP4 or PNG"
    if not any(byte < 9 or 13 < byte < 32 for byte in head.removeprefix(b"\xef\xbb\xbf")):
        return "is text, no clip or picture; name a video or picture file"
    return f"{NO_CLIP}: damaged, encrypted or of an unknown format; {CONVERT} first"


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The stream of moving pictures that players show. Raises UserError where there is none to decode."""
    streams = [stream for stream in container.streams.video if not stream.disposition & ATTACHED]
    if not streams:
        if container.streams.video:
            raise UserError(
                f"{path}: is sound with a cover picture, and has no video; name a clip or a picture"
            )
        if container.streams.audio:
            raise UserError(f"{path}: is sound, and has no video; name a clip or a picture")
        what = "is subtitles" if container.streams.subtitles else "names no streams (is it damaged?)"
        raise UserError(f"{path}: {what}, and has no video; name a clip or a picture")
    best = container.streams.best("video")
    stream = next(
        (stream for stream in streams if best is not None and stream.index == best.index), streams[0]
    )
    if stream.codec_context is None:
        raise UserError(f"{path}: is of a kind that cannot be decoded here; {CONVERT} first")
    return stream
