"""What training reads: encoded clips as runs of whole chunks under their prompts, and clips as pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from longvid.backends import Prompts


@dataclass(frozen=True)
class Excerpt:
    """Neighbouring chunks of a sequence: ``latents`` [c f h w] in fp32, the ``prompts`` [p n d] that they are
    under, and each chunk's shares of these, ``mix`` [k p], as `Film.text` takes them. ``weights`` [f h w]:
    how much each cell counts in the loss; None: all the same."""

    latents: Tensor
    prompts: Prompts
    mix: Tensor
    weights: Tensor | None = None


class Sequences(Protocol):
    """All of one latent size; the same at every reading."""

    @property
    def chunks(self) -> Sequence[int]:
        """How many each sequence has."""
        ...

    def begins(self, sequence: int) -> Sequence[bool]:
        """Of each of its chunks, whether a film could begin with it: it is in no transition, say."""
        ...

    def excerpt(self, sequence: int, first: int, chunks: int) -> Excerpt:
        """So many chunks of a sequence, from its chunk ``first`` on, on the CPU."""
        ...


@dataclass(frozen=True)
class Shown:
    """Neighbouring frames of a clip: ``pixels`` [f h w 3] uint8, and how much each counts in a loss,
    ``weights`` [f h w]; None: all the same."""

    pixels: Tensor
    weights: Tensor | None = None


class Footage(Protocol):
    """Clips as pixels, all of one size and rate; each begins where a film's first chunk would."""

    @property
    def frames(self) -> Sequence[int]:
        """How many each clip has."""
        ...

    def excerpt(self, clip: int, first: int, frames: int) -> Shown:
        """So many frames of a clip, from its frame ``first`` on, on the CPU."""
        ...


@dataclass(frozen=True)
class InMemory:
    """Sequences [c f h w] of ``chunk_latents`` latents a chunk; ``captions``: the row of ``prompts`` that
    each chunk of each sequence is under."""

    latents: tuple[Tensor, ...]
    captions: tuple[tuple[int, ...], ...]
    prompts: Prompts
    chunk_latents: int

    @property
    def chunks(self) -> tuple[int, ...]:
        return tuple(map(len, self.captions))

    def begins(self, sequence: int) -> tuple[bool, ...]:
        return (True,) * len(self.captions[sequence])

    def excerpt(self, sequence: int, first: int, chunks: int) -> Excerpt:
        rows = self.captions[sequence][first : first + chunks]
        used = sorted(set(rows))
        return Excerpt(
            self.latents[sequence][:, first * self.chunk_latents : (first + chunks) * self.chunk_latents],
            Prompts(self.prompts.embeddings[used], self.prompts.mask[used]),
            torch.tensor([[float(row == each) for each in used] for row in rows]),
        )
