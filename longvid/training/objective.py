"""What the training loop asks of whatever is learnt: samples by their numbers, and the loss of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn


class Objective(Protocol):
    """A network, what it is taught, and what it is measured by.

    Every draw comes from (seed, step, sample), where samples are numbered over a step's whole batch: neither
    a restart nor how the batch is shared among processes and micro-batches changes what is drawn.
    """

    @property
    def network(self) -> nn.Module:
        """What an optimizer, DDP and FSDP get. A parameter that asks for no gradient is not trained."""
        ...

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Its repeated parts, which checkpointing recomputes and FSDP shards one at a time; maybe none."""
        ...

    @property
    def checks(self) -> Mapping[str, Any]:
        """The tasks that what is held out is measured in, by name; empty where nothing is held out.

        A name that begins with ``text`` tells whether prompts are heard: it is no part of the mean.
        """
        ...

    def identity(self) -> dict[str, Any]:
        """What of it the weights come of, JSON-able."""
        ...

    def draw_task(self, seed: int, step: int) -> Any:
        """What all samples of a step share. Raises UserError where there is nothing to learn from."""
        ...

    def multiple(self, task: Any) -> int:
        """How many samples of the task cost as much as one of the largest task."""
        ...

    def draw(self, task: Any, seed: int, step: int, samples: Sequence[int], held_out: bool = False) -> Any:
        """Some of a step's samples as a batch, by their numbers; ``held_out``: of what is never learnt."""
        ...

    def losses(self, network: nn.Module, batch: Any) -> Tensor:
        """The loss [b] of each sample; ``network`` is this objective's, as it is wrapped by now."""
        ...
