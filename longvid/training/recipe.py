"""What a training is asked for, and how its batches are shared among processes. Torch-free."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from longvid.errors import UserError

Optimizer = Literal["adamw", "adamw-8bit", "muon"]
HARMLESS = frozenset(
    {"steps", "micro_batch", "recompute", "shard", "checkpoint_steps", "keep_last", "held_out_samples"}
    | {"non_finite_limit", "sample_steps"}
)
"""What may change when a run goes on: the same weights come of it, rounding apart; more ``steps`` make it
longer, and its rate falls later from there on."""


@dataclass(frozen=True)
class Recipe:
    """``batch``: samples a step, over all processes; ``micro_batch``: how many of them a process computes at
    once; a task of small samples takes so many times more of both (`Objective.multiple`). What is drawn for a
    step does not depend on how its batch is shared.

    The rate rises over ``warmup_steps``, and falls to 0 as a cosine over the last ``cooldown`` of the steps
    (1: all of them). ``average``: what the average of the weights keeps of itself in a step. ``recompute``:
    gradient checkpointing, less memory for a third more time. ``shard``: FSDP2, each process holds a part of
    weights and optimizer. ``held_out_samples``: of each check, measured with every checkpoint.
    ``non_finite_limit``: so many steps in a row without a finite gradient end the run.
    """

    steps: int
    batch: int = 8
    micro_batch: int = 1
    lr: float = 1e-4
    warmup_steps: int = 100
    cooldown: float = 1.0
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    average: float = 0.999
    optimizer: Optimizer = "adamw"
    recompute: bool = False
    shard: bool = False
    seed: int = 0
    checkpoint_steps: int = 500
    keep_last: int = 2
    held_out_samples: int = 8
    non_finite_limit: int = 10
    sample_steps: int = 0

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        high = max(self.warmup_steps, round(self.steps * (1 - self.cooldown)))
        fallen = max(0, step - high) / max(1, self.steps - high)
        return self.lr * (1 + math.cos(math.pi * fallen)) / 2

    def identity(self) -> dict[str, Any]:
        """What the weights come of."""
        return {key: value for key, value in asdict(self).items() if key not in HARMLESS}

    def share(self, processes: int) -> list[list[range]]:
        """The samples of each process's micro-batches. Raises UserError where they cannot be shared."""
        once = processes * self.micro_batch
        if self.batch < once or self.batch % once:
            nearest = max(1, round(self.batch / once)) * once
            by = f"{processes} processes" if processes > 1 else "a process"
            raise UserError(
                f"a batch of {self.batch} cannot be computed by {by}, {self.micro_batch} samples at once; "
                f"try one of {nearest}"
            )
        each = self.batch // processes
        return [
            [range(first, first + self.micro_batch) for first in range(begin, begin + each, self.micro_batch)]
            for begin in range(0, self.batch, each)
        ]
