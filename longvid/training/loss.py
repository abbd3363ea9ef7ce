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
    noisy: Tensor,
) -> Tensor:
    """Mean squared error [b] of what ``predict`` makes of clean latents [b c f h w] noised to times t [b f].

    It counts over the latents that ``noisy`` [b f] marks; the others are context, shown as they are at time
    0. Raises ValueError for a sample without a noisy latent.
    """
    if not noisy.any(1).all():
        raise ValueError("every sample needs a noisy latent")
    times = rearrange(t, "b f -> b 1 f 1 1")
    predicted = predict(process.add_noise(clean, noise, times), t)
    error = predicted.float() - process.target(clean, noise, times).float()
    by_latent = reduce(error.square(), "b c f h w -> b f", "mean")
    return (by_latent * noisy).sum(1) / noisy.sum(1)
