"""The clips of two seconds that films are measured in over time (the paper's section 4, Fig. 3)."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from longvid.times import round_half_up

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLIP_SECONDS = Fraction(2)


def clip_spans(frames: int, fps: Fraction) -> list[tuple[int, int]]:
    """First frame, and that behind the last, of each whole clip; what is over at the end is left out."""
    whole = int(frames / fps / CLIP_SECONDS)
    return list(pairwise(round_half_up(clip * CLIP_SECONDS * fps) for clip in range(whole + 1)))


def clip_means(values: NDArray[np.float64], fps: Fraction) -> list[float | None]:
    """The mean of each clip's values, one a frame; those that are nan don't count."""
    means = []
    for start, end in clip_spans(len(values), fps):
        known = values[start:end][~np.isnan(values[start:end])]
        means.append(float(known.mean()) if len(known) else None)
    return means
