from fractions import Fraction

import numpy as np

from longvid.evaluation.clips import clip_means, clip_spans


def test_whole_clips_of_two_seconds() -> None:
    assert clip_spans(60, Fraction(12)) == [(0, 24), (24, 48)]
    assert clip_spans(47, Fraction(12)) == [(0, 24)]
    assert clip_spans(23, Fraction(12)) == []
    assert len(clip_spans(1440, Fraction(24))) == 30
    assert clip_spans(180, Fraction(30000, 1001)) == [(0, 60), (60, 120), (120, 180)]


def test_means_without_what_is_unknown() -> None:
    values = np.r_[np.nan, np.full(3, 6.0), np.full(4, np.nan), 1, 2, 3, 4, 100]
    assert clip_means(values, Fraction(2)) == [6.0, None, 2.5]
