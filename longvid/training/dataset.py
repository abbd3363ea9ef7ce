"""A dataset's clips to train on, made in processes of their own, which load the dataset and nothing else."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, partial
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from threading import Thread

from longvid import datasets
from longvid.datasets import Clip, Dataset, DatasetSpec
from longvid.errors import RenderError
from longvid.files import digest
from longvid.times import length
from longvid.training.captions import Problem
from longvid.training.material import (
    HELD_OUT,
    Format,
    Item,
    ahead,
    count,
    distinct_captions,
    lowest,
    to,
)


@dataclass(frozen=True)
class DatasetSelection:
    """All clips of a dataset, in order: a `Material`."""

    name: str
    spec: DatasetSpec
    format: Format
    items: tuple[Item, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def clips(self) -> int:
        return len(self.items)

    @property
    def seconds(self) -> Fraction:
        return sum(map(self._seconds, self.items), Fraction())

    def _seconds(self, item: Item) -> Fraction:
        return self.format.frames(item.chunks) / self.format.fps

    def summary(self) -> list[str]:
        lengths = list(map(self._seconds, self.items))
        captions = count(len(distinct_captions(self.items)), "caption")
        return [
            f"dataset {self.name}: {count(self.clips, 'clip')}, {length(self.seconds)} in all, "
            f"{to(length(min(lengths)), length(max(lengths)))} each, with {captions}"
        ]

    def warnings(self) -> list[str]:
        return []

    def shown(self, items: Sequence[int], workers: int) -> Generator[Clip | Problem, None, None]:
        """As `Material` has it, and each clip as it has to be: what a dataset gets wrong costs that clip."""
        with ProcessPoolExecutor(workers, get_context("spawn"), _begin) as pool:
            jobs = (
                partial(pool.submit, _make, self.name, self.spec, item, self.items[item].chunks)
                for item in items
            )
            try:
                for item, made in zip(items, ahead(jobs, workers), strict=True):
                    yield made if isinstance(made, Clip) else Problem(Path(self.items[item].name), made)
            except BrokenProcessPool as error:
                raise RenderError(
                    f"{self.name}: a process that makes its clips ended; with fewer --workers they need less "
                    "memory"
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)


def select(
    name: str, format: Format, clips: int | None = None, seed: int = 0, held_out: Fraction = HELD_OUT
) -> DatasetSelection:
    """The clips of a dataset; the share ``held_out``, at least one of two, is chosen by content, so that it
    stays the same when more are asked for. ``clips`` and ``seed`` as `DatasetSpec` has them.

    Raises UserError for a name that is none, and for a dataset that is wrong.
    """
    spec = DatasetSpec(
        size=format.size,
        fps=format.fps,
        first_chunk_frames=format.geometry.first_chunk_frames,
        chunk_frames=format.geometry.chunk_frames,
        chunks=format.chunks,
        clips=clips,
        seed=seed,
    )
    dataset = datasets.load(name, spec)
    items = [_item(name, dataset, format, index) for index in range(len(dataset))]
    names = [digest(item.content) for item in items]
    kept_back = lowest(set(names), held_out)
    split = (replace(one, held_out=name in kept_back) for one, name in zip(items, names, strict=True))
    return DatasetSelection(name, spec, format, tuple(split))


def _item(name: str, dataset: Dataset, format: Format, index: int) -> Item:
    captions, begins = datasets.captions(name, dataset, index)
    content = {
        "dataset": name,
        "fingerprint": dataset.fingerprint,
        "clip": index,
        "size": format.size,
        "fps": str(format.fps),
        "frames": format.frames(len(captions)),
    }
    return Item(f"{name}, clip {index}", content, captions, begins, held_out=False)


# In a process of its own


def _begin() -> None:
    """Leave Ctrl-C to the process that began this one, and go when that is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_go_with_parent, daemon=True).start()


def _go_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


_loaded = cache(datasets.load)


def _make(name: str, spec: DatasetSpec, index: int, chunks: int) -> Clip | str:
    """A clip, or in one clause why there is none."""
    try:
        clip = _loaded(name, spec).clip(index)
        datasets.check(clip, spec, chunks)
    except Exception as error:  # whatever other people's code raises
        return " ".join(f"cannot be made: {type(error).__name__}: {error}".split())
    return clip
