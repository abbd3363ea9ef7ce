"""Contact sheets show the frames that a player shows at those times."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from longvid.video import sheet, writer

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
