"""From the codec's frames to the pixels of the film."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOBES = 3


def lanczos_taps(scale: int) -> list[list[float]]:
    """The filter [scale][2 * LOBES + 1] of a whole-factor enlargement, one row a phase, each summing to 1.

    Output pixel ``scale * i + phase`` lies at input position ``i + (phase + 1/2) / scale - 1/2`` and reads
    input pixels i - LOBES ... i + LOBES with weight sinc(d) sinc(d / LOBES) at distance d.
    """
    rows = []
    for phase in range(scale):
        offset = (phase + 0.5) / scale - 0.5
        row = []
        for tap in range(-LOBES, LOBES + 1):
            d = abs(tap - offset)
            x = math.pi * d
            row.append(
                0.0 if d >= LOBES else 1.0 if d == 0 else LOBES * math.sin(x) * math.sin(x / LOBES) / x**2
            )
        rows.append([weight / sum(row) for weight in row])
    return rows


def enlarge(frames: Tensor, scale: int) -> Tensor:
    """Frames [... h w] to [... scale*h scale*w] by Lanczos-3, edges repeated.

    Only sums of shifted pictures: a pixel's value depends neither on threads nor on which frames come along.
    """
    if scale == 1:
        return frames
    taps = lanczos_taps(scale)
    for axis in (-1, -2):
        n = frames.shape[axis]
        index = torch.arange(-LOBES, n + LOBES, device=frames.device).clamp(0, n - 1)
        padded = frames.index_select(axis, index)
        phases = []
        for row in taps:
            total = torch.zeros_like(frames)
            for tap, weight in enumerate(row):
                if weight:
                    total.add_(padded.narrow(axis, tap, n), alpha=weight)
            phases.append(total)
        frames = torch.stack(phases, dim=axis).flatten(axis - 1, axis)
    return frames


def finish(frames: Tensor, scale: int = 1) -> NDArray[np.uint8]:
    """Pixels uint8 [f h w 3] of frames [3 f h w] in [-1, 1], enlarged by the whole factor ``scale``."""
    # Halves go up, as in Open-Sora v1.2.
    pixels = enlarge(frames.float(), scale).add(1).mul_(127.5).add_(0.5).clamp_(0, 255)
    return pixels.to(torch.uint8).permute(1, 2, 3, 0).contiguous().cpu().numpy()
