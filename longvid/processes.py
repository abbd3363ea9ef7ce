"""How a level becomes noise, how a prediction becomes a step, and the solvers between them.

Both processes walk one path. At time t a latent is, up to a scale that is known,

    z(tau) = (1 - tau) clean + tau noise        tau = clock(t), from clock(0) = 0

a straight line (Lipman et al. 2023; Liu et al. 2022), whose slope is noise - clean. For rectified flow the
scale is 1 and the clock is t itself; a DDPM-type network's path becomes this line after division by
sqrt(alpha_bar) + sqrt(1 - alpha_bar), and an Euler step along it is then exactly DDIM with eta = 0 (Song et
al. 2021). So a network's prediction is first turned into the slope, a solver improves the slope, a process
steps.

All times are fp32 tensors in [0, 1] that broadcast to the latents, so every frame may have its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class RectifiedFlow:
    """x_t = (1 - t) clean + t noise; dx/dt = noise - clean, so that a step is x + (t_next - t) slope.

    ``predicts`` is the sign of what the network returns: "noise - clean" is the slope itself, "clean - noise"
    is the published convention of Open-Sora.
    """

    predicts: Literal["noise - clean", "clean - noise"] = "noise - clean"

    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Paper eq. 2, for this process: clean latents noised to t."""
        return (1 - t) * clean + t * noise

    def renoise(self, x: Tensor, noise: Tensor, t_from: Tensor, t_to: Tensor) -> Tensor:
        """x at t_from noised up to t_to >= t_from: distributed as clean latents noised to t_to at once."""
        scale = (1 - t_to) / (1 - t_from)
        std = (t_to.square() - (scale * t_from).square()).clamp(min=0).sqrt()
        return torch.where(t_to > t_from, scale * x + std * noise, x)

    def clock(self, t: Tensor) -> Tensor:
        return t

    def slope(self, x: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        return prediction if self.predicts == "noise - clean" else -prediction

    def target(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return noise - clean if self.predicts == "noise - clean" else clean - noise

    def step(self, x: Tensor, slope: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
        return x + (t_next - t) * slope


@dataclass(frozen=True, eq=False)
class DDIM:
    """DDIM with eta = 0 for DDPM-type networks: x_t = sqrt(a) clean + sqrt(1 - a) noise, a = alpha_bar(t).

    ``alpha_bars`` [T], in (0, 1] and falling, are the products of 1 - beta that the network was trained with.
    ``predicts``: "noise", or "velocity" = sqrt(a) noise - sqrt(1 - a) clean (Salimans & Ho 2022). Time t
    meets the table at position t T - 1, linearly between its entries, and alpha_bar(0) = 1: t = 0 is exactly
    clean, t = 1 is the table's end, as near to pure noise as the network knows.
    """

    alpha_bars: Tensor
    predicts: Literal["noise", "velocity"]

    def __post_init__(self) -> None:
        table = self.alpha_bars
        if (
            table.ndim != 1
            or bool((table.diff() >= 0).any())
            or not 0 <= float(table[-1]) < float(table[0]) <= 1
        ):
            raise ValueError("alpha_bars must be one falling row of numbers in [0, 1]")
        if self.predicts == "noise" and float(table[-1]) == 0:
            raise ValueError("a network that predicts noise cannot begin at alpha_bar = 0")

    def alpha_bar(self, t: Tensor) -> Tensor:
        """alpha_bar at times t, shaped like t."""
        table = torch.cat([torch.ones(1), self.alpha_bars.float().cpu()]).to(t.device, non_blocking=True)
        position = t * (len(table) - 1)
        below = position.floor().long().clamp(max=len(table) - 2)
        return torch.lerp(table[below], table[below + 1], position - below)

    def timestep(self, t: Tensor) -> Tensor:
        """The table's index at times t, what such a network takes for time: in [0, T - 1], not rounded."""
        return (t * len(self.alpha_bars) - 1).clamp(min=0)

    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Paper eq. 2: clean latents noised to t."""
        signal, sigma = self._scales(t)
        return signal * clean + sigma * noise

    def renoise(self, x: Tensor, noise: Tensor, t_from: Tensor, t_to: Tensor) -> Tensor:
        """x at t_from noised up to t_to >= t_from: distributed as clean latents noised to t_to at once."""
        ratio = self.alpha_bar(t_to) / self.alpha_bar(t_from)
        return torch.where(t_to > t_from, ratio.sqrt() * x + (1 - ratio).clamp(min=0).sqrt() * noise, x)

    def clock(self, t: Tensor) -> Tensor:
        signal, sigma = self._scales(t)
        return sigma / (signal + sigma)

    def slope(self, x: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        signal, sigma = self._scales(t)
        if self.predicts == "noise":
            return ((signal + sigma) * prediction - x) / signal
        return (sigma - signal) * x + (signal + sigma) * prediction

    def target(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        if self.predicts == "noise":
            return noise
        signal, sigma = self._scales(t)
        return signal * noise - sigma * clean

    def step(self, x: Tensor, slope: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
        scale, scale_next = sum(self._scales(t)), sum(self._scales(t_next))
        return scale_next * (x / scale + (self.clock(t_next) - self.clock(t)) * slope)

    def _scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The shares of clean picture and of noise in x at times t."""
        alpha_bar = self.alpha_bar(t)
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


class Solver(Protocol):
    def __call__(self, slope: Tensor, previous: Tensor | None, ratio: Tensor) -> tuple[Tensor, Tensor | None]:
        """The slope to step with, and what to remember of this evaluation (None: nothing).

        ``slope`` [b c f h w] is the network's, ``previous`` what was remembered of each frame's evaluation
        before, and ``ratio`` [1 1 f 1 1] this step's length over that one's, both in the process's clock; 0
        for a unit's first step, where ``previous`` means nothing.
        """
        ...


def euler(slope: Tensor, previous: Tensor | None, ratio: Tensor) -> tuple[Tensor, Tensor | None]:
    """First order: the slope as it is."""
    return slope, None


def ab2(slope: Tensor, previous: Tensor | None, ratio: Tensor) -> tuple[Tensor, Tensor | None]:
    """Adams-Bashforth of second order, for steps of changing length: the slope at the middle of the step,
    extrapolated through the last two. A unit's first step is Euler's."""
    if previous is None:
        return slope, slope
    return slope + ratio / 2 * (slope - previous), slope


SOLVERS: Mapping[str, Solver] = {"euler": euler, "ab2": ab2}
