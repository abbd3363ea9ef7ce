import numpy as np
import pytest

from longvid.evaluation.scenes import CutDetector, Cuts, sort_cuts
from longvid.video import source
from tests.evaluation.pictures import FPS, panning, texture
from tests.training.footage import real_clip


def cuts(frames: list[np.ndarray]) -> list[int]:
    detector = CutDetector()
    for frame in frames:
        detector.see(frame)
    return detector.cuts


def test_a_cut_at_a_known_frame() -> None:
    assert cuts([*panning(30), *panning(20, picture=texture(seed=1))]) == [30]
    assert cuts(panning(40)) == []


def test_the_cuts_of_a_real_clip() -> None:
    assert cuts(list(source.frames(source.probe(real_clip("bikes")), 0, 90))) == [30, 76]


@pytest.mark.parametrize(("found", "unplanned", "planned"), [(54, (), (54,)), (55, (55,), ())])
def test_a_cut_within_half_a_second_of_a_planned_one_is_that_one(
    found: int, unplanned: tuple[int, ...], planned: tuple[int, ...]
) -> None:
    sorted_cuts = sort_cuts([found], [48], FPS)
    assert sorted_cuts == Cuts(unplanned, planned)
    assert sorted_cuts.scenes == 1 + len(unplanned)
