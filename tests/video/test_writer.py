import hashlib
import io
import re
import subprocess
import sys
import textwrap
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from longvid.errors import RenderError
from longvid.video import reader
from longvid.video.writer import Chapter, encode, join

FPS = Fraction(12)


def picture(count: int, start: int = 0, height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth frames [count h w 3] in motion, so that the encoder uses B-frames."""
    y, x = np.mgrid[:height, :width]
    shift = np.arange(start, start + count)[:, None, None]
    planes = [127 + 120 * np.sin(x / 9 + shift / 4) * np.cos(y / 11 + k) for k in range(3)]
    return np.stack(planes, axis=-1).astype(np.uint8)


@pytest.fixture
def segments(tmp_path):
    """Segments of 16, 1, 2, 3 and 16 frames: the short ones have less reordering than the long ones."""
    paths, start = [], 0
    for number, count in enumerate([16, 1, 2, 3, 16]):
        path = tmp_path / f"{number:06d}.mp4"
        path.write_bytes(encode(picture(count, start), FPS, 18))
        paths.append(path)
        start += count
    return paths


def decoded(path) -> list[tuple[Fraction, str]]:
    return [(time, hashlib.sha256(pixels.tobytes()).hexdigest()) for time, pixels in reader.frames(path)]


def test_a_segment_holds_its_frames_at_exact_times(tmp_path):
    path = tmp_path / "segment.mp4"
    path.write_bytes(encode(picture(16), FPS, 18))
    times, pixels = zip(*reader.frames(path), strict=True)
    assert list(times) == [Fraction(i, 12) for i in range(16)]
    error = np.stack(pixels).astype(int) - picture(16)
    assert np.abs(error).mean() < 3
    assert np.abs(error.mean(axis=(0, 1, 2))).max() < 0.6, "the colours must come back without a cast"


def test_equal_frames_give_equal_bytes_here_and_in_another_process():
    here = {encode(picture(16), FPS, 18) for _ in range(3)}
    assert len(here) == 1
    program = """
from tests.video.test_writer import FPS, encode, hashlib, picture
print(hashlib.sha256(encode(picture(16), FPS, 18)).hexdigest())
"""
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert there.strip() == hashlib.sha256(here.pop()).hexdigest()


def test_odd_sides_are_refused():
    with pytest.raises(ValueError, match="even"):
        encode(picture(2, width=63), FPS, 18)


@pytest.mark.parametrize("fps", [Fraction(12), Fraction(24), Fraction(30000, 1001), Fraction(25, 2)])
def test_join_loses_no_frame_and_keeps_exact_time(tmp_path, fps):
    paths = []
    for number, count in enumerate([5, 1, 17]):
        paths.append(tmp_path / f"{number}.mp4")
        paths[-1].write_bytes(encode(picture(count, 100 * number), fps, 18))
    film = tmp_path / "film.mp4"
    assert join(paths, film, fps) == 23
    assert [time for time, _ in decoded(film)] == [i / fps for i in range(23)]
    assert reader.header(film).frames == 23
    assert reader.header(film).fps == fps
    assert [pixels for _, pixels in decoded(film)] == [
        pixels for path in paths for _, pixels in decoded(path)
    ]


def test_short_segments_keep_decoding_times_rising(segments, tmp_path):
    film = tmp_path / "film.mp4"
    assert join(segments, film, FPS) == 38
    with av.open(str(film)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert all(a.dts < b.dts for a, b in pairwise(packets))
    assert all(packet.dts <= packet.pts for packet in packets)
    assert sorted(packet.pts * packet.time_base for packet in packets) == [i / FPS for i in range(38)]
    assert sum(packet.is_keyframe for packet in packets) == 5
    assert [time for time, _ in decoded(film)] == [i / FPS for i in range(38)]


def test_chapters_and_metadata_come_back(segments, tmp_path):
    film = tmp_path / "film.mp4"
    chapters = [Chapter("ein rotes Boot: «früh»", 0, 17), Chapter("the sea", 17, 38)]
    metadata = {"title": "Boats", "seed": "7", "model": "tiny", "prompts": '["a", "ü"]', "longvid": "0.1.0"}
    join(segments, film, FPS, chapters, metadata)
    found = reader.header(film)
    assert [title for title, _, _ in found.chapters] == [chapter.title for chapter in chapters]
    assert [start for _, start, _ in found.chapters] == [0, pytest.approx(Fraction(17, 12), abs=1e-3)]
    assert metadata.items() <= found.metadata.items()


def test_the_file_names_no_date_host_or_path_and_begins_with_its_index(segments, tmp_path):
    film = tmp_path / "film.mp4"
    join(segments, film, FPS, [Chapter("one", 0, 38)], {"title": "x"})
    content = film.read_bytes()
    assert str(tmp_path).encode() not in content
    assert not re.search(rb"20\d\d-\d\d-\d\d", content)
    boxes, at = [], 0
    while at < len(content):
        boxes.append(content[at + 4 : at + 8])
        at += int.from_bytes(content[at : at + 4], "big")
    assert boxes[:2] == [b"ftyp", b"moov"]
    header = content.index(b"mvhd")
    assert content[header + 8 : header + 16] == bytes(8), "no creation or modification time"


def test_joining_twice_gives_equal_bytes_and_leaves_nothing_else(segments, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        join(segments, folder / name, FPS, [Chapter("one", 0, 38)], {"title": "x"})
    assert (folder / "a.mp4").read_bytes() == (folder / "b.mp4").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["a.mp4", "b.mp4"]


def test_a_damaged_or_missing_segment_is_named_and_the_old_film_stays(segments, tmp_path):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"the old one")
    segments[2].write_bytes(segments[2].read_bytes()[:100])
    with pytest.raises(RenderError, match=r"000002\.mp4"):
        join(segments, film, FPS)
    segments[2].unlink()
    with pytest.raises(RenderError, match=r"000002\.mp4"):
        join(segments, film, FPS)
    assert film.read_bytes() == b"the old one"
    assert not list(tmp_path.glob(".*"))


def test_segments_of_other_settings_are_not_joined(segments, tmp_path):
    segments[1].write_bytes(encode(picture(4, height=32), FPS, 18))
    with pytest.raises(RenderError, match="other settings"):
        join(segments, tmp_path / "film.mp4", FPS)


def test_a_disk_that_refuses_leaves_the_old_film(segments, tmp_path):
    """A file may grow to 8 KiB and no further: what a full disk does, from the operating system itself."""
    film = tmp_path / "film.mp4"
    film.write_bytes(b"the old one")
    program = f"""
        import resource, signal, pathlib
        from tests.video.test_writer import FPS
        from longvid.errors import RenderError
        from longvid.video.writer import join
        segments = sorted(pathlib.Path({str(tmp_path)!r}).glob("0*.mp4"))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        try:
            join(segments, pathlib.Path({str(film)!r}), FPS)
        except RenderError as error:
            print(error)
    """
    run = [sys.executable, "-c", textwrap.dedent(program)]
    said = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert "film.mp4: cannot be written: File too large" in said
    assert film.read_bytes() == b"the old one"
    assert not list(tmp_path.glob(".*"))


def test_a_closed_segment_is_a_film_of_its_own():
    with av.open(io.BytesIO(encode(picture(3), FPS, 18))) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt, codec.profile) == ("h264", "yuv420p", "High")
        assert (codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range) == (1, 1, 1, 1)
