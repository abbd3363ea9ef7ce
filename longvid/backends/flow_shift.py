"""The shift of a flow's schedule: the more there is to denoise, the longer it stays noisy."""

from __future__ import annotations

from torch import Tensor


def shift(level: Tensor, ratio: float) -> Tensor:
    """Times in [0, 1] of levels in [0, 1], in the levels' own type; 0 stays 0 and 1 stays 1, exactly.

    u becomes R u / (1 + (R - 1) u) (Esser et al. 2024, eq. 23).
    """
    # In double precision: in single, a ratio below a half can put the noisiest time above 1.
    u = level.double()
    return (ratio * u / (1 + (ratio - 1) * u)).to(level.dtype)
