"""Whether the picture changes more from chunk to chunk than inside a chunk."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def seam_ratio(
    change: NDArray[np.float64], borders: Collection[int], left_out: Collection[int] = ()
) -> float | None:
    """Median change across chunk borders over that inside chunks: 1 where no seam can be told.

    ``change`` [n]: of each frame from the one before. ``borders``: chunks' first frames. ``left_out``: frames
    that a cut or switch was asked for at. None where there is no such border, or where nothing changes.
    """
    pairs = [frame for frame in range(1, len(change)) if frame not in left_out]
    across = change[[frame for frame in pairs if frame in borders]]
    inside = change[[frame for frame in pairs if frame not in borders]]
    if not len(across) or not len(inside) or not np.median(inside) > 0:
        return None
    return float(np.median(across) / np.median(inside))
