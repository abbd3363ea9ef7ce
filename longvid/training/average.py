"""The average of a network's weights over its training, which is what gets used (Polyak & Juditsky 1992)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]


def copy_weights(network: nn.Module) -> Weights:
    """A copy of the network's state, to begin an average with."""
    return {name: value.clone() for name, value in network.state_dict().items()}


@torch.no_grad()
def update_average(average: Weights, network: nn.Module, step: int, keep: float) -> None:
    """Move the average towards the network after `step` (from 0): it keeps (1 + step) / (10 + step) of itself
    at first, so that early steps are soon forgotten, and `keep` at most."""
    kept = min(keep, (1 + step) / (10 + step))
    for name, value in network.state_dict().items():
        average[name].lerp_(value, 1 - kept)
