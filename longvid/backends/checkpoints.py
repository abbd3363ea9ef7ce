"""Safetensors checkpoints, whole or in shards: looked into, compared with a network, read, identified.

An index names the shards (``NAME.index.json`` with a ``weight_map``, as transformers and diffusers write it).
Nothing here is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from longvid import digests
from longvid.errors import UserError

FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
COUNTERS = {"I64": torch.int64, "I32": torch.int32, "BOOL": torch.bool}
"""Of no weights: places in a sequence and the like, which old versions of networks stored."""


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


def same_shape(name: str, has: tuple[int, ...], wants: tuple[int, ...]) -> bool:
    return has == wants


def check(
    network: nn.Module,
    checkpoint: Checkpoint,
    fits: Callable[[str, tuple[int, ...], tuple[int, ...]], bool] = same_shape,
) -> Problems:
    """Compare a checkpoint with a network (on the meta device will do) by names and shapes.

    ``fits``: whether a tensor of this name and shape in the checkpoint will do for that in the network.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    stored = checkpoint.tensors
    return Problems(
        tuple(name for name in wanted if name not in stored),
        tuple(name for name in stored if name not in wanted),
        tuple(
            (name, stored[name].shape, shape)
            for name, shape in wanted.items()
            if name in stored and not fits(name, stored[name].shape, shape)
        ),
    )


def read(checkpoint: Checkpoint) -> Iterator[tuple[str, Tensor]]:
    """The checkpoint's tensors, as they are stored, file by file; each may be a view of its mapped file."""
    for name, stored in sorted(checkpoint.tensors.items(), key=lambda item: item[1].file):
        # Opened for each: what is read of a mapped file counts as this process's memory until then.
        with safe_open(stored.file, "pt") as tensors:
            yield name, tensors.get_tensor(stored.key)


def fingerprint(files: Sequence[Path]) -> str:
    """SHA-256 over the contents of files in their order, in hex.

    A file's own digest is remembered (longvid.digests), so that gigabytes are read once.
    """
    return hashlib.sha256(b"".join(bytes.fromhex(digests.sha256(file)) for file in files)).hexdigest()


def open_safetensors(file: Path, dtypes: Mapping[str, torch.dtype] = FLOATS) -> Checkpoint:
    """Names, shapes and dtypes of the tensors in a file, or in the shards that it is the index of, from their
    headers. Raises UserError where one is missing or damaged, or holds another dtype than ``dtypes``."""
    shards = of_index(file) if file.name.endswith(".index.json") else [(file, None)]
    return Checkpoint(file, named(shards, lambda shard: header(shard, dtypes)))


def named(
    files: Sequence[tuple[Path, tuple[str, ...] | None]], look: Callable[[Path], Mapping[str, Stored]]
) -> dict[str, Stored]:
    """The tensors of files by their names there, of each file those that are named (None: all). Raises
    UserError for one that is named and is not there."""
    stored: dict[str, Stored] = {}
    for file, keys in files:
        held = look(file)
        absent = next((key for key in keys or () if key not in held), None)
        if absent is not None:
            raise UserError(f"{file}: holds no {absent}, which the index of {file.parent} says it does")
        stored.update({key: held[key] for key in keys or held})
    return stored


def of_index(index: Path) -> list[tuple[Path, tuple[str, ...] | None]]:
    """The files that an index names, which lie beside it and nowhere else, and the tensors of each."""
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


def header(file: Path, dtypes: Mapping[str, torch.dtype] = FLOATS) -> dict[str, Stored]:
    """The tensors of a safetensors file by name. Raises UserError."""
    try:
        with safe_open(file, "pt") as tensors:
            slices = {key: tensors.get_slice(key) for key in tensors.keys()}  # noqa: SIM118 (no mapping)
            said = {key: (tuple(part.get_shape()), part.get_dtype()) for key, part in slices.items()}
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise UserError(f"{file}: is no whole safetensors file ({error}); copy or pull it again") from error
    for key, (_, dtype) in said.items():
        if dtype not in dtypes:
            raise UserError(f"{file}: {key} is stored as {dtype}; weights are one of {', '.join(FLOATS)}")
    return {key: Stored(file, key, shape, dtypes[dtype]) for key, (shape, dtype) in said.items()}
