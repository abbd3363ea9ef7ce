"""The lesson of diorama's text encoder: to name what random captions of its world say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from longvid.backends.diorama import captions, world
from longvid.backends.diorama.text import MAX_WORDS, SIZES, AttributeEncoder, tokenize

FRAGMENTS = 0.5
"""How often a caption is a few words only, in any order."""
SPLICED = 0.5
"""How often a phrase of those is joined of two."""
UNHEARD = 0.05
"""How often a word is not heard, so that none is relied on alone."""
DROPPED = 2
"""What a generator draws the encoder's dropout for; 0 and 1 are captions to learn from and to measure by."""
Phrasing = Literal["captions", "held-out phrasings"]
FIRST_COLUMNS = torch.tensor([0, *accumulate(SIZES)][:-1])
"""Of each attribute's values in the encoder's tokens."""


@dataclass(frozen=True)
class Batch:
    """``ids`` [b n] of the captions' words, and in which column of the tokens each attribute's value stands,
    ``columns`` [b a]; ``seed``: of what the encoder drops to learn from them, None where it is measured."""

    ids: Tensor
    columns: Tensor
    seed: int | None


@dataclass(frozen=True)
class Naming:
    network: AttributeEncoder
    device: torch.device
    blocks: tuple[nn.Module, ...] = ()

    def identity(self) -> dict[str, Any]:
        return {"fragments": FRAGMENTS, "spliced": SPLICED, "unheard": UNHEARD}

    @property
    def checks(self) -> dict[str, Phrasing]:
        """Fresh captions as in training; and those whose phrases and order training never uses."""
        return {"captions": "captions", "held-out phrasings": "held-out phrasings"}

    def draw_task(self, seed: int, step: int) -> Phrasing:
        return "captions"

    def multiple(self, task: Phrasing) -> int:
        return 1

    def draw(
        self, task: Phrasing, seed: int, step: int, samples: Sequence[int], held_out: bool = False
    ) -> Batch:
        """Fresh captions; those that are held out are no other step's, every word of them is heard, and no
        phrase is joined. What the encoder drops is drawn for these samples together: it is another where a
        batch is cut otherwise."""
        prompts, columns, heard = [], [], []
        for sample in samples:
            rng = np.random.default_rng((seed, step, sample, int(held_out)))
            if task == "held-out phrasings":
                prompt, said = captions.compose_held_out(world.draw_spec(rng), rng)
            elif rng.random() < FRAGMENTS:
                prompt, said = captions.fragment(rng, 0 if held_out else SPLICED)
            else:
                prompt, said = captions.compose(world.draw_spec(rng), rng)
            values = ((said[name], len(known)) for name, known in captions.VALUES.items())
            prompts.append(prompt)
            columns.append([unsaid if value is None else value for value, unsaid in values])
            heard.append(rng.random(MAX_WORDS) >= (0 if held_out else UNHEARD))
        told = torch.tensor(columns) + FIRST_COLUMNS
        ids = tokenize(prompts)
        ids *= torch.from_numpy(np.stack(heard))[:, : ids.shape[1]]
        dropped = np.random.default_rng((seed, step, samples[0], DROPPED)).integers(2**63)
        return Batch(ids.to(self.device), told.to(self.device), None if held_out else int(dropped))

    def losses(self, network: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy [b], the sum over the attributes: each token holds its attribute's probabilities in
        columns of its own. The encoder drops what it does to learn, and nothing to be measured."""
        network.train(batch.seed is not None)
        with torch.random.fork_rng(devices=[]):
            if batch.seed is not None:
                torch.manual_seed(batch.seed)
            tokens: Tensor = network(batch.ids).float()
        probabilities = tokens.sum(1).gather(1, batch.columns)
        return -probabilities.clamp(min=1e-9).log().sum(1)
