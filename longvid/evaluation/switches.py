"""When a switch of prompts is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Span = tuple[float, float]
"""When a shot begins and ends, in seconds."""


def switch_latency_seconds(
    features: NDArray[np.float32], times: NDArray[np.float64], last: Span, following: Span
) -> float | None:
    """Seconds from when the ``following`` shot was asked for until the picture is nearer to it for good.

    ``features`` [m d] at ``times`` [m], rising. Each shot is known by the mean of the features in its middle
    half, where it has settled and not yet begun to turn; nearer
    is by cosine, which changes linearly between two times. Negative where the picture turns before the
    switch; None where it never does, or a shot has no features to know it by.
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    means = []
    for begin, end in (last, following):
        quarter = (end - begin) / 4
        settled = unit[(times >= begin + quarter) & (times < end - quarter)]
        if not len(settled):
            return None
        means.append(settled.mean(axis=0) / max(float(np.linalg.norm(settled.mean(axis=0))), 1e-12))
    here = (times >= (last[0] + last[1]) / 2) & (times < following[1])
    nearer, at = unit[here] @ (means[1] - means[0]), times[here]
    if nearer[-1] <= 0 or not (nearer <= 0).any():
        return None
    before = int(np.flatnonzero(nearer <= 0)[-1])
    share = nearer[before] / (nearer[before] - nearer[before + 1])
    return float(at[before] + share * (at[before + 1] - at[before])) - following[0]
