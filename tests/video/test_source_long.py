"""Hours of film: only the head and the tail are read, and memory stays where it is."""

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from longvid.video import decoding, opening, source
from tests.video.clips import clip, long_clip, which

HOURS = 4 * 60 * 60


class Counted:
    """A file that counts the bytes that are read from it."""

    def __init__(self, file):
        self.file, self.bytes = file, 0

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def read(self, count=-1):
        content = self.file.read(count)
        self.bytes += len(content)
        return content


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_four_hours_are_probed_and_gone_on_from_by_seeking(tmp_path, suffix, monkeypatch):
    path = long_clip(tmp_path / f"long.{suffix}", HOURS)
    files, packets, frames = [], [], []

    def counted_file(path, _open=opening._file):
        files.append(Counted(_open(path)))
        return files[-1]

    def counted(function, seen):
        def count(*arguments):
            for one in function(*arguments):
                seen.append(1)
                yield one

        return count

    monkeypatch.setattr(opening, "_file", counted_file)
    monkeypatch.setattr(decoding, "from_key", counted(decoding.from_key, packets))
    monkeypatch.setattr(decoding, "decoded", counted(decoding.decoded, frames))

    found = source.probe(path)
    assert (found.fps, found.seconds, found.frames) == (2, HOURS, 2 * HOURS)
    tail = list(source.last(found, 8, Fraction(2)))
    assert [which(frame) for frame in tail] == list(range(32, 40))
    middle = list(source.frames(found, HOURS + 5, HOURS + 9))
    assert [which(frame) for frame in middle] == [5, 6, 7, 8]

    assert len(frames) <= 120
    assert len(packets) <= 250
    read, size = sum(file.bytes for file in files), path.stat().st_size
    # MP4's index is read each time, and is a good part of a film of such tiny pictures.
    assert read < size * (0.9 if suffix == "mp4" else 0.35), (read, size)


def test_memory_stays_flat_over_hours_and_over_frames(tmp_path):
    pytest.importorskip("resource", reason="Windows cannot tell how much memory was used")
    short, long = long_clip(tmp_path / "a.mkv", 60), long_clip(tmp_path / "b.mkv", HOURS)
    wide = clip(tmp_path / "wide.mp4", frames=300, size=(320, 240), options={"preset": "ultrafast"})
    program = f"""
import resource
from fractions import Fraction
from longvid.video import source

def used():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def go_on(path):
    found = source.probe(path)
    list(source.last(found, 8, Fraction(2)))

go_on({str(short)!r})
print(used())
go_on({str(long)!r})
print(used())
found = source.probe({str(wide)!r})
for index, frame in enumerate(source.frames(found)):
    if index in (60, 299):
        print(used())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    short_mb, long_mb, early_mb, late_mb = map(int, done.stdout.split())
    assert long_mb - short_mb < 12, done.stdout
    assert late_mb - early_mb < 6, done.stdout  # 240 frames are 55 MB


def test_a_clip_without_keyframes_is_read_from_its_start(tmp_path):
    path = clip(tmp_path / "a.mkv", frames=200, options={"g": "1000", "keyint_min": "1000"})
    found = source.probe(path)
    assert found.frames == 200
    whole = [frame.copy() for frame in source.frames(found)]
    assert np.array_equal(np.stack(list(source.last(found, 3, Fraction(25)))), np.stack(whole[-3:]))
