"""How much a film's frames differ from one to the next, and whether they do so at the window's period."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEIGHBOURS = 4
"""Frequencies on either side that the period's is compared with."""
FEWEST_PERIODS = 4


def temporal_flicker(change: NDArray[np.float64], left_out: Collection[int] = ()) -> float | None:
    """(255 - m) / 255 for the mean absolute difference m of adjacent frames: 1 is a still.

    VBench's formula; its filter that keeps only static films is left out. ``change`` [n]: of each frame from
    the one before, 0 to 255, the first nan. ``left_out``: frames that a cut or switch was asked for at.
    """
    counted = change[[frame for frame in range(1, len(change)) if frame not in left_out]]
    return (255 - float(counted.mean())) / 255 if len(counted) else None


def power_at_period(
    change: NDArray[np.float64],
    period_frames: int,
    starts: Collection[int] = (0,),
    left_out: Collection[int] = (),
) -> float | None:
    """Power of the frame-to-frame change at one period over the median of its neighbours': 1 is none there.

    Of the longest run: the ``starts`` of runs shift the phase. A Fourier transform over whole periods, so
    that nothing of the period leaks; its neighbours are up to four frequencies on either side, below the next
    harmonic. What changed at frames ``left_out`` is put in between its neighbours. None where no run has four
    periods, a period is one frame, or nothing changes.
    """
    runs = pairwise(sorted({*starts, len(change)}))
    start, end = max(runs, key=lambda run: run[1] - run[0], default=(0, 0))
    periods = (end - start - 1) // period_frames
    if periods < FEWEST_PERIODS or period_frames < 2:
        return None
    frames = np.arange(start + 1, start + 1 + periods * period_frames)
    known = np.array([frame not in left_out for frame in frames])
    if not known.any():
        return None
    signal = np.interp(frames, frames[known], change[frames[known]])
    power = np.abs(np.fft.rfft(signal - signal.mean())) ** 2
    reach = min(NEIGHBOURS, periods - 1)
    near = [*power[periods - reach : periods], *power[periods + 1 : periods + 1 + reach]]
    usual = float(np.median(near))
    return float(power[periods]) / usual if usual > 0 else None
