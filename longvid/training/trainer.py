"""The training loop, on Accelerate: one device, several, or several machines by `accelerate launch`.

`train` yields an event a step and keeps checkpoints; progress, curves, samples and stopping are loops over
it. DDP, FSDP2 and bfloat16 are tested on CPUs, over gloo; on cards nothing has been run yet, and 8-bit AdamW,
which needs one, not at all.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.checkpoint import checkpoint

from longvid.backends import Trainee
from longvid.devices import choose_device
from longvid.errors import RenderError, UserError
from longvid.training import checkpoints
from longvid.training.average import swapped, update_average
from longvid.training.metrics import mean
from longvid.training.objective import Objective, checks
from longvid.training.recipe import Recipe
from longvid.training.sequences import Sequences

if TYPE_CHECKING:
    from accelerate import Accelerator  # type: ignore[import-untyped]  # it has no stubs

Precision = Literal["no", "bf16"]
HELD_OUT_SEED = 0


@dataclass(frozen=True)
class Began:
    """``step``: of the checkpoint that the run goes on from, 0 for none; ``broken``: newer ones, passed over.
    ``held_out``: the loss of what is being trained before its first step, by kind of window."""

    step: int
    steps: int
    parameters: int
    processes: int
    held_out: Mapping[str, float]
    broken: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Stepped:
    """A step is done, the first being 1. ``loss`` is a mean over the batch; ``seconds`` went into this step,
    ``elapsed_seconds`` into the whole run, measuring and saving included. ``skipped``: steps so far that were
    left out, as their loss or gradient was not finite; ``held_out``: by kind of window, where measured."""

    step: int
    loss: float
    lr: float
    seconds: float
    gradient_norm: float
    skipped: int
    samples: int
    elapsed_seconds: float
    held_out: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Saved:
    step: int
    path: Path


@dataclass(frozen=True)
class Unsaved:
    """A checkpoint could not be written; the ones before it are there, and the run goes on."""

    step: int
    reason: str


Event = Began | Stepped | Saved | Unsaved


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
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )


def train(
    trainee: Trainee,
    objective: Objective,
    data: Sequences,
    held_out: Sequences,
    recipe: Recipe,
    accelerator: Accelerator,
    folder: Path,
    *,
    identity: Mapping[str, Any] | None = None,
    stopping: Callable[[], bool] = bool,
) -> Iterator[Event]:
    """Train, going on from the last whole checkpoint in ``folder``, to the bit where device and number of
    processes are the same.

    ``identity``: what else the weights come of (model, data, LoRA), JSON-able. ``stopping`` is asked in every
    process after each step; where one says yes, all stop behind a checkpoint. Raises UserError where a
    checkpoint was begun with something else, RenderError where the loss stays not finite, and where the last
    checkpoint cannot be written.
    """
    processes = accelerator.num_processes
    micro_batches = recipe.share(processes)[accelerator.process_index]
    identity = json.loads(json.dumps({**(identity or {}), **objective.identity(), **recipe.identity()}))
    saved, broken = checkpoints.newest(folder)
    if saved is not None:
        check_same(saved, identity)
    check_shared(0 if saved is None else saved.step, folder, accelerator)
    if recipe.recompute:
        recompute(trainee.blocks)
    network = wrapped(trainee, recipe, accelerator)
    weights = trained(accelerator.unwrap_model(network))
    optimizer = make_optimizer(recipe, list(weights.values()))
    average = {name: weight.detach().clone() for name, weight in weights.items()}
    step, skipped, elapsed = 0, 0, 0.0
    if saved is not None:
        step, skipped, elapsed = saved.step, saved.state["skipped"], saved.state["elapsed_seconds"]
        load(saved, weights, average, optimizer)
    clock = time.monotonic() - elapsed

    def measure() -> dict[str, float]:
        with swapped(average, weights), torch.no_grad():
            losses = measure_held_out(trainee, network, objective, held_out, recipe, accelerator)
        for module in network.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # What it has put together is the average still.
        return losses

    def save(losses: Mapping[str, float]) -> Saved | Unsaved:
        """By the main process; the tensors come together from all, and all know how it went."""
        state = {
            "step": step,
            "skipped": skipped,
            "elapsed_seconds": time.monotonic() - clock,
            "identity": identity,
            "held_out": dict(losses),
            "held_out_loss": mean(losses),
            "held_out_before": dict(before),
        }
        parts = gathered(weights, average, optimizer, keep=accelerator.is_main_process)
        reason = ""
        if accelerator.is_main_process:
            try:
                checkpoints.save(folder, state, parts)
                checkpoints.prune(folder, step, recipe.keep_last)
            except RenderError as error:
                reason = str(error)
        if accelerator.reduce(torch.tensor(len(reason), device=accelerator.device), "sum"):
            return Unsaved(step, reason or f"{folder}: the main process cannot write there")
        return Saved(step, checkpoints.path(folder, step))

    before = measure() if saved is None else saved.state["held_out_before"]
    count = sum(weight.numel() for weight in weights.values())
    yield Began(step, recipe.steps, count, processes, before, tuple(broken))

    bad, stop = 0, False
    while step < recipe.steps and not stop:
        began = time.perf_counter()
        window = objective.draw_window(data, recipe.seed, step)
        losses = torch.zeros((), device=accelerator.device)
        for micro, samples in enumerate(micro_batches):
            last = micro == len(micro_batches) - 1
            batch = objective.draw(data, window, recipe.seed, step, samples, recipe.dropout)
            with nullcontext() if last else alone(network, accelerator):
                with accelerator.autocast():
                    loss = objective.losses(trainee, network, batch).sum()
                # DDP and FSDP take the mean over the processes.
                accelerator.backward(loss * (processes / recipe.batch))
            losses += loss.detach()
        norm = whole(accelerator.clip_grad_norm_(weights.values(), recipe.clip_norm)).item()
        told = torch.stack([losses, torch.full_like(losses, stopping())])
        total, asked = accelerator.reduce(told, "sum").tolist()
        loss_mean, stop = total / recipe.batch, asked > 0
        lr = recipe.rate(step)
        if math.isfinite(loss_mean) and math.isfinite(norm):
            bad = 0
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            update_average(average, weights, step, recipe.average)
        else:
            bad, skipped = bad + 1, skipped + 1
        optimizer.zero_grad()
        if bad >= recipe.non_finite_limit:
            raise RenderError(diverged(step + 1, bad, folder))
        step += 1
        seconds = time.perf_counter() - began
        due = stop or step == recipe.steps or step % recipe.checkpoint_steps == 0
        figures = measure() if due else {}
        elapsed = time.monotonic() - clock
        yield Stepped(step, loss_mean, lr, seconds, norm, skipped, step * recipe.batch, elapsed, figures)
        if due:
            event = save(figures)
            yield event
            if isinstance(event, Unsaved) and (stop or step == recipe.steps):
                raise RenderError(event.reason)


# Its parts


def check_same(saved: checkpoints.Checkpoint, identity: Mapping[str, Any]) -> None:
    """Raise UserError where a checkpoint was begun with something else than this run."""
    was = saved.state["identity"]
    for key in [*identity, *(key for key in was if key not in identity)]:
        if was.get(key) != identity.get(key):
            raise UserError(
                f"{saved.path}: was trained with {key} {was.get(key)}, this run has {identity.get(key)}; "
                "give the same, or another folder"
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


def wrapped(trainee: Trainee, recipe: Recipe, accelerator: Accelerator) -> nn.Module:
    """The network as several processes train it: in DDP, or with FSDP2 block by block."""
    asked = recipe.shard or str(accelerator.distributed_type).endswith("FSDP")
    if accelerator.num_processes == 1 or not asked:
        return cast(nn.Module, accelerator.prepare(trainee.network))
    # By PyTorch itself: Accelerate shards on cards only, and this way it is tested on CPUs.
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    network = trainee.network.to(accelerator.device)
    for part in (*trainee.blocks, network):
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


def trained(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that ask for a gradient, by name."""
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def make_optimizer(recipe: Recipe, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), or bitsandbytes' with its state in 8 bits. Raises UserError."""
    options: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, **options, fused=True)
    if parameters[0].device.type != "cuda" or find_spec("bitsandbytes") is None:
        raise UserError(
            "--optimizer adamw-8bit: needs a CUDA card and bitsandbytes (pip install bitsandbytes); "
            "adamw needs neither"
        )
    from bitsandbytes.optim import AdamW8bit  # type: ignore[import-not-found, unused-ignore]  # for cards only

    return cast(torch.optim.Optimizer, AdamW8bit(parameters, **options))


def measure_held_out(
    trainee: Trainee,
    network: nn.Module,
    objective: Objective,
    data: Sequences,
    recipe: Recipe,
    accelerator: Accelerator,
) -> dict[str, float]:
    """Mean loss on held-out sequences by kind of window, the same samples each time; without those that are
    not finite, {} where there is no sequence. The processes share the samples."""
    if not data.chunks:
        return {}
    windows = checks(objective.window, max(data.chunks))
    sums = torch.zeros(len(windows), device=accelerator.device)
    wanted, once = recipe.held_out_samples, recipe.micro_batch
    # All processes compute equally often, since they wait for each other; what is too many does not count.
    together = accelerator.num_processes * once
    for kind, window in enumerate(windows.values()):
        for turn in range(0, wanted, together):
            first = turn + accelerator.process_index * once
            samples = range(first, first + once)
            batch = objective.draw(data, window, HELD_OUT_SEED, kind, samples, dropout=0.0)
            with accelerator.autocast():
                losses = objective.losses(trainee, network, batch)
            sums[kind] += losses[: max(0, wanted - first)].sum()
    means = (accelerator.reduce(sums, "sum") / recipe.held_out_samples).tolist()
    return {kind: loss for kind, loss in zip(windows, means, strict=True) if math.isfinite(loss)}


def gathered(
    weights: Mapping[str, Tensor], average: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, keep: bool
) -> dict[str, dict[str, Tensor]]:
    """The parts of a checkpoint. All processes take part in putting shards together; some ``keep`` them."""
    state = checkpoints.flatten(optimizer.state_dict()["state"], list(weights))
    parts = {"weights": weights, "average": average, "optimizer": state}
    if not any(isinstance(weight, DTensor) for weight in weights.values()):
        return {part: dict(tensors) for part, tensors in parts.items()}
    whole_parts: dict[str, dict[str, Tensor]] = {part: {} for part in parts}
    for part, tensors in parts.items():
        for name, tensor in tensors.items():
            there = whole(tensor)
            if keep:
                whole_parts[part][name] = there.cpu()
    return whole_parts


def whole(tensor: Tensor) -> Tensor:
    """The tensor that shards make together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def load(
    saved: checkpoints.Checkpoint,
    weights: Mapping[str, Tensor],
    average: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Give network, average and optimizer what they had. Raises UserError for another network's."""

    def put(value: Tensor, like: Tensor) -> Tensor:
        if isinstance(like, DTensor) and value.shape == like.shape:
            return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
        return value.to(like.device)

    for part, tensors in (("weights", weights), ("average", average)):
        stored = saved.tensors(part)
        if stored.keys() != tensors.keys():
            raise UserError(f"{saved.path}: is of another network; give another folder")
        for name, tensor in tensors.items():
            tensor.copy_(put(stored[name], tensor))
    names = list(weights)
    state = checkpoints.unflatten(saved.tensors("optimizer"), names)
    placed = {
        index: {
            key: put(value, weights[names[index]]) if isinstance(value, Tensor) and value.ndim else value
            for key, value in values.items()
        }
        for index, values in state.items()
    }
    optimizer.load_state_dict({**optimizer.state_dict(), "state": placed})


def diverged(step: int, bad: int, folder: Path) -> str:
    """What a person reads when the loss is lost."""
    there = checkpoints.steps(folder)
    kept = f"{folder / f'{there[-1]:06d}'} is kept" if there else "there is no checkpoint yet"
    return (
        f"step {step}: no finite loss or gradient {bad} times in a row; {kept}. Begin anew with a lower "
        "learning rate"
    )
