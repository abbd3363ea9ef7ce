"""The lesson of diorama's text encoder: to name what random captions of its world say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from longvid.backends.diorama import captions, world
from longvid.backends.diorama.text import SIZES, AttributeEncoder, tokenize

FRAGMENTS = 0.2
"""How often a caption is a few words only."""
FIRST_COLUMNS = torch.tensor([0, *accumulate(SIZES)][:-1])
"""Of each attribute's values in the encoder's tokens."""


@dataclass(frozen=True)
class Batch:
    """``ids`` [b n] of the captions' words, and in which column of the tokens each attribute's value stands,
    ``columns`` [b a]."""

    ids: Tensor
    columns: Tensor


@dataclass(frozen=True)
class Naming:
    network: AttributeEncoder
    device: torch.device
    blocks: tuple[nn.Module, ...] = ()

    def identity(self) -> dict[str, Any]:
        return {"fragments": FRAGMENTS}

    @property
    def checks(self) -> dict[str, None]:
        return {"captions": None}

    def draw_task(self, seed: int, step: int) -> None:
        return None

    def multiple(self, task: None) -> int:
        return 1

    def draw(self, task: None, seed: int, step: int, samples: Sequence[int], held_out: bool = False) -> Batch:
        """Fresh captions; those that are held out are no other step's."""
        prompts, columns = [], []
        for sample in samples:
            rng = np.random.default_rng((seed, step, sample, int(held_out)))
            if rng.random() < FRAGMENTS:
                prompt, said = captions.fragment(rng)
            else:
                prompt, said = captions.compose(world.draw_spec(rng), rng)
            values = ((said[name], len(known)) for name, known in captions.VALUES.items())
            prompts.append(prompt)
            columns.append([unsaid if value is None else value for value, unsaid in values])
        told = torch.tensor(columns) + FIRST_COLUMNS
        return Batch(tokenize(prompts).to(self.device), told.to(self.device))

    def losses(self, network: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy [b], the sum over the attributes: each token holds its attribute's probabilities in
        columns of its own."""
        tokens: Tensor = network(batch.ids).float()
        probabilities = tokens.sum(1).gather(1, batch.columns)
        return -probabilities.clamp(min=1e-9).log().sum(1)
