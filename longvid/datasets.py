"""Clips made by Python code, by name: entry points of the group ``longvid.datasets``, diorama's among them.

    [project.entry-points."longvid.datasets"]
    boats = "my_package:boats"

    def boats(spec: DatasetSpec) -> Dataset: ...

Then ``longvid finetune boats`` learns from them. A dataset is loaded once in each process that makes clips,
always by its name, so that it may hold what cannot be sent from one process to another.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol, cast

from longvid import plugins
from longvid.document import show
from longvid.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GROUP = "longvid.datasets"


@dataclass(frozen=True)
class DatasetSpec:
    """What clips are to be like. ``size``: width, height in pixels; ``fps``: frames a second. A clip is whole
    chunks: the first one has ``first_chunk_frames`` frames, each other one ``chunk_frames``. Training takes
    ``chunks`` of them at a time, so that clips of fewer are of less use. ``clips``: how many are asked for;
    None: as the dataset likes. ``seed``: of what is drawn at random, if anything is."""

    size: tuple[int, int]
    fps: Fraction
    first_chunk_frames: int
    chunk_frames: int
    chunks: int
    clips: int | None = None
    seed: int = 0

    def frames(self, chunks: int) -> int:
        """Of a clip of so many chunks."""
        return self.first_chunk_frames + (chunks - 1) * self.chunk_frames


@dataclass(frozen=True)
class Clip:
    """``pixels`` [f h w 3] uint8, and how much each of them counts in the loss, ``weights`` [f h w] uint8;
    None: all the same. Only the weights' ratios matter; a latent's cell counts as the most of its pixels."""

    pixels: NDArray[np.uint8]
    weights: NDArray[np.uint8] | None = None


class Dataset(Protocol):
    """Clips by their numbers, from 0 on; each the same whenever it is asked for."""

    @property
    def fingerprint(self) -> str:
        """What the clips come of, beside their number and the DatasetSpec's size, rate and frames: the code's
        version, the seed. Where it is the same, what was encoded once is taken again."""
        ...

    def __len__(self) -> int: ...

    def captions(self, index: int) -> Sequence[str]:
        """What each chunk of a clip is told; so many are its chunks. No pixel is made for it."""
        ...

    def begins(self, index: int) -> Sequence[bool]:
        """Of each of its chunks, whether a film could begin with it: it is in no transition, say."""
        ...

    def clip(self, index: int) -> Clip:
        """Its pixels. Called in other processes than `captions`, many at a time."""
        ...


class DatasetFactory(Protocol):
    """An entry point of the group ``longvid.datasets``. Raises UserError for clips that it cannot make: of
    another size, say."""

    def __call__(self, spec: DatasetSpec) -> Dataset: ...


def is_name(data: str) -> bool:
    """Whether ``data`` can only mean a dataset: it is no folder here, and not written as one."""
    return not plugins.is_folder(data) and not os.path.isdir(data)


def registered() -> list[str]:
    """Names of every installed dataset, sorted."""
    return plugins.registered(GROUP)


def load(name: str, spec: DatasetSpec) -> Dataset:
    """The dataset of a registered name. Raises UserError for an unknown one, or for no clip."""
    dataset = cast(DatasetFactory, plugins.factory(GROUP, "dataset", name))(spec)
    if not len(dataset):
        raise UserError(f"{name}: the dataset has no clip")
    return dataset


def captions(name: str, dataset: Dataset, index: int) -> tuple[tuple[str, ...], tuple[bool, ...]]:
    """A clip's captions and begins, as they have to be. Raises UserError, for whoever wrote the dataset."""
    said, begins = dataset.captions(index), dataset.begins(index)
    if isinstance(said, str) or not said or not all(isinstance(caption, str) for caption in said):
        raise UserError(f"{name}: captions({index}) is {show(said)}; give a text for each chunk")
    if len(begins) != len(said):
        raise UserError(f"{name}: begins({index}) is of {len(begins)} chunks, captions of {len(said)}")
    return tuple(said), tuple(map(bool, begins))


def check(clip: Clip, spec: DatasetSpec, chunks: int) -> None:
    """Raise ValueError, one clause with the fix, for a clip that is not ``chunks`` chunks of the spec's."""
    width, height = spec.size
    _check("pixels", clip.pixels, (spec.frames(chunks), height, width, 3))
    if clip.weights is None:
        return
    _check("weights", clip.weights, clip.pixels.shape[:3])
    begin = 0
    for chunk in range(chunks):
        end = spec.frames(chunk + 1)
        if not clip.weights[begin:end].any():
            raise ValueError(f"no pixel of its chunk {chunk} counts; give one a weight above 0")
        begin = end


def _check(what: str, found: Any, shape: tuple[int, ...]) -> None:
    kind, found_shape = getattr(found, "dtype", type(found).__name__), getattr(found, "shape", ())
    if found_shape != shape or kind != "uint8":
        raise ValueError(f"its {what} are {kind} {list(found_shape)}; give uint8 {list(shape)}")
