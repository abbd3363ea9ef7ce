from fractions import Fraction

import numpy as np
import pytest

from longvid.evaluation.drift import drift, slope_per_minute


def test_a_drift_of_known_size() -> None:
    values = np.r_[np.full(15, 40.0), np.linspace(0, 255, 70), np.full(15, 52.5)]
    assert drift(values) == 12.5
    assert drift(values[::-1]) == 12.5
    assert drift(np.full(100, 7.0)) == 0


def test_a_slope_of_known_size_and_sign() -> None:
    seconds = np.arange(240) / 24
    assert slope_per_minute(100 - 0.5 * seconds, Fraction(24)) == pytest.approx(-30)
    assert slope_per_minute(np.full(240, 3.0), Fraction(24)) == 0


def test_seven_frames_are_the_fewest() -> None:
    assert drift(np.arange(7.0)) == 6
    assert drift(np.arange(6.0)) is None
    assert slope_per_minute(np.arange(6.0), Fraction(24)) is None
