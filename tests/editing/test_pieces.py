"""What is copied, what is encoded again, and that the film is whole and on time."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from longvid.editing import Edit, apply, film, pieces
from longvid.editing.picture import Effect, effects
from longvid.editing.pieces import Piece
from longvid.times import Time
from tests.editing.films import FPS, decoded, packets, picture, write_film


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4")


def planned(path, edit, crf=18):
    day = film.read(path)
    return pieces.pieces(day, effects(day, edit), day.source.size, crf)


def test_only_the_segments_that_change_are_encoded_again(path):
    assert planned(path, Edit(fade=Time(Fraction(1)))) == (
        Piece(0, 12, False),
        Piece(12, 60, True),
        Piece(60, 72, False),
    )
    assert planned(path, Edit(crossfade=Time(Fraction(2), in_frames=True))) == (
        Piece(0, 12, True),
        Piece(12, 36, False),
        Piece(36, 72, True),
    )
    assert planned(path, Edit(captions="burn")) == (Piece(0, 72, False),)


def test_the_quality_of_what_is_encoded_may_be_another(path):
    assert planned(path, Edit(fade=Time(Fraction(1))), crf=30) == planned(path, Edit(fade=Time(Fraction(1))))


def test_copied_packets_are_the_films_own_and_every_frame_is_on_time(path, tmp_path):
    output = tmp_path / "out.mp4"
    apply(path, Edit(fade=Time(Fraction(1, 2))), output)
    own, other = packets(path), packets(output)
    assert other[12:60] == own[12:60]
    assert other[:12] != own[:12]
    assert [time for time, _ in decoded(output)] == [i / FPS for i in range(72)]
    before, after = decoded(path), decoded(output)
    assert all((a == b).all() for (_, a), (_, b) in zip(before[12:60], after[12:60], strict=True))
    exact = picture(3).astype(int) // 2
    assert np.abs(after[3][1].astype(int) - exact).mean() < 3


def write_foreign(path, options, rate=FPS, codec="libx264"):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(72):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    "options", [{"g": "12"}, {"preset": "ultrafast"}, {"x264-params": "open-gop=1:keyint=12"}]
)
def test_a_film_from_elsewhere_is_encoded_as_a_whole(tmp_path, options):
    foreign = write_foreign(tmp_path / "film.mp4", options)
    assert planned(foreign, Edit(fade=Time(Fraction(1, 2)))) == (Piece(0, 72, False),)
    apply(foreign, Edit(fade=Time(Fraction(1, 2))), tmp_path / "out.mp4")
    shown = decoded(tmp_path / "out.mp4")
    assert [time for time, _ in shown] == [i / FPS for i in range(72)]
    assert np.abs(shown[30][1].astype(int) - picture(30)).mean() < 3


def test_films_longer_than_a_segment_are_encoded_in_several(path, tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "SEGMENT_FRAMES", 30)
    day = film.read(path)
    made = [Effect(0, 72, lambda frame, pixels: 255 - pixels)]
    done: list[int] = []
    plan = pieces.pieces(day, made, day.source.size, 18)
    content = list(pieces.segments(day, plan, made, None, day.source.size, 18, done.append))
    assert len(content) == 3
    assert done == list(range(1, 73))


def test_groups_are_found_only_where_they_are_closed_and_on_time(path, tmp_path):
    assert pieces.closed_groups(film.read(path)) == [(i, i + 12) for i in range(0, 72, 12)]
    late = write_foreign(tmp_path / "late.mkv", {}, rate=Fraction(30000, 1001))
    assert pieces.closed_groups(film.read(late)) == [], "Matroska rounds its times to milliseconds"
