"""Checkpoints of Open-Sora's networks: looked into, compared with a network, loaded, identified.

A checkpoint is a safetensors file, a PyTorch pickle, or a folder with either, whole or in shards that an
index names (``NAME.index.json`` with a ``weight_map``, as transformers and ColossalAI write it). Pickles are
read by PyTorch's unpickler for tensors alone, so nothing in a checkpoint is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from longvid import digests
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

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


@dataclass(frozen=True)
class Stored:
    """A tensor as it lies in a file: ``key`` is its name there."""

    file: Path
    key: str
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a checkpoint by their published names; none is read yet."""

    path: Path
    tensors: Mapping[str, Stored]

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that hold tensors, sorted."""
        return tuple(sorted({stored.file for stored in self.tensors.values()}))


@dataclass(frozen=True)
class Problems:
    """How a checkpoint differs from a network; false where it does not.

    ``misshapen``: (name, shape in the checkpoint, shape in the network).
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshapen)

    def lines(self) -> list[str]:
        """One a tensor."""
        return [
            *(f"missing {name}" for name in self.missing),
            *(f"unexpected {name}" for name in self.unexpected),
            *(f"misshapen {name}: {list(has)}, not {list(wants)}" for name, has, wants in self.misshapen),
        ]

    def summary(self, shown: int = 3) -> str:
        """One line: how many of each kind, and the first few names."""
        kinds = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "misshapen": tuple(
                f"{name} {list(has)}, not {list(wants)}" for name, has, wants in self.misshapen
            ),
        }
        return "; ".join(
            f"{len(names)} {kind}: {', '.join(names[:shown])}{', …' if len(names) > shown else ''}"
            for kind, names in kinds.items()
            if names
        )


def open_checkpoint(path: Path) -> Checkpoint:
    """Names, shapes and dtypes of a checkpoint's tensors, from the headers of its files.

    ``path``: a file or a folder. Raises UserError where there is no checkpoint, where one is damaged, or a
    pickle holds anything but tensors.
    """
    stored: dict[str, Stored] = {}
    for file, keys in _weight_files(path):
        header = _header(file)
        absent = next((key for key in keys or () if key not in header), None)
        if absent is not None:
            raise UserError(f"{file}: holds no {absent}, which the index of {file.parent} says it does")
        stored.update({key: header[key] for key in keys or header})
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
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    stored = checkpoint.tensors
    return Problems(
        tuple(name for name in wanted if name not in stored),
        tuple(name for name in stored if name not in wanted),
        tuple(
            (name, stored[name].shape, shape)
            for name, shape in wanted.items()
            if name in stored and not _fits(name, stored[name].shape, shape)
        ),
    )


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
            for name, stored in group:
                # Opened for each: what is read of a mapped file counts as this process's memory until then.
                with safe_open(file, "pt") as tensors:
                    yield name, tensors.get_tensor(stored.key)
        else:
            unpickled = _unpickle(file)
            for name, stored in group:
                yield name, unpickled[stored.key]


def fingerprint(files: Sequence[Path]) -> str:
    """SHA-256 over the contents of files in their order, in hex.

    A file's own digest is remembered (longvid.digests), so that gigabytes are read once.
    """
    return hashlib.sha256(b"".join(bytes.fromhex(digests.sha256(file)) for file in files)).hexdigest()


def _weight_files(path: Path) -> list[tuple[Path, tuple[str, ...] | None]]:
    """The files of a checkpoint, each with the names to take from it (None: all)."""
    if path.is_file():
        return _shards(path) if path.name.endswith(".index.json") else [(path, None)]
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


def _shards(index: Path) -> list[tuple[Path, tuple[str, ...] | None]]:
    """The files that an index names, which lie beside it and nowhere else."""
    try:
        places = json.loads(index.read_text("utf-8"))["weight_map"]
        shards = {file: tuple(key for key in places if places[key] == file) for file in places.values()}
    except OSError as error:
        raise UserError(f"{index}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{index}: is no index of a checkpoint: it has no weight_map") from None
    for file in shards:
        parts = PurePosixPath(file).parts if isinstance(file, str) else ()
        if not parts or ".." in parts or "/" in parts or "\\" in file or ":" in file:
            raise UserError(
                f"{index}: names the file {file!r}, which is not in its folder; it was not opened"
            )
        if not (index.parent / file).is_file():
            raise UserError(f"{index}: names {file}, which is not there; copy every shard")
    return [(index.parent / file, keys) for file, keys in sorted(shards.items())]


def _header(file: Path) -> dict[str, Stored]:
    if file.suffix != ".safetensors":
        return {
            key: Stored(file, key, tuple(tensor.shape), tensor.dtype)
            for key, tensor in _unpickle(file).items()
        }
    try:
        with safe_open(file, "pt") as tensors:
            slices = {key: tensors.get_slice(key) for key in tensors.keys()}  # noqa: SIM118 (no mapping)
            return {
                key: Stored(file, key, tuple(part.get_shape()), _dtype(file, key, part.get_dtype()))
                for key, part in slices.items()
            }
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise UserError(f"{file}: is no whole safetensors file ({error}); copy or pull it again") from error


def _dtype(file: Path, key: str, said: str) -> torch.dtype:
    if said not in DTYPES:
        raise UserError(f"{file}: {key} is stored as {said}; weights are one of {', '.join(DTYPES)}")
    return DTYPES[said]


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
