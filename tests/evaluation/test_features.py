from fractions import Fraction

import numpy as np
import pytest

from longvid.evaluation import features
from tests.evaluation.pictures import texture


def test_samples_lie_in_the_middle_of_half_seconds() -> None:
    assert [features.sampled_frame(sample, Fraction(12)) for sample in range(4)] == [3, 9, 15, 21]
    assert [features.sampled_frame(sample, Fraction(24)) for sample in range(3)] == [6, 18, 30]
    assert [features.sampled_frame(sample, Fraction(1)) for sample in range(4)] == [0, 0, 1, 1]


def test_a_clip_is_known_by_mean_and_spread_over_its_time() -> None:
    samples = np.array([[1.0], [3], [1], [3], [5], [5], [5], [5], [9]], np.float32)
    assert features.clip_features(samples).tolist() == [[2, 1], [5, 0]]


def test_consistency_in_a_clip_is_the_cosine_of_neighbours() -> None:
    samples = np.array([[1.0, 0], [2, 0], [0, 3], [0, 1]], np.float32)
    assert features.consistency_in_clip(samples) == pytest.approx(2 / 3)
    assert features.consistency_in_clip(samples[:1]) is None


def test_consistency_between_clips_is_with_the_first_and_the_one_before() -> None:
    means = np.array([[1.0, 0], [0, 1], [0, 1]], np.float32)
    # The second: 0 with the first, 0 with the one before; the third: 0 and 1.
    assert features.consistency_between_clips(means) == pytest.approx(0.25)
    assert features.consistency_between_clips(means[:1]) is None


def test_the_network_tells_pictures_apart(capfd: pytest.CaptureFixture[str]) -> None:
    embed = features.efficientnet()
    first, other = texture(seed=0), texture(seed=1)[::-1] // 4
    found = embed([first, np.roll(first, 2, axis=1), other])
    assert found.shape == (3, 1280) and found.dtype == np.float32
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    assert unit[0] @ unit[1] > 0.9 > unit[0] @ unit[2]
    assert np.allclose(embed([first]), found[:1], atol=1e-4), "each by itself"
    assert capfd.readouterr().out == ""
