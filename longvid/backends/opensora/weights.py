"""Checkpoints of Open-Sora's networks: found, compared with a network, loaded.

A checkpoint is a safetensors file, a PyTorch pickle, or a folder with either, whole or in shards that an
index names. Pickles are read by PyTorch's unpickler for tensors alone, so nothing in a checkpoint is ever
executed.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from longvid.backends import checkpoints
from longvid.backends.checkpoints import Checkpoint, Problems, Stored
from longvid.errors import UserError

WEIGHT_FILES = (
    "model.safetensors",
    "*.safetensors.index.json",
    "*.safetensors",
    "*.bin.index.json",
    "*.pt",
    "*.pth",
    "*.bin",
)
"""What a folder is searched for, in this order; a pickle only where there is nothing better."""

NESTS = ("ema", "ema_state_dict", "state_dict", "model_state_dict", "model", "module")
"""Keys of training checkpoints that hold the weights, the averaged ones first."""
PREFIXES = ("module.", "_orig_mod.", "model.")
"""Of every name, in checkpoints saved through DDP, torch.compile or a trainer."""

COMPUTED = "pos_embed"
"""Tensors whose names begin so are computed anew; old checkpoints hold them."""
NULL_CAPTION = "y_embedder.y_embedding"
"""Its rows are text tokens: a checkpoint of another length is cut, or its last row repeated."""


def open_checkpoint(path: Path) -> Checkpoint:
    """Names, shapes and dtypes of a checkpoint's tensors, from the headers of its files.

    ``path``: a file or a folder. Raises UserError where there is no checkpoint, where one is damaged, or a
    pickle holds anything but tensors.
    """
    stored = checkpoints.named(_weight_files(path), _tensors)
    names = {key: key for key in stored}
    for prefix in PREFIXES * 2:  # each may stand before the other
        if all(name.startswith(prefix) for name in names):
            names = {name.removeprefix(prefix): key for name, key in names.items()}
    kept = {name: stored[key] for name, key in names.items() if not name.startswith(COMPUTED)}
    if not kept:
        raise UserError(f"{path}: holds no tensors")
    return Checkpoint(path, kept)


def check(network: nn.Module, checkpoint: Checkpoint) -> Problems:
    """Compare a checkpoint with a network (on the meta device will do) by names and shapes."""
    return checkpoints.check(network, checkpoint, _fits)


def as_it_is(name: str, tensor: Tensor) -> Tensor:
    """The tensor that a checkpoint holds under this name, unchanged."""
    return tensor


def load(
    network: nn.Module,
    checkpoint: Checkpoint,
    device: torch.device | str = "cpu",
    change: Callable[[str, Tensor], Tensor] = as_it_is,
) -> None:
    """Give a network on the meta device the checkpoint's tensors, one by one, on ``device``.

    ``change``: what becomes of a tensor, by its name, before it is rounded: each takes the dtype that the
    network has for it, whatever it is stored as. Memory holds the network and one tensor more. Raises
    UserError, before anything is read, unless names and shapes agree.
    """
    problems = check(network, checkpoint)
    if problems:
        said = f"{problems.summary()}; `longvid models check` lists all"
        raise UserError(f"{checkpoint.path}: does not fit the model: {said}")
    for name, tensor in read(checkpoint):
        owner, _, leaf = name.rpartition(".")
        module = network.get_submodule(owner)
        placeholder = cast(Tensor, getattr(module, leaf))
        loaded = torch.empty_like(placeholder, device=device, requires_grad=False)
        loaded.copy_(with_rows(tensor, len(loaded)) if name == NULL_CAPTION else change(name, tensor))
        if isinstance(placeholder, nn.Parameter):
            loaded = nn.Parameter(loaded, requires_grad=placeholder.requires_grad)
        setattr(module, leaf, loaded)
    empty = [name for name, buffer in network.named_buffers() if buffer.is_meta]
    assert not empty, f"no checkpoint holds {empty}: a network computes them when it needs them"


def read(checkpoint: Checkpoint) -> Iterator[tuple[str, Tensor]]:
    """The checkpoint's tensors, as they are stored, file by file; each may be a view of its mapped file."""
    in_order = sorted(checkpoint.tensors.items(), key=lambda item: item[1].file)
    for file, group in groupby(in_order, key=lambda item: item[1].file):
        if file.suffix == ".safetensors":
            yield from checkpoints.read(replace(checkpoint, tensors=dict(group)))
        else:
            unpickled = _unpickle(file)
            for name, stored in group:
                yield name, unpickled[stored.key]


def _weight_files(path: Path) -> list[tuple[Path, tuple[str, ...] | None]]:
    """The files of a checkpoint, each with the names to take from it (None: all)."""
    if path.is_file():
        return checkpoints.of_index(path) if path.name.endswith(".index.json") else [(path, None)]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder")
    for pattern in WEIGHT_FILES:
        found = sorted(path.glob(pattern))
        if len(found) > 1:
            names = ", ".join(file.name for file in found[:3])
            raise UserError(f"{path}: holds {len(found)} checkpoints ({names}, …); name one of the files")
        if found:
            return _weight_files(found[0])
    inner = next((folder for folder in sorted(path.iterdir()) if any(folder.glob("*.index.json"))), None)
    hint = f"; did you mean {inner}?" if inner else ", such as model.safetensors"
    raise UserError(f"{path}: holds no weights{hint}")


def _tensors(file: Path) -> Mapping[str, Stored]:
    if file.suffix == ".safetensors":
        return checkpoints.header(file)
    return {
        key: Stored(file, key, tuple(tensor.shape), tensor.dtype) for key, tensor in _unpickle(file).items()
    }


def _unpickle(file: Path) -> dict[str, Tensor]:
    """The tensors of a pickle by name, from where training checkpoints keep them, mapped where it can be."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the pickle's protocol
            try:
                content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            except RuntimeError as error:
                if "mmap can only be used" not in str(error):
                    raise
                content = torch.load(file, map_location="cpu", weights_only=True)  # older than PyTorch 1.6
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        held = re.search(r"GLOBAL (\S+)", str(error))
        what = f"holds more than tensors ({held[1]})" if held else "is no pickle of tensors alone"
        raise UserError(
            f"{file}: {what}, so it was not loaded and nothing in it was run; save the state dict alone, "
            "best as safetensors"
        ) from error
    except (RuntimeError, KeyError, ValueError, EOFError, TypeError, IndexError) as error:
        raise UserError(f"{file}: is no whole PyTorch checkpoint; copy it again") from error
    while isinstance(content, Mapping):
        nest = next((key for key in NESTS if isinstance(content.get(key), Mapping)), None)
        if nest is None:
            return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        content = cast(Mapping[str, Any], content[nest])
    return {}


def _fits(name: str, has: tuple[int, ...], wants: tuple[int, ...]) -> bool:
    if name == NULL_CAPTION and len(has) == len(wants) == 2 and has[0]:
        return has[1] == wants[1]
    return has == wants


def with_rows(tensor: Tensor, rows: int) -> Tensor:
    """The tensor cut to its first rows, or its last row repeated (Open-Sora v1.2)."""
    return tensor[torch.arange(rows).clamp(max=len(tensor) - 1)]
