"""Small clips and pictures of every kind, written by PyAV, whose pixels tell which frame they are."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

SIZE = (64, 48)


LEVELS = 20
"""Greys that no codec's error mistakes for each other."""


def pixels(index: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """[h w 3]: red at the top left, blue below; at the right two greys, which are the digits of ``index``."""
    width, height = size
    frame = np.empty((height, width, 3), np.uint8)
    frame[: height // 2, : width // 2] = 230, 20, 20
    frame[height // 2 :, : width // 2] = 20, 20, 230
    frame[: height // 2, width // 2 :] = 30 + 10 * (index % LEVELS)
    frame[height // 2 :, width // 2 :] = 30 + 10 * (index // LEVELS % LEVELS)
    return frame


def which(frame: np.ndarray) -> int:
    """The index of the frame, below 400."""
    height, width = frame.shape[:2]
    right = frame[:, -width // 4 :]
    halves = right[height // 8 : 3 * height // 8], right[-3 * height // 8 : -height // 8]
    low, high = (round((half.mean() - 30) / 10) for half in halves)
    return low + LEVELS * high


def clip(
    path: Path,
    codec: str = "libx264",
    frames: int = 12,
    fps: Fraction = Fraction(25),
    size: tuple[int, int] = SIZE,
    pixel_format: str = "yuv420p",
    *,
    format: str | None = None,
    times: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    set_up: Callable[[Any, Any], None] | None = None,
    draw: Callable[[int], np.ndarray] | None = None,
    drawn_format: str = "rgb24",
    sound: int = 0,
    metadata: dict[str, str] | None = None,
) -> Path:
    """A clip. ``times``: of each frame in ticks of ``time_base``; ``sound``: how many tracks of it."""
    with av.open(str(path), "w", format=format, options=container_options or {}) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=fps, options={"threads": "1", **(options or {})})
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        stream.codec_context.time_base = time_base or 1 / fps
        if set_up:
            set_up(container, stream)
        tracks = [container.add_stream("aac", rate=48000, layout="mono") for _ in range(sound)]
        for number, track in enumerate(tracks):
            track.metadata["language"] = ("eng", "deu", "fra")[number]
        for index in range(frames):
            drawn = draw(index) if draw else pixels(index, size)
            frame = av.VideoFrame.from_ndarray(drawn, format=drawn_format).reformat(format=pixel_format)
            frame.pts, frame.time_base = times[index] if times else index, time_base or 1 / fps
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        for track in tracks:
            samples = np.zeros((1, int(48000 * frames / fps)), np.float32)
            heard = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            heard.sample_rate, heard.pts = 48000, 0
            container.mux(track.encode(heard))
            container.mux(track.encode())
    return path


def long_clip(path: Path, seconds: int, fps: int = 2, sound: bool = False) -> Path:
    """A clip of any length within a moment: one closed group of pictures, again and again."""
    group = path.with_name("group.mp4")
    clip(group, frames=20 * fps, fps=Fraction(fps), options={"g": "1000"})
    with av.open(str(group)) as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        track = container.add_stream("aac", rate=8000, layout="mono") if sound else None
        packets = [(p.pts, p.dts, bytes(p), p.is_keyframe) for p in source.demux(video=0) if p.size]
        tick = source.streams.video[0].time_base
        for number in range(seconds // 20):
            for pts, dts, content, key in packets:
                packet = av.Packet(content)
                packet.pts, packet.dts = (time + int(20 * number / tick) for time in (pts, dts))
                packet.time_base, packet.stream, packet.is_keyframe = tick, stream, key
                packet.duration = int(1 / (fps * tick))
                container.mux(packet)
            if track:
                heard = av.AudioFrame.from_ndarray(np.zeros((1, 160_000), np.float32), "fltp", "mono")
                heard.sample_rate, heard.pts, heard.time_base = 8000, 160_000 * number, Fraction(1, 8000)
                container.mux(track.encode(heard))
        if track:
            container.mux(track.encode())
    return path


def picture(path: Path, codec: str, pixel_format: str = "rgb24", size: tuple[int, int] = SIZE) -> Path:
    """A still picture."""
    format = "webp" if codec == "libwebp" else "image2pipe"
    return clip(path, codec, 1, size=size, pixel_format=pixel_format, format=format)


def exif(orientation: int, order: str = "<") -> bytes:
    """The EXIF of a picture that says so."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    entries = [(0x0100, 4, 1, 64), (0x0112, 3, 1, orientation)]
    body = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        packed = struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}I", value)
        body += struct.pack(f"{order}HHI", tag, kind, count) + packed
    return head + body + struct.pack(f"{order}I", 0)


def turned_jpeg(path: Path, orientation: int, order: str = "<") -> Path:
    content = picture(path, "mjpeg", "yuvj444p").read_bytes()
    tag = b"Exif\0\0" + exif(orientation, order)
    path.write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(tag) + 2) + tag + content[2:])
    return path


def turned_png(path: Path, orientation: int) -> Path:
    content = picture(path, "png").read_bytes()
    tag = exif(orientation, ">")
    chunk = struct.pack(">I", len(tag)) + b"eXIf" + tag + struct.pack(">I", zlib.crc32(b"eXIf" + tag))
    path.write_bytes(content[:33] + chunk + content[33:])
    return path


def turned_webp(path: Path, orientation: int) -> Path:
    body = picture(path, "libwebp", "yuv420p").read_bytes()[12:]
    tag = exif(orientation)
    sides = struct.pack("<I", SIZE[0] - 1)[:3] + struct.pack("<I", SIZE[1] - 1)[:3]
    content = b"VP8X" + struct.pack("<I", 10) + bytes([8, 0, 0, 0]) + sides + body
    content += b"EXIF" + struct.pack("<I", len(tag)) + tag
    path.write_bytes(b"RIFF" + struct.pack("<I", len(content) + 4) + b"WEBP" + content)
    return path
