"""Noise that depends on nothing but who asks for it, so that nothing of a generator has to be saved."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

ENTRY = 0
"""The step of the noise that a unit enters the window as. Not its global entering step, which moves with the
number of steps: a draft with fewer steps starts from the same noise. A unit that is noised up at step 0 was
there before the film and never enters, so it meets no other noise of the unit."""


def noise(seed: int, unit: int, step: int, shape: Sequence[int]) -> Tensor:
    """Standard normal fp32 noise of ``shape`` on the CPU for one unit of the film at one global step.

    The generator is seeded by the first 63 bits of SHA-256("seed/unit/step").
    """
    digest = hashlib.sha256(f"{seed}/{unit}/{step}".encode()).digest()
    generator = torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)


class UnitNoise(Protocol):
    def __call__(self, unit: int, step: int) -> Tensor:
        """Standard normal noise [b c l h w] in fp32 for one unit at one global step (ENTRY: as it enters)."""
        ...


def per_unit(seeds: Sequence[int], unit_shape: tuple[int, int, int, int]) -> UnitNoise:
    """A film's noise: ``seeds`` has each unit's seed, by its index; ``unit_shape`` is (c, l, h, w)."""
    return lambda unit, step: noise(seeds[unit], unit, step, unit_shape)[None]
