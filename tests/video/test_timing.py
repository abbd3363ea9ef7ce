from fractions import Fraction

import pytest

from longvid.video.timing import Timing

NTSC = Fraction(30000, 1001)


def timing(fps, new_fps, join_frame=10, frames=20, new_frames=10, replaced=0, crossfade=0, source_fps=None):
    return Timing(
        fps=Fraction(fps),
        frames=frames,
        join_frame=join_frame,
        source_fps=Fraction(source_fps or fps),
        source_frames=join_frame,
        new_fps=Fraction(new_fps),
        new_frames=new_frames,
        replaced_frames=replaced,
        crossfade_frames=crossfade,
    )


@pytest.mark.parametrize(
    ("fps", "new_fps", "shown"),
    [
        (12, 12, [0, 1, 2, 3, 4, 5]),
        (24, 12, [0, 0, 1, 1, 2, 2]),
        (12, 24, [0, 2, 4, 6, 8, 9]),
        (25, 12, [0, 0, 0, 1, 1, 2]),
        (NTSC, 24, [0, 0, 1, 2, 3, 4]),
    ],
)
def test_a_new_frame_is_shown_until_the_next_one_is_due(fps, new_fps, shown):
    film = timing(fps, new_fps)
    assert [film.weight(frame) for frame in (9, 10)] == [0, 1]
    assert [film.own(frame) for frame in range(10)] == list(range(10))
    assert [film.new(10 + frame) for frame in range(6)] == shown
    assert (film.first_new, film.first_whole) == (10, 10)


def test_a_crossfade_ends_before_the_replaced_frames_do():
    film = timing(12, 12, replaced=6, crossfade=3)
    assert [film.weight(frame) for frame in range(2, 9)] == [
        0,
        0,
        Fraction(1, 4),
        Fraction(2, 4),
        Fraction(3, 4),
        1,
        1,
    ]
    assert [film.new(frame) for frame in range(4, 10)] == list(range(6))
    assert (film.first_new, film.first_whole) == (4, 7)


def test_a_crossfade_rises_with_every_frame_of_a_faster_film():
    film = timing(24, 12, replaced=3, crossfade=2)
    weights = [film.weight(frame) for frame in range(3, 9)]
    assert weights == [0, Fraction(2, 6), Fraction(3, 6), Fraction(4, 6), Fraction(5, 6), 1]
    assert [film.new(frame) for frame in range(4, 10)] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("fps", [12, 24, 25, NTSC, 60])
@pytest.mark.parametrize(("replaced", "crossfade"), [(0, 0), (5, 0), (5, 2), (5, 5)])
def test_first_frames_are_where_the_weight_changes(fps, replaced, crossfade):
    film = timing(fps, 12, join_frame=40, frames=60, new_frames=20, replaced=replaced, crossfade=crossfade)
    weights = [film.weight(frame) for frame in range(60)]
    assert next(frame for frame in range(60) if weights[frame] > 0) == film.first_new
    assert next(frame for frame in range(60) if weights[frame] == 1) == film.first_whole
    assert weights == sorted(weights)
    assert all(film.own(frame) < 40 for frame in range(film.first_whole))
    assert film.new(film.join_frame) == replaced


def test_a_source_shorter_than_what_is_replaced_begins_within_it():
    film = timing(12, 12, join_frame=3, new_frames=9, replaced=6, crossfade=5)
    assert (film.first_new, film.first_whole) == (0, 2)
    assert [film.new(frame) for frame in range(3)] == [3, 4, 5]
    assert film.weight(0) == Fraction(4, 6)


def test_a_source_of_another_rate_shows_what_it_would_show_then():
    film = timing(12, 12, join_frame=6, source_fps=25)
    assert [film.own(frame) for frame in range(6)] == [0, 2, 4, 5, 5, 5]
    assert film.own(2) == 4, "at 1/6 s: from 0.16 s to 0.2 s"


def test_the_last_new_frame_stays_where_rates_do_not_divide_each_other():
    assert timing(25, 12, new_frames=3).new(10 + 6) == 2
    assert timing(25, 12, new_frames=3).new(10 + 7) == 2
