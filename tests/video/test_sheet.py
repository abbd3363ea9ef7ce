"""Contact sheets show the frames that a player shows at those times."""

from __future__ import annotations

import runpy
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from longvid.video import reader, sheet, source, writer
from longvid.video.writer import Chapter

LEVELS = (40, 90, 140, 190)


@pytest.fixture
def film(tmp_path):
    """Four grey frames of 64 x 32, half a second each."""
    frames = np.stack([np.full((32, 64, 3), level, np.uint8) for level in LEVELS])
    path = tmp_path / "film.mp4"
    path.write_bytes(writer.encode(frames, Fraction(2), 10))
    return path


def test_a_strip_shows_the_frame_at_each_time(film):
    strip = sheet.strip(film, [0, 0.4, Fraction(1, 2), 1.9, 5], width_px=16)
    assert strip.shape == (8, 5 * 16, 3)
    shown = strip.reshape(8, 5, 16, 3).mean((0, 2, 3))
    assert np.abs(shown - [40, 40, 90, 190, 190]).max() < 2


def test_a_film_in_pieces_gives_the_strip_of_the_film(film, tmp_path):
    """The piece that is not shown need not even be there."""
    pieces = [(film, 4), (tmp_path / "missing.mp4", 3), (film, 4)]
    strip = sheet.segments_strip(pieces, [0, 3, 8, 10], width_px=16)
    assert (strip == sheet.strip(film, [0, 1.5, 1.5, 5], width_px=16))[:, :32].all()
    assert (strip[:, 32:48] == sheet.strip(film, [0.5], width_px=16)).all()
    assert strip.shape == (8, 4 * 16, 3)


def test_a_film_is_read_no_further_than_it_is_shown(film, monkeypatch):
    decoded = []

    def frames(path):
        for time, pixels in reader_frames(path):
            decoded.append(time)
            yield time, pixels

    reader_frames = reader.frames
    monkeypatch.setattr(reader, "frames", frames)
    strip = sheet.strip(film, [0, 0.4], width_px=16)
    assert (strip == sheet.strip(film, [0, 0.4, 5], width_px=16)[:, :32]).all()
    assert decoded == [0, 0.5, 0, 0.5, 1, 1.5]


def test_chapters_are_strips_of_one_pass(film, tmp_path, monkeypatch):
    """Of a second and a half and of half a second: frames at 0.375, 1.125, 1.625 and 1.875 s."""
    chapters = [Chapter("one", 0, 3), Chapter("two", 3, 4)]
    told = tmp_path / "told.mp4"
    writer.remux([film], told, Fraction(2), chapters, {})
    begun = []
    frames = reader.frames
    monkeypatch.setattr(reader, "frames", lambda path: begun.append(path) or frames(path))
    strips = sheet.chapter_strips(told, 2, width_px=16)
    assert begun == [told]
    shown = [strip.reshape(8, 2, 16, 3).mean((0, 2, 3)) for strip in strips]
    assert np.abs(np.array(shown) - [[40, 140], [190, 190]]).max() < 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("film.mp4", "film.mp4: has no chapters; give a film that longvid made"),
        ("missing.mp4", "missing.mp4: there is no such file; name a clip or a picture file"),
        ("film.gif", "film.gif: its sheet would be written over it; give it another name"),
    ],
)
def test_what_has_no_sheet_is_one_line(film, monkeypatch, capsys, name, said):
    monkeypatch.chdir(film.parent)
    monkeypatch.setattr(sys, "argv", ["sheet", name])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(sheet.__file__, run_name="__main__")
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {said}\n"
    assert [path.name for path in film.parent.iterdir()] == ["film.mp4"]


def test_a_film_s_sheet_and_gif_lie_beside_it(film, tmp_path):
    told = tmp_path / "told.mp4"
    writer.remux([film], told, Fraction(2), [Chapter("one", 0, 4)], {})
    sheet.main(told, 2, 32)
    assert sorted(path.name for path in tmp_path.glob("told*")) == ["told.gif", "told.mp4", "told.png"]
    assert source.probe(tmp_path / "told.png").size == (64, 16)
    assert reader.header(tmp_path / "told.gif").size == (32, 16)


def test_rows_of_a_sheet_lie_below_one_another(film, tmp_path):
    rows = [np.full((5, 7, 3), 10, np.uint8), np.full((3, 4, 3), 200, np.uint8)]
    path = tmp_path / "sheet.png"
    sheet.write_png(rows, path, gap_px=2)
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert picture.shape == (5 + 2 + 3, 7, 3)
    assert (picture[:5] == 10).all()
    assert (picture[5:7] == 255).all()
    assert (picture[7:, :4] == 200).all()
    assert (picture[7:, 4:] == 255).all()


def test_a_gif_has_every_frame_of_the_film(film, tmp_path):
    path = tmp_path / "film.gif"
    sheet.write_gif(film, path, width_px=32)
    with av.open(str(path)) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in shown] == [(16, 32, 3)] * 4
    assert np.abs([frame.mean() for frame in shown] - np.array(LEVELS)).max() < 3
