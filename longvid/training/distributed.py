"""Accelerate for one device, several, or several machines: how a network and its state are spread.

DDP, FSDP2 and bfloat16 are tested on CPUs, over gloo; on cards nothing has been run yet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.checkpoint import checkpoint

from longvid.devices import choose_device
from longvid.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator  # type: ignore[import-untyped]  # it has no stubs

Precision = Literal["no", "bf16"]
PATIENCE = timedelta(days=2)
"""How long processes wait for the one that encodes the clips, or makes a sample film."""


def accelerator(precision: Precision = "no", device: str = "auto") -> Accelerator:
    """Accelerate for this process, which `accelerate launch` or torchrun may have started as one of several.

    On a card everything computes the same again, so that a run goes on to the bit. Raises UserError where
    Accelerate is missing, and for a card that is not there.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState  # type: ignore[import-untyped]  # it has no stubs
        from accelerate.utils import (  # type: ignore[import-untyped]  # it has no stubs
            DistributedDataParallelKwargs,
            InitProcessGroupKwargs,
        )
    except ImportError as error:
        raise UserError("training needs Accelerate: pip install 'longvid[training]'") from error
    # Accelerate remembers a process's first choice, and another run in it may choose otherwise.
    AcceleratorState._reset_state(reset_partial_state=False)
    chosen = choose_device(device)
    if chosen.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it is set
        if device != "auto":
            torch.cuda.set_device(chosen)
    return Accelerator(
        cpu=chosen.type == "cpu",
        mixed_precision=precision,
        kwargs_handlers=[
            DistributedDataParallelKwargs(gradient_as_bucket_view=True),
            InitProcessGroupKwargs(timeout=PATIENCE),
        ],
    )


def check_shared(step: int, folder: Path, accelerator: Accelerator) -> None:
    """Raise UserError where the processes do not see the same checkpoints, as on machines of their own."""
    steps = set(accelerator.gather(torch.tensor([step], device=accelerator.device)).tolist())
    if len(steps) > 1:
        raise UserError(
            f"{folder}: processes see checkpoints of steps {sorted(steps)}; give a folder that they share"
        )


def recompute(blocks: Sequence[nn.Module]) -> None:
    """Gradient checkpointing (Chen et al. 2016): a block keeps its inputs only, and is computed twice."""
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)


def shards(shard: bool, accelerator: Accelerator) -> bool:
    """Whether each process holds a part of the network only, as asked for here or of `accelerate launch`."""
    asked = shard or str(accelerator.distributed_type).endswith("FSDP")
    return accelerator.num_processes > 1 and asked


def wrapped(
    network: nn.Module, blocks: Sequence[nn.Module], shard: bool, accelerator: Accelerator
) -> nn.Module:
    """The network as several processes train it: in DDP, or with FSDP2 block by block."""
    if not shards(shard, accelerator):
        return cast(nn.Module, accelerator.prepare(network))
    # By PyTorch itself: Accelerate shards on cards only, and this way it is tested on CPUs.
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    network = network.to(accelerator.device)
    for part in (*blocks, network):
        fully_shard(part, mesh=mesh)
    return network


@contextmanager
def alone(network: nn.Module, accelerator: Accelerator) -> Iterator[None]:
    """No process waits for another's gradients meanwhile."""
    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(False)
        yield
        network.set_requires_gradient_sync(True)
    else:
        with accelerator.no_sync(network):
            yield


def reshard(network: nn.Module) -> None:
    """Let go of what FSDP has put together: its shards have changed."""
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def is_sharded(weights: Mapping[str, Tensor]) -> bool:
    return any(isinstance(weight, DTensor) for weight in weights.values())


def whole(tensor: Tensor) -> Tensor:
    """The tensor that shards make together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def spread(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor as ``like`` lies: on its device, and of its shards this process's own."""
    if isinstance(like, DTensor) and tensor.shape == like.shape:
        return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
    return tensor.to(like.device)
