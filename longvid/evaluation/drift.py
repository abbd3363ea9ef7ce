"""How far a statistic moves from a shot's beginning to its end (FramePack, HeliosBench)."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARE = 0.15
"""Of a shot's frames, that its beginning and its end are."""
FEWEST_FRAMES = 7
"""Below that, the share is less than a frame."""


def drift(values: NDArray[np.float64]) -> float | None:
    """|mean of the first 15 % - mean of the last 15 %| of a shot's values, one a frame; in their unit."""
    if len(values) < FEWEST_FRAMES:
        return None
    count = int(SHARE * len(values))
    return abs(float(values[:count].mean()) - float(values[-count:].mean()))


def slope_per_minute(values: NDArray[np.float64], fps: Fraction) -> float | None:
    """By how much a shot's values, one a frame, rise a minute: the least squares line's slope."""
    if len(values) < FEWEST_FRAMES:
        return None
    times = np.arange(len(values)) / (60 * float(fps))
    away = times - times.mean()
    return float((away * (values - values.mean())).sum() / (away**2).sum())
