"""The average of a network's weights over its training, which is what gets used (Polyak & Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

Weights = dict[str, Tensor]


@torch.no_grad()
def update_average(average: Weights, weights: Mapping[str, Tensor], step: int, keep: float) -> None:
    """Move the average towards the weights after `step` (from 0): it keeps (1 + step) / (10 + step) of itself
    at first, so that early steps are soon forgotten, and `keep` at most."""
    kept = min(keep, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.values()), [weights[name] for name in average], 1 - kept)


@contextmanager
def swapped(average: Weights, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """The weights and their average in each other's place, while this lasts; one tensor more in memory."""

    @torch.no_grad()
    def swap() -> None:
        for name, weight in weights.items():
            before = weight.detach().clone()
            weight.copy_(average[name])
            average[name].copy_(before)

    swap()
    try:
        yield
    finally:
        swap()
