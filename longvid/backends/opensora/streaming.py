"""Weights that wait in the CPU's memory and come to a device when they are computed with.

They wait as one piece of bytes, page-locked where a card fetches it, so that one copy brings all of them and
the card goes on computing meanwhile. On a CPU everything happens alike, but at once: the numbers are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn

from longvid.backends import Carry
from longvid.backends.opensora.stdit3 import Block, STDiT3
from longvid.backends.opensora.vae import OpenSoraCodec

ALIGNMENT = 512
"""Bytes, as CUDA's allocator aligns a tensor: kernels choose by it, and so do their last bits."""


@dataclass(frozen=True)
class Place:
    """Where a module's parameter or buffer lies in the packed bytes."""

    module: nn.Module
    name: str
    trained: bool
    start: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Packed:
    """The tensors of some modules, one behind the other in ``memory``, bytes on the CPU."""

    memory: Tensor
    places: tuple[Place, ...]

    def bind(self, memory: Tensor) -> None:
        """Let the modules compute with a copy of the bytes, on whatever device it is."""
        for place in self.places:
            count = _span(place.shape, place.stride) * place.dtype.itemsize
            values = memory[place.start : place.start + count].view(place.dtype)
            tensor = values.as_strided(place.shape, place.stride)
            if place.trained:
                tensor = nn.Parameter(tensor, requires_grad=False)
            setattr(place.module, place.name, tensor)


def pack(roots: Iterable[nn.Module], device: torch.device) -> Packed:
    """The tensors of these modules and of all below them, from now on bound to the packed bytes.

    ``device``: the one that will fetch them. (PyTorch rounds page-locked memory up to a power of two.)
    """
    places, tensors, end = [], [], 0
    for module in chain.from_iterable(root.modules() for root in roots):
        parameters = module.named_parameters(recurse=False)
        for name, tensor in chain(parameters, module.named_buffers(recurse=False)):
            trained = isinstance(tensor, nn.Parameter)
            shape, stride = tuple(tensor.shape), tensor.stride()
            places.append(Place(module, name, trained, end, shape, stride, tensor.dtype))
            tensors.append(tensor.detach())
            end += -(-_span(shape, stride) * tensor.dtype.itemsize // ALIGNMENT) * ALIGNMENT
    memory = torch.empty(end, dtype=torch.uint8, pin_memory=device.type == "cuda")
    packed = Packed(memory, tuple(places))
    packed.bind(memory)
    for place, tensor in zip(places, tensors, strict=True):
        cast(Tensor, getattr(place.module, place.name)).copy_(tensor)
    return packed


def _span(shape: Sequence[int], stride: Sequence[int]) -> int:
    """Numbers from a tensor's first one to its last one in memory."""
    return 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))


# For a while


@contextmanager
def visiting(packed: Packed, device: torch.device) -> Iterator[None]:
    """The weights are on the device inside, and in the CPU's memory again afterwards."""
    there = torch.empty_like(packed.memory, device=device)
    packed.bind(there.copy_(packed.memory, non_blocking=True))
    try:
        yield
    finally:
        packed.bind(packed.memory)


@dataclass(frozen=True)
class VisitingCodec:
    """A VideoCodec whose weights are on ``device`` only while it works; beside nothing else that needs it."""

    codec: OpenSoraCodec
    packed: Packed
    device: torch.device

    @staticmethod
    def of(codec: OpenSoraCodec, device: torch.device) -> VisitingCodec:
        return VisitingCodec(codec, pack([codec.autoencoder], device), device)

    def encode(self, video: Tensor) -> Tensor:
        with visiting(self.packed, self.device):
            return self.codec.encode(video)

    def encode_picture(self, picture: Tensor) -> Tensor:
        with visiting(self.packed, self.device):
            return self.codec.encode_picture(picture)

    def decode(self, chunk: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        with visiting(self.packed, self.device):
            return self.codec.decode(chunk, carry)

    def flush(self, carry: Carry) -> Tensor | None:
        return self.codec.flush(carry)


class VisitingLinear(nn.Module):
    """A linear layer whose weights come for each call."""

    def __init__(self, linear: nn.Linear, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.packed = pack([linear], device)
        # Not the layer: as a module inside a block it would be packed again, with the block.
        self.compute = linear.forward

    def forward(self, x: Tensor) -> Tensor:
        with visiting(self.packed, self.device):
            return self.compute(x)


# One after the other


class Stream:
    """Groups of weights that take turns in two buffers on a device.

    While one group computes, the next one comes into the other buffer, on a stream of its own. A group always
    comes to the same buffer: its tensors' addresses never change, and compiled code stays valid.
    """

    def __init__(self, groups: Sequence[Packed], device: torch.device) -> None:
        self.groups = groups
        self.device = device
        size = max(len(group.memory) for group in groups)
        self.buffers = [torch.empty(size, dtype=torch.uint8, device=device) for _ in groups[:2]]
        self.held: list[int | None] = [None] * len(self.buffers)
        """The group that each buffer holds, or that is on its way there."""
        for group, packed in enumerate(groups):
            packed.bind(self.buffers[group % 2])
        self.copying = torch.cuda.Stream(device) if device.type == "cuda" else None
        if self.copying is not None:
            self.arrived = [torch.cuda.Event() for _ in self.buffers]
            for buffer in self.buffers:
                # The last copies may be under way when the buffers are let go.
                buffer.record_stream(self.copying)

    def bring(self, group: int) -> None:
        """Make the group's weights those that the current stream computes with from here on.

        It has the group brought before, and what was computed with it, behind it.
        """
        if self.held[group % 2] != group:
            self._fetch(group)
        if self.copying is not None:
            torch.cuda.current_stream(self.device).wait_event(self.arrived[group % 2])
        following = (group + 1) % len(self.groups)
        if following % 2 != group % 2 and self.held[following % 2] != following:
            self._fetch(following)

    def _fetch(self, group: int) -> None:
        memory = self.groups[group].memory
        buffer = self.buffers[group % 2][: len(memory)]
        self.held[group % 2] = group
        if self.copying is None:
            buffer.copy_(memory)
            return
        # Whatever computes with what lies there now has been started: it ends first.
        self.copying.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.copying):
            buffer.copy_(memory, non_blocking=True)
            self.arrived[group % 2].record(self.copying)


class StreamedBlock(nn.Module):
    """A block whose weights, and those of the one behind it, are brought first."""

    def __init__(self, block: Block, bring: partial[None]) -> None:
        super().__init__()
        self.block = block
        self.cross_attn = block.cross_attn
        self.bring = bring

    def forward(self, *inputs: Any) -> Tensor:
        self.bring()
        x: Tensor = self.block(*inputs)
        return x


def stream_blocks(network: STDiT3, device: torch.device) -> STDiT3:
    """A network that lies on the CPU, in place: on the device, but for its blocks, which come in pairs.

    Blocks that are compiled are so already. What makes a prompt's keys and values is no part of a step: it
    comes when a prompt does.
    """
    pairs = list(zip(network.spatial_blocks, network.temporal_blocks, strict=True))
    for block in cast(Iterable[Block], chain.from_iterable(pairs)):
        block.cross_attn.add_module("kv_linear", VisitingLinear(block.cross_attn.kv_linear, device))
    stream = Stream([pack(pair, device) for pair in pairs], device)
    for i, (spatial, _) in enumerate(pairs):
        network.spatial_blocks[i] = StreamedBlock(cast(Block, spatial), partial(stream.bring, i))
    for part in network.children():
        if part not in (network.spatial_blocks, network.temporal_blocks):
            part.to(device)
    return network
