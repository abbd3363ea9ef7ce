"""Files that are no use, and files that are damaged but are."""

from __future__ import annotations

import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from random import Random

import av
import numpy as np

from tests.video.clips import clip, picture


def malformed(folder: Path) -> Iterator[tuple[str, Path]]:
    """(name, path) of what is refused. They differ in what is wrong, and are written into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    yield from _no_files(folder)
    yield from _no_video(folder)
    yield from _cut(folder)
    yield from _broken_mp4(folder)
    yield from _out_of_range(folder)


def damaged(folder: Path) -> Iterator[tuple[str, Path]]:
    """(name, path) of clips of 50 frames that are used as far as they go: at least 20 and fewer than 50 can
    be read of those whose name begins with "cut"."""
    folder.mkdir(parents=True, exist_ok=True)
    every_ten = {"g": "10", "bf": "2"}
    noisy = {"frames": 50, "draw": _noise, "options": every_ten}
    whole = clip(folder / "whole.mp4", container_options={"movflags": "faststart"}, **noisy).read_bytes()
    yield "cut mp4, index in front", _written(folder, "front.mp4", whole[: len(whole) * 6 // 10])
    for suffix in ("mkv", "ts", "avi", "flv"):
        codec = "mpeg4" if suffix == "avi" else "libx264"
        content = clip(folder / f"whole.{suffix}", codec, **noisy).read_bytes()
        yield f"cut {suffix}", _written(folder, f"cut.{suffix}", content[: len(content) * 6 // 10])
    middle = bytearray(whole)
    middle[len(whole) // 2 : len(whole) // 2 + 3000] = Random(1).randbytes(3000)
    yield "broken in the middle", _written(folder, "middle.mp4", middle)
    stream = clip(folder / "whole.ts", **noisy).read_bytes()
    lost = stream[: 188 * 40] + stream[188 * 60 :]
    yield "packets lost", _written(folder, "lost.ts", lost)
    yield "packets lost at the start", _written(folder, "late.ts", stream[188 * 30 :])
    tail = whole[: len(whole) - 2000] + Random(2).randbytes(2000)
    yield "broken at the end", _written(folder, "tail.mp4", tail)


def _noise(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 255, (48, 64, 3), np.uint8)


def _written(folder: Path, name: str, content: bytes | bytearray | str) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _no_files(folder: Path) -> Iterator[tuple[str, Path]]:
    yield "missing", folder / "missing.mp4"
    yield "in no folder", folder / "nowhere" / "missing.mp4"
    yield "nul in its name", folder / "a\0b.mp4"
    yield "name too long", folder / f"{'x' * 300}.mp4"
    (folder / "folder.mp4").mkdir()
    yield "folder", folder / "folder.mp4"
    yield "below a file", _written(folder, "file.mp4", "text") / "clip.mp4"
    if sys.platform == "win32":
        return
    os.mkfifo(folder / "fifo.mp4")
    yield "fifo", folder / "fifo.mp4"
    yield "device", Path("/dev/zero")
    (folder / "dangling.mp4").symlink_to(folder / "gone.mp4")
    yield "dangling link", folder / "dangling.mp4"
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    yield "link to itself", folder / "loop.mp4"
    locked = clip(folder / "locked.mp4")
    locked.chmod(0)
    if not os.access(locked, os.R_OK):  # root may read it all the same
        yield "without permission", locked


def _no_video(folder: Path) -> Iterator[tuple[str, Path]]:
    random = Random(0)
    yield "empty", _written(folder, "empty.mp4", b"")
    yield "one byte", _written(folder, "byte.mp4", b"\0")
    yield "text named mp4", _written(folder, "text.mp4", "This is no film.\n" * 40)
    yield "text", _written(folder, "text.txt", "This is no film.\n" * 40)
    yield "timeline", _written(folder, "film.yaml", "shots:\n  - {prompt: a boat, seconds: 2}\n")
    page = "<!DOCTYPE html>\n<html><head><title>404</title></head><body>Not found</body></html>\n"
    yield "html page", _written(folder, "page.mp4", page)
    yield "svg", _written(folder, "drawing.svg", '<svg xmlns="http://www.w3.org/2000/svg" width="64"/>\n')
    yield "pdf", _written(folder, "paper.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + random.randbytes(2000))
    program = b"\x7fELF\x02\x01\x01" + bytes(9) + random.randbytes(4000)
    yield "program", _written(folder, "program.mp4", program)
    yield "random bytes", _written(folder, "random.mp4", random.randbytes(100_000))
    yield "random bytes named mkv", _written(folder, "random.mkv", random.randbytes(100_000))
    yield "zero bytes", _written(folder, "zeros.mp4", bytes(100_000))
    with zipfile.ZipFile(folder / "clip.zip", "w") as archive:
        archive.write(clip(folder / "packed.mp4"), "packed.mp4")
    yield "zip", folder / "clip.zip"
    yield "zip named mp4", _written(folder, "zipped.mp4", (folder / "clip.zip").read_bytes())
    listed = clip(folder / "listed.ts").name
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{listed}\n#EXT-X-ENDLIST\n"
    yield "playlist", _written(folder, "list.mp4", playlist)
    yield "playlist named m3u8", _written(folder, "list.m3u8", playlist)
    yield "list of files", _written(folder, "list.ffconcat", f"ffconcat version 1.0\nfile {listed}\n")
    yield "address", _written(folder, "stream.sdp", "v=0\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n")
    yield "sound", _sound(folder / "sound.wav", "pcm_s16le")
    yield "sound in mp4", _sound(folder / "sound.mp4", "aac")
    yield "sound with a cover", _covered(folder / "song.mp3", picture(folder / "cover.png", "png"))
    spoken = "1\n00:00:00,000 --> 00:00:02,000\nHello\n\n2\n00:00:02,000 --> 00:00:04,000\nthere\n\n"
    srt = _written(folder, "spoken.srt", spoken)
    yield "subtitles", srt
    with av.open(str(srt)) as source, av.open(str(folder / "spoken.mkv"), "w") as container:
        stream = container.add_stream_from_template(source.streams.subtitles[0])
        for packet in source.demux(subtitles=0):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    yield "subtitles in mkv", folder / "spoken.mkv"


def _sound(path: Path, codec: str) -> Path:
    with av.open(str(path), "w") as container:
        track = container.add_stream(codec, rate=8000, layout="mono")
        heard = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
        heard.sample_rate, heard.pts = 8000, 0
        container.mux(track.encode(heard))
        container.mux(track.encode())
    return path


def _covered(path: Path, cover: Path) -> Path:
    """An MP3 of silence with a picture in its ID3 tag."""
    content = b"\0image/png\0\3\0" + cover.read_bytes()
    frame = b"APIC" + struct.pack(">IH", len(content), 0) + content
    size = len(frame)
    tag = b"ID3\3\0\0" + bytes(size >> shift & 127 for shift in (21, 14, 7, 0)) + frame
    silence = (b"\xff\xfb\x90\xc0" + bytes(413)) * 40
    return _written(path.parent, path.name, tag + silence)


def _cut(folder: Path) -> Iterator[tuple[str, Path]]:
    whole = clip(folder / "whole.mp4").read_bytes()
    for count in (8, 40, 200, len(whole) // 2):
        yield f"mp4 cut after {count} bytes", _written(folder, f"cut{count}.mp4", whole[:count])
    for suffix, codec, count in [
        ("mkv", "libx264", 300),
        ("webm", "libvpx-vp9", 120),
        ("avi", "mpeg4", 150),
        ("ts", "libx264", 500),
        ("flv", "flv", 13),
        ("gif", "gif", 20),
    ]:
        source = folder / f"whole.{suffix}"
        clip(source, codec, pixel_format="rgb8" if codec == "gif" else "yuv420p")
        yield f"{suffix} cut in its header", _written(folder, f"cut.{suffix}", source.read_bytes()[:count])
    for suffix, codec, pixel_format in [("png", "png", "rgb24"), ("jpg", "mjpeg", "yuvj420p")]:
        content = picture(folder / f"whole.{suffix}", codec, pixel_format).read_bytes()
        yield f"{suffix} cut in its header", _written(folder, f"cut.{suffix}", content[:25])
    content = picture(folder / "whole.webp", "libwebp", "yuv420p").read_bytes()
    yield "webp cut in its header", _written(folder, "cut.webp", content[:25])


def _broken_mp4(folder: Path) -> Iterator[tuple[str, Path]]:
    options = {"movflags": "faststart"}
    whole = clip(folder / "front.mp4", container_options=options).read_bytes()
    boxes = dict(_boxes(whole))
    yield "mp4 of a header alone", _written(folder, "header.mp4", boxes[b"ftyp"])
    yield "mp4 without moov", _written(folder, "no_moov.mp4", boxes[b"ftyp"] + boxes[b"mdat"])
    yield "mp4 without mdat", _written(folder, "no_mdat.mp4", boxes[b"ftyp"] + boxes[b"moov"])
    noise = Random(3).randbytes(len(boxes[b"mdat"]) - 8)
    scrambled = whole.replace(boxes[b"mdat"][8:], noise)
    yield "mp4 that looks encrypted", _written(folder, "scrambled.mp4", scrambled)
    moov = boxes[b"moov"][:8] + Random(4).randbytes(len(boxes[b"moov"]) - 8)
    yield "mp4 with a broken moov", _written(folder, "moov.mp4", boxes[b"ftyp"] + moov + boxes[b"mdat"])
    unknown = whole.replace(b"avc1" + bytes(6), b"zzzz" + bytes(6))
    yield "mp4 of an unknown codec", _written(folder, "codec.mp4", unknown)
    lost = whole.index(b"stco") + 12
    far = whole[:lost] + struct.pack(">I", 0x7FFFFFFF) + whole[lost + 4 :]
    yield "mp4 that points beyond itself", _written(folder, "far.mp4", far)
    none = whole.index(b"stsz") + 12
    yield "mp4 of no samples", _written(folder, "none.mp4", whole[:none] + bytes(4) + whole[none + 4 :])
    mkv = clip(folder / "scrambled.mkv").read_bytes()
    begin = mkv.index(b"\x1f\x43\xb6\x75") + 4
    garbled = mkv[:begin] + Random(5).randbytes(len(mkv) - begin)
    yield "mkv that goes on with noise", _written(folder, "garbled.mkv", garbled)
    yield "h264 of noise", _written(folder, "noise.h264", b"\0\0\0\1\x67" + Random(6).randbytes(5000))
    yield "ts of nothing", _written(folder, "nothing.ts", (b"\x47\x1f\xff\x10" + b"\xff" * 184) * 60)


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    while content:
        (size,) = struct.unpack(">I", content[:4])
        yield content[4:8], content[:size]
        content = content[size:]


def _out_of_range(folder: Path) -> Iterator[tuple[str, Path]]:
    yield "one frame", clip(folder / "one.mp4", frames=1)
    yield "one frame in mkv", clip(folder / "one.mkv", frames=1)
    yield "no size", _written(folder, "no_size.y4m", b"YUV4MPEG2 W0 H0 F25:1 Ip\nFRAME\n")
    yield "too large", clip(folder / "large.mkv", "ffv1", 2, size=(8208, 16))
    yield "too large a picture", picture(folder / "large.png", "png", size=(16, 8200))
    yield "too small", clip(folder / "small.gif", "gif", 3, size=(8, 8), pixel_format="rgb8")
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100_000))), (b"IEND", b"")]
    bomb = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        bomb += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    yield "png that would fill the memory", _written(folder, "bomb.png", bomb)
    day = 24 * 60 * 60
    yield (
        "longer than a day",
        clip(folder / "days.mkv", frames=2, times=[0, 3 * day * 1000], time_base=Fraction(1, 1000)),
    )
