import numpy as np
import pytest

from longvid.evaluation.flicker import power_at_period, temporal_flicker


def test_flicker_of_known_differences() -> None:
    change = np.array([np.nan, 51.0, 0.0, 255.0, 51.0])
    assert temporal_flicker(np.array([np.nan, 0.0, 0.0])) == 1
    assert temporal_flicker(change, left_out={3}) == pytest.approx((255 - 34) / 255)
    assert temporal_flicker(change[:1]) is None


def change_of(power: dict[int, float], frames: int = 160) -> np.ndarray:
    """A change whose spectrum is 1 at every frequency but for these."""
    spectrum = np.exp(2j * np.pi * np.random.default_rng(0).random(frames // 2 + 1))
    for at, value in power.items():
        spectrum[at] *= np.sqrt(value)
    return np.r_[np.nan, np.fft.irfft(spectrum * frames, frames) + 100]


def test_a_period_of_known_power() -> None:
    # 160 frames hold ten periods of 16: the tenth frequency.
    assert power_at_period(change_of({}), 16) == pytest.approx(1)
    assert power_at_period(change_of({10: 7.0}), 16) == pytest.approx(7)
    assert power_at_period(change_of({10: 0.25}), 16) == pytest.approx(0.25)
    assert power_at_period(change_of({20: 50.0}), 16) == pytest.approx(1), "the next harmonic is not asked"
    assert power_at_period(change_of({3: 50.0}), 16) == pytest.approx(1), "nor what is far away"


def test_frames_over_the_last_whole_period_do_not_count() -> None:
    assert power_at_period(np.r_[change_of({10: 7.0}), np.full(9, 1e6)], 16) == pytest.approx(7)


def test_the_longest_run_tells_and_a_switch_does_not() -> None:
    film = np.r_[change_of({}, 80), change_of({10: 7.0})]
    film[81 + 40] = 1e6
    assert power_at_period(film, 16, starts=(0, 81)) < 2
    assert power_at_period(film, 16, starts=(0, 81), left_out={81 + 40}) == pytest.approx(7, rel=0.2)


def test_what_is_too_short_or_still_has_none() -> None:
    assert power_at_period(change_of({}, 63), 16) is None
    assert power_at_period(change_of({}, 64), 16) == pytest.approx(1)
    assert power_at_period(np.r_[np.nan, np.ones(160)], 16) is None
    assert power_at_period(np.r_[np.nan, np.ones(160)], 16, left_out=range(1, 161)) is None


def test_a_chunk_of_one_frame_has_no_period() -> None:
    change = np.random.default_rng(0).uniform(size=100)
    assert power_at_period(change, 1) is None
