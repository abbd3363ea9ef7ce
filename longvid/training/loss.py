"""The loss over a window whose latents are at times of their own (paper section 3.5).

A pure function: what is drawn comes in, so that every number can be checked.
"""

from __future__ import annotations

from collections.abc import Callable

from einops import rearrange, reduce
from torch import Tensor

from longvid.backends import Process


def window_loss(
    predict: Callable[[Tensor, Tensor], Tensor],
    process: Process,
    clean: Tensor,
    noise: Tensor,
    t: Tensor,
    weights: Tensor,
) -> Tensor:
    """Mean squared error [b] of what ``predict`` makes of clean latents [b c f h w] noised to times t [b f].

    Each cell counts by ``weights`` [b f h w], or [b f 1 1] where all of a latent do alike; 0 is for context,
    shown as it is at time 0. Raises ValueError for a sample of which nothing counts.
    """
    if not weights.flatten(1).any(1).all():
        raise ValueError("every sample needs a latent that counts")
    times = rearrange(t, "b f -> b 1 f 1 1")
    predicted = predict(process.add_noise(clean, noise, times), t)
    error = predicted.float() - process.target(clean, noise, times).float()
    by_cell = reduce(error.square(), "b c f h w -> b f h w", "mean")
    weights = weights.expand_as(by_cell)
    return (by_cell * weights).flatten(1).sum(1) / weights.flatten(1).sum(1)
