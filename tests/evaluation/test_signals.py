import tracemalloc
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
import pytest

from longvid.evaluation.signals import observe
from tests.evaluation.pictures import FPS, levels, panning, texture


def number_of(frames: Sequence[np.ndarray]) -> np.ndarray:
    """A feature that is the frame's level."""
    return np.array([[frame[0, 0, 0], 1] for frame in frames], np.float32)


def test_a_film_that_brightens() -> None:
    found = observe(levels(60), FPS, cuts=True, flow=True, embed=number_of)
    assert found.frames == 60
    assert found.appearance["luma"] == pytest.approx(np.arange(60), abs=1e-3)
    assert np.isnan(found.change[0]) and (found.change[1:] == 1).all()
    assert found.motion is not None and found.compensated_change is not None
    assert np.isnan(found.motion[0]) and np.isnan(found.compensated_change[0])
    assert found.compensated_change[1:] == pytest.approx(np.ones(59))
    assert found.cuts == ()
    assert found.features is not None
    assert found.features[:, 0].tolist() == [3, 9, 15, 21, 27, 33, 39, 45, 51, 57]
    assert found.sample_times == pytest.approx(np.arange(10) / 2 + 3.5 / 12)


def test_a_pan_moves_and_a_cut_is_seen() -> None:
    frames = [*panning(24), *panning(24, picture=texture(seed=1))]
    found = observe(frames, FPS, cuts=True, flow=True, embed=None)
    assert found.cuts == (24,)
    assert found.motion is not None and found.compensated_change is not None
    assert np.nanmedian(found.motion) == pytest.approx(2 * 12 / 64, rel=0.1)
    assert np.nanmedian(found.compensated_change) < 0.5 * np.nanmedian(found.change)


def test_what_is_not_asked_for_is_none() -> None:
    told: list[int] = []
    found = observe(levels(3), FPS, cuts=False, flow=False, embed=None, progress=told.append)
    assert (found.motion, found.compensated_change, found.cuts, found.features) == (None, None, None, None)
    assert len(found.sample_times) == 0
    assert told == [1, 2, 3]


def test_below_two_frames_a_second_a_frame_is_two_samples() -> None:
    found = observe(levels(4), Fraction(1), cuts=False, flow=False, embed=number_of)
    assert found.features is not None
    assert found.features[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_memory_does_not_grow_with_length() -> None:
    def film(seconds: int) -> Iterator[np.ndarray]:
        return (np.full((64, 96, 3), number % 250, np.uint8) for number in range(12 * seconds))

    peaks = []
    for seconds in (4, 40):
        tracemalloc.start()
        observe(film(seconds), FPS, cuts=True, flow=True, embed=number_of)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    frame = 64 * 96 * 3
    assert peaks[1] - peaks[0] < 8 * frame, "36 seconds more, of 432 frames"
