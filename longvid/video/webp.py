"""Animated WebP, which FFmpeg's decoder leaves out: its frames are drawn and packed so that it reads them."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np

HEAD_BYTES = 30
ANIMATION, ALPHA = 0x02, 0x10
BACKGROUND_AFTER, OPAQUE = 0x01, 0x02
"""Flags of a file, and of a frame: that its place is emptied after it, that it covers what is below."""
MILLISECOND = Fraction(1, 1000)


def is_animated(head: bytes) -> bool:
    """Whether a file that begins so is an animated WebP."""
    return len(head) >= HEAD_BYTES and head[8:16] == b"WEBPVP8X" and bool(head[20] & ANIMATION)


def size(head: bytes) -> tuple[int, int]:
    """Width, height in pixels."""
    return _u24(head, 24) + 1, _u24(head, 27) + 1


def redrawn(content: bytes) -> io.BytesIO:
    """The animation as a clip without loss, or as a PNG if it has one frame, over black.

    Such files are small: it is made in memory.

    Raises ValueError or av.FFmpegError where it is damaged.
    """
    width, height = size(content)
    canvas = np.zeros((height, width, 3), np.uint8)
    decoder = av.CodecContext.create("webp", "r")
    file, time = io.BytesIO(), 0
    frames = [body for name, body in _chunks(content[12:]) if name == b"ANMF" and len(body) >= 16]
    with av.open(file, "w", format="mov" if len(frames) > 1 else "image2pipe") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb24"
        stream.codec_context.time_base = MILLISECOND
        for body in frames:
            left, top, milliseconds, flags = 2 * _u24(body, 0), 2 * _u24(body, 3), _u24(body, 12), body[15]
            frame = decoder.decode(av.Packet(_still(body)))[0]
            assert isinstance(frame, av.VideoFrame)
            drawn = frame.to_ndarray(format="rgba")
            place = canvas[top : top + frame.height, left : left + frame.width]
            if place.shape[:2] != drawn.shape[:2]:
                raise ValueError("a frame lies outside of its picture")
            alpha = drawn[..., 3:] / np.float32(255)
            below = 0 if flags & OPAQUE else (1 - alpha) * place
            place[:] = alpha * drawn[..., :3] + below + np.float32(0.5)
            shown = av.VideoFrame.from_ndarray(canvas, format="rgb24")
            shown.pts, shown.time_base = time, MILLISECOND
            for packet in stream.encode(shown):
                packet.duration = max(milliseconds, 1)
                container.mux(packet)
            time += max(milliseconds, 1)
            if flags & BACKGROUND_AFTER:
                place[:] = 0
        container.mux(stream.encode())
    file.seek(0)
    return file


def _still(body: bytes) -> bytes:
    """A frame of an animation as a WebP of its own."""
    chunks = [(name, part) for name, part in _chunks(body[16:]) if name in (b"ALPH", b"VP8 ", b"VP8L")]
    if chunks and chunks[0][0] == b"ALPH":
        chunks.insert(0, (b"VP8X", bytes([ALPHA, 0, 0, 0]) + body[6:12]))
    content = b"WEBP"
    for name, part in chunks:
        content += name + struct.pack("<I", len(part)) + part + bytes(len(part) % 2)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(content):
        (length,) = struct.unpack_from("<I", content, at + 4)
        yield content[at : at + 4], content[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _u24(content: bytes, at: int) -> int:
    return int.from_bytes(content[at : at + 3], "little")
