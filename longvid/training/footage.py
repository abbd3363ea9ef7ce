"""What a codec's training reads: clips as pixels at the model's size and rate, made once, on disk.

    for done in kept(material, cache, workers): ...
    prepared = collect(material, cache)

    cache/pixels/SHA-256.safetensors   pixels [f h w 3] and, if any, weights [f h w], uint8

No network is loaded for it, and what is read at a time are the frames asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from longvid.datasets import Clip
from longvid.errors import RenderError
from longvid.files import digest
from longvid.training.cache import (
    UNREADABLE,
    VERSION,
    Encoded,
    Prepared,
    fill,
    filling,
    gather,
    read_prepared,
)
from longvid.training.material import Item, Material
from longvid.training.sequences import Shown

PIXELS = "pixels"


def kept(material: Material, cache: Path, workers: int) -> Iterator[Encoded]:
    """Put on disk what the cache lacks. ``workers``: clips made at a time, whose pixels are held.

    Raises RenderError for a full disk, UserError for a cache that cannot be, LockedError where another
    process fills it.
    """
    with filling(cache, PIXELS):

        def path(item: Item) -> Path:
            return _path(cache, item)

        yield from fill(material, path, PIXELS, workers, lambda: _tensors)


def _tensors(clip: Clip) -> dict[str, Tensor]:
    pixels = {"pixels": torch.from_numpy(clip.pixels)}
    return pixels if clip.weights is None else {**pixels, "weights": torch.from_numpy(clip.weights)}


def _path(cache: Path, item: Item) -> Path:
    return cache / PIXELS / f"{digest({**item.content, 'version': VERSION})}.safetensors"


@dataclass(frozen=True)
class CachedFootage:
    """Clips on disk, as `Footage`: a file of each, and how many ``frames`` it has."""

    clips: tuple[Path, ...]
    frames: tuple[int, ...]

    def excerpt(self, clip: int, first: int, frames: int) -> Shown:
        """Raises RenderError where a file is gone."""
        path, part = self.clips[clip], slice(first, first + frames)
        try:
            with safe_open(path, "pt") as file:
                pixels = file.get_slice("pixels")[part]
                weighted = "weights" in file.keys()  # noqa: SIM118, it is no mapping
                return Shown(pixels, file.get_slice("weights")[part].float() if weighted else None)
        except (OSError, SafetensorError) as error:
            raise RenderError(f"{path}: {UNREADABLE}") from error

    def told(self) -> dict[str, Any]:
        """As JSON has it; `of` reads it."""
        return {"clips": [str(file.absolute()) for file in self.clips], "frames": self.frames}

    @staticmethod
    def of(told: dict[str, Any]) -> CachedFootage:
        return CachedFootage(tuple(map(Path, told["clips"])), tuple(told["frames"]))


def collect(material: Material, cache: Path) -> Prepared[CachedFootage]:
    """What is in the cache of a material, after it was `kept`; a clip under two captions once.

    Raises UserError where nothing is there to train on.
    """

    def path(item: Item) -> Path:
        return _path(cache, item)

    def footage(items: Sequence[Item]) -> CachedFootage:
        frames = {path(item): material.format.frames(item.chunks) for item in items}
        return CachedFootage(tuple(frames), tuple(frames.values()))

    return gather(material, path, PIXELS, footage)


def load(path: Path) -> Prepared[CachedFootage]:
    """What `Prepared.save` wrote. Raises UserError where there is no such file, or a changed one."""
    return read_prepared(path, CachedFootage.of)
