"""The loss of rectified flow over a window whose latents are at times of their own (paper section 3.5).

Pure functions: what is drawn comes in, so that every number can be checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import reduce, repeat
from torch import Tensor

MAX_LEVEL = 0.999
JITTER = 0.4
"""Deviation of the shift of a whole window, in sampling steps."""


def window_levels(first: int, units: int, stage: float, window: int) -> Tensor:
    """Levels [k] in [0, 1] of the ``units`` units at positions from ``first`` on (0 is the oldest of K).

    A film's window passes through ``stage`` s / m in [0, 1) for s = 0 .. m - 1: position i is at level
    ((i + 1) m - s) / S, with m = S / K and K = ``window``. These are the levels that sampling meets.
    """
    return (torch.arange(first, first + units, dtype=torch.float64) + 1 - stage).div(window).float()


def jitter(levels: Tensor, normal: Tensor, steps: int, deviation_steps: float = JITTER) -> Tensor:
    """Levels [b k], a sample's all shifted by 0.4 ε / S for its ε [b 1] ~ N(0, 1), and kept in [0, 0.999]."""
    return (levels + deviation_steps / steps * normal).clamp(0, MAX_LEVEL)


def latent_times(
    levels: Tensor, chunk_latents: int, context_latents: int, schedule: Callable[[Tensor], Tensor]
) -> Tensor:
    """Times [b f] of units at levels [b k], ``chunk_latents`` latents each, behind clean context (time 0)."""
    times = schedule(repeat(levels, "b k -> b (k l)", l=chunk_latents))
    return torch.cat([times.new_zeros(len(times), context_latents), times], 1)


@dataclass(frozen=True)
class FlowSample:
    """Noisy latents ``x_t`` [b c f h w], and the velocity ``target`` clean - noise that belongs to them."""

    x_t: Tensor
    target: Tensor


def noised(clean: Tensor, noise: Tensor, t: Tensor) -> FlowSample:
    """Clean latents [b c f h w] noised to times t [b f] (paper eq. 2); a latent at time 0 stays as it is."""
    u = t[:, None, :, None, None]
    return FlowSample((1 - u) * clean + u * noise, clean - noise)


def flow_loss(velocity: Tensor, target: Tensor, noisy: Tensor) -> Tensor:
    """Mean squared error [b] over the latents that ``noisy`` [b f] marks; the others are only context.

    Raises ValueError for a sample without a noisy latent.
    """
    if not noisy.any(1).all():
        raise ValueError("every sample needs a noisy latent")
    error = reduce((velocity.float() - target.float()).square(), "b c f h w -> b f", "mean")
    return (error * noisy).sum(1) / noisy.sum(1)
