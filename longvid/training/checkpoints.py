"""Checkpoints of a training: folders that appear whole or not at all.

    checkpoints/000500/
        weights.safetensors     what is trained, by the network's names
        average.safetensors     its average over the training
        optimizer.safetensors   the optimizer's state, NAME/KEY
        state.json              step, losses, what the run was begun with, checksums; sealed

Nothing is pickled. A kill or a full disk while one is written leaves all that were there before.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from longvid.errors import RenderError
from longvid.files import checksum, read_sealed, sync, write_sealed, write_tensors

PARTS = ("weights", "average", "optimizer")
STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """One that is whole. ``state``: what `save` was given, with the key ``step``."""

    path: Path
    state: Mapping[str, Any]

    @property
    def step(self) -> int:
        return int(self.state["step"])

    def tensors(self, part: str) -> dict[str, Tensor]:
        """Those of one of PARTS, on the CPU."""
        return load_file(self.path / f"{part}.safetensors")


def path(folder: Path, step: int) -> Path:
    """Of the checkpoint of a step."""
    return folder / f"{step:06d}"


def save(folder: Path, state: Mapping[str, Any], parts: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write the checkpoint of ``state["step"]``. Raises RenderError."""
    target = path(folder, state["step"])
    partial = folder / f".{target.name}.part"
    try:
        for left in folder.glob(".*.part"):
            shutil.rmtree(left)
        partial.mkdir(parents=True)
        for part, tensors in parts.items():
            write_tensors(partial / f"{part}.safetensors", tensors)
        files = {file.name: checksum(file) for file in sorted(partial.glob("*.safetensors"))}
        write_sealed(partial / STATE, {**state, "files": files})
        if target.exists():  # A broken one: this run went on from one before it.
            discard(target)
        os.replace(partial, target)
        sync(folder)
    except BaseException as error:
        with suppress(OSError):
            shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError):
            raise RenderError(f"{target}: cannot be written: {error.strerror or error}") from error
        raise


def steps(folder: Path) -> list[int]:
    """Of all checkpoints that are there, in ascending order, whole or not."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if re.fullmatch(r"\d{6,}", path.name))


def newest(folder: Path) -> tuple[Checkpoint | None, list[Path]]:
    """The last whole checkpoint, and those behind it that are not whole."""
    broken: list[Path] = []
    for step in reversed(steps(folder)):
        found = _read(path(folder, step))
        if found is not None:
            return found, broken
        broken.append(path(folder, step))
    return None, broken


def _read(there: Path) -> Checkpoint | None:
    """A checkpoint whose seal and files are right."""
    state = read_sealed(there / STATE)
    with suppress(OSError, KeyError):
        if state and all(checksum(there / name) == seal for name, seal in state["files"].items()):
            return Checkpoint(there, state)
    return None


def prune(folder: Path, step: int, last: int) -> None:
    """Keep the last few checkpoints up to that of ``step``, the newest, and the one with the least held-out
    loss. What is there of later steps is broken, and is not kept."""
    there = [each for each in steps(folder) if each <= step]
    losses = {}
    for each in there:
        loss = (read_sealed(path(folder, each) / STATE) or {}).get("held_out_loss")
        if loss is not None:
            losses[each] = loss
    kept = {*there[-last:], *sorted(losses, key=lambda each: (losses[each], -each))[:1]}
    for each in steps(folder):
        if each not in kept:
            with suppress(OSError):  # it takes space, and that is all
                discard(path(folder, each))


def discard(there: Path) -> None:
    """Remove a checkpoint, its name first: what a kill leaves is none."""
    nameless = there.with_name(f".{there.name}.old.part")
    os.replace(there, nameless)
    shutil.rmtree(nameless)


def best(folder: Path) -> Checkpoint | None:
    """The whole checkpoint with the least held-out loss; the last one where none was measured."""
    found = [each for step in steps(folder) if (each := _read(path(folder, step))) is not None]
    measured = [each for each in found if each.state["held_out_loss"] is not None]
    if measured:
        return min(measured, key=lambda each: (each.state["held_out_loss"], -each.step))
    return found[-1] if found else None


# The optimizer's state, by the parameters' names


def flatten(state: Mapping[int, Mapping[str, Any]], names: list[str]) -> dict[str, Tensor]:
    """What `optimizer.state_dict()["state"]` holds, as NAME/KEY; numbers become tensors."""
    return {
        f"{names[index]}/{key}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, values in state.items()
        for key, value in values.items()
    }


def unflatten(tensors: Mapping[str, Tensor], names: list[str]) -> dict[int, dict[str, Any]]:
    """What `flatten` was given."""
    index = {name: i for i, name in enumerate(names)}
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        parameter, _, key = name.rpartition("/")
        # PyTorch's optimizers count in float tensors; an integer was one in Python.
        number = tensor.ndim == 0 and not tensor.is_floating_point()
        state.setdefault(index[parameter], {})[key] = tensor.item() if number else tensor
    return state
