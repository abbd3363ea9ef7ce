import numpy as np
import pytest

from longvid.evaluation.seams import seam_ratio

BORDERS = (16, 32, 48)


def test_a_seam_of_known_ratio() -> None:
    change = np.full(64, 2.0)
    change[0] = np.nan
    assert seam_ratio(change, BORDERS) == 1
    change[list(BORDERS)] = 3.5
    assert seam_ratio(change, BORDERS) == 1.75


def test_medians_are_not_moved_by_one_frame() -> None:
    change = np.r_[np.nan, np.full(63, 2.0)]
    change[[16, 32, 48]] = 5, 5, 500
    change[20] = 900
    assert seam_ratio(change, BORDERS) == 2.5


def test_a_planned_switch_is_left_out() -> None:
    change = np.r_[np.nan, np.full(63, 2.0)]
    change[32] = 100
    assert seam_ratio(change, (32,)) == 50
    assert seam_ratio(change, (16, 32), left_out={32}) == 1


@pytest.mark.parametrize("borders", [(), (100,)])
def test_without_borders_there_is_none(borders: tuple[int, ...]) -> None:
    assert seam_ratio(np.r_[np.nan, np.ones(9)], borders) is None


def test_where_nothing_changes_there_is_none() -> None:
    assert seam_ratio(np.r_[np.nan, np.zeros(63)], BORDERS) is None
