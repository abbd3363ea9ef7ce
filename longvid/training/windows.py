"""The noise levels that training draws: the states that sampling meets, and three simpler kinds besides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from einops import repeat
from torch import Tensor

from longvid.errors import UserError

Kind = Literal["progressive", "uniform", "prefix", "independent"]
SHARES: Mapping[Kind, float] = {"progressive": 0.50, "uniform": 0.15, "prefix": 0.15, "independent": 0.20}
"""Shares of the training steps: the paper's windows (3.1, 3.2), one level for all, one level behind a clean
chunk (replacement without noise), and a level of its own for each latent (Chen et al. 2024)."""
MAX_LEVEL = 0.999
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


def draw_window(
    rng: np.random.Generator, window: int, shares: Mapping[Kind, float], longest: int | None = None
) -> Window:
    """A window of at most K = `window` noisy chunks, and of at most `longest` in all.

    Progressive: the full run of positions with probability one half, else any run [a, b); a clean chunk in
    front in three quarters of those with a = 0, in half of the others. Drawn again where it is too long.
    Raises UserError where every one would be.
    """
    kinds: list[Kind] = [kind for kind in shares if shares[kind] > 0]
    if longest is not None and longest < (2 if kinds == ["prefix"] else 1):
        raise UserError(f"the longest sequence has {longest} chunk; a clean prefix needs one behind it")
    odds = np.array([shares[kind] for kind in kinds]) / sum(shares.values())
    runs = [(a, b) for a in range(window) for b in range(a + 1, window + 1)]
    while True:
        kind = kinds[rng.choice(len(kinds), p=odds)]
        first, end = (0, window) if rng.random() < 0.5 else runs[rng.integers(len(runs))]
        match kind:
            case "progressive":
                context = bool(rng.random() < (0.75 if first == 0 else 0.5))
                drawn = Window(kind, first, end - first, context)
            case "prefix":
                drawn = Window(kind, 0, end - first, True)
            case _:
                drawn = Window(kind, 0, end - first, False)
        if longest is None or drawn.chunks <= longest:
            return drawn


def window_levels(first: int, units: int, stage: float, window: int) -> Tensor:
    """Levels [k] in [0, 1] of the ``units`` units at positions from ``first`` on (0 is the oldest of K).

    A film's window passes through ``stage`` s / m in [0, 1) for s = 0 .. m - 1: position i is at level
    ((i + 1) m - s) / S, with m = S / K and K = ``window``. These are the levels that sampling meets.
    """
    return (torch.arange(first, first + units, dtype=torch.float64) + 1 - stage).div(window).float()


def jitter(levels: Tensor, normal: Tensor | float, steps: int, deviation_steps: float = JITTER) -> Tensor:
    """Levels, a window's all shifted by 0.4 ε / S for its ε ~ N(0, 1), and kept in [0, 0.999]."""
    return (levels + deviation_steps / steps * normal).clamp(0, MAX_LEVEL)


def draw_levels(
    rng: np.random.Generator, window: Window, units: int, chunk_latents: int, steps: int
) -> Tensor:
    """Levels [f] in [0, 0.999] of one sample's noisy latents, for K = `units` and S = `steps`."""
    match window.kind:
        case "progressive":
            levels = window_levels(window.first, window.noisy, rng.random(), units)
            return repeat(jitter(levels, rng.standard_normal(), steps), "k -> (k l)", l=chunk_latents)
        case "independent":
            drawn = rng.random(window.noisy * chunk_latents)
        case _:
            drawn = np.full(window.noisy * chunk_latents, rng.random())
    return torch.from_numpy(drawn).float().clamp(0, MAX_LEVEL)


def latent_times(levels: Tensor, context_latents: int, schedule: Callable[[Tensor], Tensor]) -> Tensor:
    """Times [b f] of noisy latents at levels [b f], behind clean context (time 0)."""
    times = schedule(levels)
    return torch.cat([times.new_zeros(len(times), context_latents), times], 1)


def draw_times(
    rng: np.random.Generator,
    window: Window,
    batch: int,
    units: int,
    chunk_latents: int,
    steps: int,
    schedule: Callable[[Tensor], Tensor] = torch.clone,
) -> tuple[Tensor, Tensor]:
    """Times [b f] of a batch, and which latents carry loss [b f]: all but the clean context."""
    levels = torch.stack([draw_levels(rng, window, units, chunk_latents, steps) for _ in range(batch)])
    context = chunk_latents * window.context
    times = latent_times(levels, context, schedule)
    return times, torch.arange(times.shape[1]).expand_as(times) >= context
