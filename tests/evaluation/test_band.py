import pytest

from longvid.evaluation.band import Band, band, bands


def test_equal_films_leave_no_doubt() -> None:
    assert band([3.0, 3.0, 3.0]) == Band(3, 3, 3, 3)


def test_one_film_has_no_band_and_none_has_nothing() -> None:
    assert band([None, 2.0]) == Band(2, None, None, 1)
    assert band([None]) is None


def test_two_films_reach_from_one_to_the_other() -> None:
    # Of two, a quarter of the draws are twice the one, a quarter twice the other.
    assert band([0.0, 1.0]) == Band(0.5, 0.0, 1.0, 2)


def test_many_films_have_the_band_of_a_normal_mean() -> None:
    values = [float(number % 10) for number in range(400)]
    found = band(values)
    assert found is not None and found.low is not None and found.high is not None
    deviation = (99 / 12) ** 0.5 / 20
    assert found.mean == 4.5
    assert found.high - found.low == pytest.approx(2 * 1.96 * deviation, rel=0.06)
    assert band(values) == found


def test_films_may_be_of_different_lengths() -> None:
    assert [found and (found.mean, found.films) for found in bands([[1.0, 3.0], [2.0]])] == [
        (1.5, 2),
        (3.0, 1),
    ]
    assert bands([]) == []
