"""The noise levels that training draws: the states that sampling meets, and three simpler kinds besides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Kind = Literal["progressive", "uniform", "prefix", "independent"]
SHARES: dict[Kind, float] = {"progressive": 0.50, "uniform": 0.15, "prefix": 0.15, "independent": 0.20}
"""Shares of the training steps: the paper's windows (3.1, 3.2), one level for all, one level behind a clean
chunk (replacement without noise), and a level of its own for each latent (Chen et al. 2024)."""
MAX_TIME = 0.999
JITTER = 0.4
"""Deviation of the shift of a whole window, in sampling steps (paper 3.5)."""


@dataclass(frozen=True)
class Window:
    """What every sample of a batch shares: `noisy` chunks at the positions from `first` on (0 is the oldest
    of K), behind a clean chunk where `context`."""

    kind: Kind
    first: int
    noisy: int
    context: bool

    @property
    def chunks(self) -> int:
        return self.noisy + self.context


def draw_window(rng: np.random.Generator, window: int, shares: dict[Kind, float]) -> Window:
    """A window of at most K = `window` noisy chunks.

    Progressive: the full run of positions with probability one half, else any run [a, b); a clean chunk in
    front in three quarters of those with a = 0, in half of the others.
    """
    kinds: list[Kind] = list(shares)
    kind = kinds[rng.choice(len(kinds), p=np.array(list(shares.values())) / sum(shares.values()))]
    runs = [(a, b) for a in range(window) for b in range(a + 1, window + 1)]
    first, end = (0, window) if rng.random() < 0.5 else runs[rng.integers(len(runs))]
    match kind:
        case "progressive":
            return Window(kind, first, end - first, bool(rng.random() < (0.75 if first == 0 else 0.5)))
        case "prefix":
            return Window(kind, 0, end - first, True)
        case _:
            return Window(kind, 0, end - first, False)


def draw_times(
    rng: np.random.Generator, window: Window, batch: int, units: int, chunk_latents: int, steps: int
) -> tuple[Tensor, Tensor]:
    """Times [b f] in [0, 0.999] and which latents carry loss [b f], before any schedule.

    A progressive chunk at position i of K = `units` is at (i + 1 - s) / K for a stage s in [0, 1), all chunks
    of a sample shifted by one δ = 0.4 ε / S.
    """
    shape = (batch, window.noisy)
    if window.kind == "progressive":
        position = window.first + np.arange(window.noisy)
        stage = rng.random((batch, 1))
        level = (position + 1 - stage) / units + JITTER / steps * rng.standard_normal((batch, 1))
    elif window.kind == "independent":
        level = rng.random((batch, window.noisy * chunk_latents))
    else:
        level = np.broadcast_to(rng.random((batch, 1)), shape)
    if window.kind != "independent":
        level = np.repeat(level, chunk_latents, 1)
    times = torch.from_numpy(np.clip(level, 0, MAX_TIME)).float()
    clean = torch.zeros(batch, chunk_latents * window.context)
    return torch.cat([clean, times], 1), torch.cat([clean, torch.ones_like(times)], 1).bool()
