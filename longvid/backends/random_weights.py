"""A model without a file: networks of random weights and prompts of random embeddings, to measure with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from longvid.backends import Prompts

TOKENS = 100
"""Of a prompt: a few sentences."""
ADDED = ("bias", "scale_shift_table")
"""Ends of the names of what is added, and scales nothing by itself."""


def fill(network: nn.Module, device: torch.device, seed: int = 0) -> None:
    """Give a network on the meta device random weights, each made on ``device`` in its own dtype.

    Matrices and kernels keep the scale of what goes through them: every layer, the last one too, gives
    numbers near 1. Equal seeds give equal weights on devices of one kind.
    """
    network.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for name, tensor in chain(network.named_parameters(), network.named_buffers()):
            filled(tensor, name, generator)


def filled(tensor: Tensor, name: str, generator: torch.Generator) -> Tensor:
    """The tensor of this name with random numbers: matrices and kernels keep the scale of what goes through
    them, what is added is 0, what is a factor 1."""
    if tensor.ndim > 1 and len(tensor) > 1:
        bound = (3 / tensor[0].numel()) ** 0.5
        return tensor.uniform_(-bound, bound, generator=generator)
    return tensor.fill_(0 if name.endswith(ADDED) else 1)


def embedding(prompt: str, tokens: int, width: int) -> Tensor:
    """Normal numbers [n d] that depend on the prompt alone, fp32 on the CPU."""
    seed = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big") >> 1
    return torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class RandomEncoder:
    """A TextEncoder that reads nothing: every prompt but "" has TOKENS tokens, of at most ``max_length``."""

    max_length: int
    width: int

    def __call__(self, prompts: Sequence[str]) -> Prompts:
        """Embeddings [p n d] in fp32 on the CPU and mask [p n], n = max_length, as T5Encoder has them."""
        hidden = torch.zeros(len(prompts), self.max_length, self.width)
        mask = torch.zeros(len(prompts), self.max_length, dtype=torch.bool)
        tokens = min(TOKENS, self.max_length)
        for row, prompt in enumerate(prompts):
            if prompt:
                hidden[row, :tokens] = embedding(prompt, tokens, self.width)
                mask[row, :tokens] = True
        return Prompts(hidden, mask)

    def negative(self, prompt: str) -> Prompts:
        return self([prompt])

    def unread(self, prompt: str) -> str:
        return ""
