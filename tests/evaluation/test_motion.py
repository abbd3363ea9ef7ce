import numpy as np
import pytest

from longvid.evaluation import motion
from longvid.evaluation.appearance import difference, luma
from tests.evaluation.pictures import FPS, panning, texture


def test_a_pan_of_known_speed() -> None:
    before, after = (motion.small(luma(frame)) for frame in panning(2, step_px=2))
    found = motion.flow(before, after)
    # 2 px a frame at 12 frames a second over 64 px; what comes in at the edge is no part of it.
    assert motion.amplitude(found[8:-8, 8:-8], FPS) * 48 / 64 == pytest.approx(2 * 12 / 64, rel=0.03)
    assert found[8:-8, 8:-8, 0].mean() == pytest.approx(2, rel=0.03)
    left = motion.compensated_difference(before[8:-8, 8:-8], after[8:-8, 8:-8], found[8:-8, 8:-8])
    assert left < 0.25 * difference(before, after)


def test_a_still_does_not_move() -> None:
    picture = motion.small(luma(texture()))
    found = motion.flow(picture, picture)
    assert motion.amplitude(found, FPS) == pytest.approx(0, abs=1e-3)
    assert motion.compensated_difference(picture, picture, found) < 0.01


def test_motion_is_told_in_heights_whatever_the_size() -> None:
    low = panning(2, step_px=1)
    high = [np.repeat(np.repeat(frame, 3, axis=0), 3, axis=1) for frame in low]
    speeds = []
    for before, after in (low, high):
        pair = motion.small(luma(before)), motion.small(luma(after))
        speeds.append(motion.amplitude(motion.flow(*pair), FPS))
    assert motion.small(luma(high[0])).shape == (96, 144)
    assert speeds[1] == pytest.approx(speeds[0], rel=0.1)
