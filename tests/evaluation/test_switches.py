import numpy as np
import pytest

from longvid.evaluation.switches import switch_latency_seconds

TIMES = np.arange(40) / 2 + 0.25
HILLS, SEA = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])


def film(turns_at: float, over: float = 0.0) -> np.ndarray:
    """Features that turn from the hills to the sea, half way at a time."""
    share = np.clip((TIMES - turns_at) / over + 0.5, 0, 1) if over else (turns_at <= TIMES).astype(float)
    return ((1 - share)[:, None] * HILLS + share[:, None] * SEA).astype(np.float32)


@pytest.mark.parametrize("latency", [-1.5, 0.0, 0.5, 2.0])
def test_a_switch_at_a_known_time(latency: float) -> None:
    found = switch_latency_seconds(film(10 + latency, over=1), TIMES, (0, 10), (10, 20))
    assert found == pytest.approx(latency, abs=1e-6)


def test_a_jump_lies_between_two_samples() -> None:
    assert switch_latency_seconds(film(12), TIMES, (0, 10), (10, 20)) == pytest.approx(2)


def test_a_relapse_counts_until_it_is_over() -> None:
    features = film(11)
    features[(TIMES > 13) & (TIMES < 14)] = HILLS
    assert switch_latency_seconds(features, TIMES, (0, 10), (10, 20)) == pytest.approx(4, abs=0.05)


def test_what_is_never_seen_has_no_latency() -> None:
    assert switch_latency_seconds(film(40), TIMES, (0, 10), (10, 20)) is None
    assert switch_latency_seconds(film(12), TIMES, (0, 10), (10, 10.2)) is None


def test_length_of_features_does_not_matter() -> None:
    features = film(12, over=1)
    features[TIMES > 15] *= 10
    assert switch_latency_seconds(features, TIMES, (0, 10), (10, 20)) == pytest.approx(2, abs=1e-6)
