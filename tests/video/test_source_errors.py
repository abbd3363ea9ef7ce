"""What is no use is refused in one line, without noise; what is damaged is used as far as it goes."""

import re
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from random import Random

import numpy as np
import pytest

from longvid.errors import UserError
from longvid.video import source
from tests.video.clips import SIZE, clip, picture
from tests.video.corpus import damaged, malformed

SAYS = {
    "missing": "no such file",
    "in no folder": "no such file",
    "folder": "is a folder",
    "fifo": "is a device or a pipe",
    "device": "is a device or a pipe",
    "dangling link": "is a link to a file that is not there",
    "without permission": "may not be read",
    "empty": "is empty",
    "text named mp4": "is text",
    "text": "is text",
    "timeline": "is text",
    "html page": "is text",
    "list of files": "is text",
    "address": "is text",
    "zip": "is a zip archive; unpack it",
    "zip named mp4": "is a zip archive; unpack it",
    "playlist": "is a playlist; name the clip itself",
    "playlist named m3u8": "is a playlist; name the clip itself",
    "sound": "is sound, and has no video",
    "sound in mp4": "is sound, and has no video",
    "sound with a cover": "is sound with a cover picture, and has no video",
    "subtitles": "is subtitles, and has no video",
    "subtitles in mkv": "is subtitles, and has no video",
    "mp4 of a header alone": "its index is missing",
    "mp4 without moov": "its index is missing",
    "mp4 without mdat": "nothing in it can be decoded",
    "mp4 that looks encrypted": "nothing in it can be decoded",
    "mp4 with a broken moov": "names no streams",
    "mp4 of an unknown codec": "of a kind that cannot be decoded here",
    "svg": "of a kind that cannot be decoded here",
    "one frame": "one frame only; name a longer clip",
    "one frame in mkv": "one frame only; name a longer clip",
    "too large": "is 8208x16; at most 8192 pixels a side",
    "too large a picture": "is 16x8200; at most 8192 pixels a side",
    "too small": "is 8x8; at least 16 pixels a side",
    "png that would fill the memory": "too large",
    "longer than a day": "lasts 72:00:00.04, and a film a day at most",
}


def test_each_malformed_file_gives_one_clear_line_and_no_noise(tmp_path, capfd):
    names = set()
    for name, path in malformed(tmp_path / "malformed"):
        capfd.readouterr()  # the writers' noise, not the readers'
        begin = time.perf_counter()
        with pytest.raises(UserError) as caught:
            source.probe(path)
        assert time.perf_counter() - begin < 2, name
        said = str(caught.value)
        assert said.startswith(f"{path}: "), name
        what = said.removeprefix(f"{path}: ")
        assert "\n" not in what, name
        assert 10 < len(what) < 160, name
        assert re.search(SAYS.get(name, ""), what), (name, said)
        assert capfd.readouterr() == ("", ""), name
        names.add(name)
    assert len(names) >= 60
    assert SAYS.keys() - {"without permission"} <= names


def test_damaged_clips_are_used_as_far_as_they_go(tmp_path, capfd):
    for name, path in damaged(tmp_path / "damaged"):
        capfd.readouterr()
        found = source.probe(path)
        frames = list(source.frames(found))
        assert len(frames) == found.frames
        assert all(frame.shape == (SIZE[1], SIZE[0], 3) for frame in frames)
        assert np.array_equal(np.stack(list(source.last(found, 4, found.fps))), np.stack(frames[-4:])), name
        if name.startswith("cut"):
            assert 10 <= found.frames <= 32, name
            told = "" if name in ("cut ts", "cut flv") else "is damaged: "
            assert "".join(found.notes).startswith(told), name
        else:
            assert 40 <= found.frames <= 50, name
        assert capfd.readouterr() == ("", ""), name


def test_the_limit_of_size_itself_is_allowed(tmp_path):
    found = source.probe(picture(tmp_path / "a.png", "png", size=(8192, 16)))
    assert found.size == (8192, 16)
    found = source.probe(picture(tmp_path / "b.jpg", "mjpeg", "yuvj420p", size=(8192, 8192)))
    assert source.picture(found).shape == (8192, 8192, 3)


def test_whatever_is_broken_ends_in_frames_or_in_one_line(tmp_path):
    """Bytes changed, cut out and cut off at random, in every kind of file."""
    random = Random(0)
    kinds = {
        "mp4": ("libx264", "yuv420p"),
        "mkv": ("libx264", "yuv420p"),
        "webm": ("libvpx-vp9", "yuv420p"),
        "ts": ("libx264", "yuv420p"),
        "avi": ("mpeg4", "yuv420p"),
        "gif": ("gif", "rgb8"),
        "apng": ("apng", "rgb24"),
    }
    wholes = {
        suffix: clip(tmp_path / f"a.{suffix}", *_made(kind)).read_bytes() for suffix, kind in kinds.items()
    }
    animated = clip(tmp_path / "a.webp", "libwebp_anim", pixel_format="yuv420p", format="webp")
    wholes["webp"] = animated.read_bytes()
    wholes["png"] = picture(tmp_path / "a.png", "png").read_bytes()
    wholes["jpg"] = picture(tmp_path / "a.jpg", "mjpeg", "yuvj420p").read_bytes()
    for turn in range(120):
        suffix = list(wholes)[turn % len(wholes)]
        content = bytearray(wholes[suffix])
        at = random.randrange(len(content))
        kind = turn // len(wholes) % 3
        if kind == 0:
            for _ in range(10):
                content[random.randrange(len(content))] = random.randrange(256)
        elif kind == 1:
            del content[at : at + 200]
        else:
            del content[at:]
        path = tmp_path / f"broken.{suffix}"
        path.write_bytes(content)
        try:
            found = source.probe(path)
            for count, _ in enumerate(source.frames(found)):
                if count > 100:
                    break
            list(source.last(found, 1, found.fps))
        except UserError as error:
            assert "\n" not in str(error)


def _made(kind: tuple[str, str]) -> tuple:
    codec, pixel_format = kind
    return codec, 12, Fraction(25), SIZE, pixel_format


def test_a_playlist_opens_no_other_file(tmp_path):
    clip(tmp_path / "secret.ts")
    lists = {
        "a.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n",
        "a.ffconcat": "ffconcat version 1.0\nfile secret.ts\n",
    }
    for name, content in lists.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError):
            source.probe(tmp_path / name)


def test_a_name_that_looks_like_a_protocol_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a|b.mp4", "pipe:0", "http:x.mp4", "-", "%03d.mp4"):
        clip(tmp_path / "clip.mp4").rename(tmp_path / name)
        assert source.probe(Path(name)).frames == 12


def test_errors_are_quiet_in_a_process_of_their_own(tmp_path):
    """Where nothing else has set FFmpeg's log."""
    path = next(path for name, path in damaged(tmp_path) if name == "broken in the middle")
    program = (
        f"from longvid.video import source; print(len(list(source.frames(source.probe({str(path)!r})))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("50\n", "")
