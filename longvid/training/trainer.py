"""The training loop, on Accelerate: one device, several, or several machines by `accelerate launch`.

`train` yields an event a step and keeps checkpoints; progress, curves, sample films and stopping are loops
over it. 8-bit AdamW, which needs a card, was never run.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from longvid.errors import RenderError, UserError
from longvid.training import checkpoints
from longvid.training.average import swapped, update_average
from longvid.training.distributed import (
    alone,
    check_shared,
    is_sharded,
    recompute,
    reshard,
    spread,
    whole,
    wrapped,
)
from longvid.training.metrics import mean
from longvid.training.objective import Objective
from longvid.training.optimizers import load_state, make_optimizer, named_state, set_rate
from longvid.training.recipe import Recipe

if TYPE_CHECKING:
    from accelerate import Accelerator  # type: ignore[import-untyped]  # it has no stubs

HELD_OUT_SEED = 0


@dataclass(frozen=True)
class Began:
    """``step``: of the checkpoint that the run goes on from, 0 for none; ``broken``: newer ones, passed over.
    ``held_out``: the loss of what is being trained as it stands there, by check."""

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
    left out, as their loss or gradient was not finite; ``held_out``: by check, where measured."""

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


@dataclass(frozen=True)
class Averaged:
    """Until the next event is asked for, the network holds the average of its weights: what would be written.
    Every process comes by here, so that all may use it, or wait."""

    step: int


Event = Began | Stepped | Averaged | Saved | Unsaved


def train(
    objective: Objective,
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
        recompute(objective.blocks)
    network = wrapped(objective.network, objective.blocks, recipe.shard, accelerator)
    weights = trained(accelerator.unwrap_model(network))
    optimizer = make_optimizer(recipe, weights)
    average = {name: weight.detach().clone() for name, weight in weights.items()}
    step, skipped, elapsed = 0, 0, 0.0
    if saved is not None:
        step, skipped, elapsed = saved.step, saved.state["skipped"], saved.state["elapsed_seconds"]
        load(saved, weights, average, optimizer)
    clock = time.monotonic() - elapsed
    if saved is not None:
        before, now = saved.state["held_out_before"], saved.state["held_out"]
    else:
        before = now = measure(objective, network, recipe, accelerator)
    count = sum(weight.numel() for weight in weights.values())
    yield Began(step, recipe.steps, count, processes, now, tuple(broken))

    bad, stop = 0, False
    while step < recipe.steps and not stop:
        began = time.perf_counter()
        task = objective.draw_task(recipe.seed, step)
        multiple = objective.multiple(task)
        losses = torch.zeros((), device=accelerator.device)
        for micro, shared in enumerate(micro_batches):
            samples = range(shared.start * multiple, shared.stop * multiple)
            batch = objective.draw(task, recipe.seed, step, samples)
            last = micro == len(micro_batches) - 1
            with nullcontext() if last else alone(network, accelerator):
                with accelerator.autocast():
                    loss = objective.losses(network, batch).sum() / (recipe.batch * multiple)
                # DDP and FSDP take the mean over the processes.
                accelerator.backward(loss * processes)
            losses += loss.detach()
        norm = whole(accelerator.clip_grad_norm_(weights.values(), recipe.clip_norm)).item()
        told = torch.stack([losses, torch.full_like(losses, stopping())])
        loss_mean, asked = accelerator.reduce(told, "sum").tolist()
        stop = asked > 0
        lr = recipe.rate(step)
        if math.isfinite(loss_mean) and math.isfinite(norm):
            bad = 0
            set_rate(optimizer, lr)
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
        figures: dict[str, float] = {}
        if due:
            with swapped(average, weights):
                figures = measure(objective, network, recipe, accelerator)
            reshard(network)
        elapsed = time.monotonic() - clock
        yield Stepped(step, loss_mean, lr, seconds, norm, skipped, step * recipe.batch, elapsed, figures)
        if due:
            state = {
                "step": step,
                "skipped": skipped,
                "elapsed_seconds": elapsed,
                "identity": identity,
                "held_out": figures,
                "held_out_loss": mean(figures),
                "held_out_before": dict(before),
            }
            event = save(folder, state, recipe.keep_last, weights, average, optimizer, accelerator)
            yield event
            if isinstance(event, Unsaved) and (stop or step == recipe.steps):
                raise RenderError(event.reason)
        if recipe.sample_steps and step % recipe.sample_steps == 0 and not stop:
            with swapped(average, weights):
                yield Averaged(step)
            reshard(network)


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


def trained(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that ask for a gradient, by name."""
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


@torch.no_grad()
def measure(
    objective: Objective, network: nn.Module, recipe: Recipe, accelerator: Accelerator
) -> dict[str, float]:
    """Mean loss on what is held out by check, the same samples each time; without those that are not finite.
    Checks are all of one step, so that those that differ in their prompts alone share places and noise. The
    processes share the samples."""
    checks = objective.checks
    sums = torch.zeros(len(checks), device=accelerator.device)
    wanted, once = recipe.held_out_samples, recipe.micro_batch
    # All processes compute equally often, since they wait for each other; what is too many does not count.
    together = accelerator.num_processes * once
    for kind, task in enumerate(checks.values()):
        for turn in range(0, wanted, together):
            first = turn + accelerator.process_index * once
            batch = objective.draw(task, HELD_OUT_SEED, 0, range(first, first + once), held_out=True)
            with accelerator.autocast():
                losses = objective.losses(network, batch)
            sums[kind] += losses[: max(0, wanted - first)].sum()
    means = (accelerator.reduce(sums, "sum") / recipe.held_out_samples).tolist()
    return {check: loss for check, loss in zip(checks, means, strict=True) if math.isfinite(loss)}


def save(
    folder: Path,
    state: Mapping[str, Any],
    keep_last: int,
    weights: Mapping[str, nn.Parameter],
    average: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
) -> Saved | Unsaved:
    """Write a checkpoint, by the main process; its tensors come from all, and all know how it went."""
    step = state["step"]
    parts = {"weights": weights, "average": average, "optimizer": named_state(optimizer, weights)}
    if is_sharded(weights):
        parts = {part: gathered(tensors, accelerator.is_main_process) for part, tensors in parts.items()}
    reason = ""
    if accelerator.is_main_process:
        try:
            checkpoints.save(folder, state, parts)
            checkpoints.prune(folder, step, keep_last)
        except RenderError as error:
            reason = str(error)
    if accelerator.reduce(torch.tensor(len(reason), device=accelerator.device), "sum"):
        return Unsaved(step, reason or f"{folder}: the main process cannot write there")
    return Saved(step, checkpoints.path(folder, step))


def gathered(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Shards put together, one tensor after the other; all processes take part, some ``keep`` them."""
    there = {}
    for name, tensor in tensors.items():
        together = whole(tensor)
        if keep:
            there[name] = together.cpu()
    return there


@torch.no_grad()
def load(
    saved: checkpoints.Checkpoint,
    weights: Mapping[str, nn.Parameter],
    average: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Give network, average and optimizer what they had. Raises UserError for another network's."""
    for part, tensors in (("weights", weights), ("average", average)):
        stored = saved.tensors(part)
        if stored.keys() != tensors.keys():
            raise UserError(f"{saved.path}: is of another network; give another folder")
        for name, tensor in tensors.items():
            tensor.copy_(spread(stored[name], tensor))
    load_state(optimizer, weights, saved.tensors("optimizer"))


def diverged(step: int, bad: int, folder: Path) -> str:
    """What a person reads when the loss is lost."""
    there = checkpoints.steps(folder)
    kept = f"{folder / f'{there[-1]:06d}'} is kept" if there else "there is no checkpoint yet"
    return (
        f"step {step}: no finite loss or gradient {bad} times in a row; {kept}. Begin anew with a lower "
        "learning rate"
    )
