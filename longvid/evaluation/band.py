"""A mean over films, and how sure of it one can be: the percentile bootstrap (Efron 1979)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
SEED = 0


@dataclass(frozen=True)
class Band:
    """``low`` and ``high``: between which 95 % of the means of resampled films lie; None of one film."""

    mean: float
    low: float | None
    high: float | None
    films: int


def band(values: Sequence[float | None]) -> Band | None:
    """Of one value a film; films without one don't count. The same values give the same band."""
    known = np.array([value for value in values if value is not None], np.float64)
    if not len(known):
        return None
    if len(known) == 1:
        return Band(float(known[0]), None, None, 1)
    drawn = np.random.default_rng(SEED).integers(len(known), size=(RESAMPLES, len(known)))
    low, high = np.percentile(known[drawn].mean(axis=1), [2.5, 97.5])
    return Band(float(known.mean()), float(low), float(high), len(known))


def bands(curves: Sequence[Sequence[float | None]]) -> list[Band | None]:
    """At each time, of one curve a film; they need not be equally long."""
    longest = max(map(len, curves), default=0)
    return [band([curve[time] for curve in curves if time < len(curve)]) for time in range(longest)]
