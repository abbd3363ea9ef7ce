"""Clips of diorama's world on disk, as arrays that training maps into memory."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from longvid.backends.diorama import world
from longvid.backends.diorama.captions import Spec

CHUNKS = 6
"""Chunks in a clip: 8 s."""
SWITCH_SHARE = 0.45
"""Clips with a transition between two captions."""
HELD_OUT_SHARE = 0.05


@dataclass(frozen=True)
class Clips:
    """frames [n f h w 3] uint8; box [n f 4]; spec_index [n f]; settled [n f]; specs by clip. The last 5 % of
    the clips are held out: no training step reads them."""

    frames: NDArray[np.uint8]
    box: NDArray[np.float32]
    spec_index: NDArray[np.int64]
    settled: NDArray[np.bool_]
    specs: list[list[Spec]]

    @property
    def held_out(self) -> range:
        n = len(self.specs)
        return range(n - max(1, round(n * HELD_OUT_SHARE)), n)

    @property
    def training(self) -> range:
        return range(self.held_out.start)


def _render_part(folder: Path, seed: int, chunks: int, part: range) -> list[tuple[int, list[Spec]]]:
    frames = np.lib.format.open_memmap(folder / "frames.npy", mode="r+")
    box = np.lib.format.open_memmap(folder / "box.npy", mode="r+")
    spec_index = np.lib.format.open_memmap(folder / "spec_index.npy", mode="r+")
    settled = np.lib.format.open_memmap(folder / "settled.npy", mode="r+")
    specs = []
    for i in part:
        clip = world.draw_clip(np.random.default_rng((seed, i)), chunks, SWITCH_SHARE)
        frames[i], box[i], spec_index[i], settled[i] = clip.frames, clip.box, clip.spec_index, clip.settled
        specs.append((i, list(clip.specs)))
    return specs


def render_clips(folder: Path, count: int, seed: int, processes: int, chunks: int = CHUNKS) -> Clips:
    """Render `count` clips of `chunks` chunks into `folder`, each from (seed, its index), and map them."""
    folder.mkdir(parents=True, exist_ok=True)
    length = chunks * world.CHUNK_FRAMES
    for name, dtype, shape in (
        ("frames", np.uint8, (count, length, world.HEIGHT_PX, world.WIDTH_PX, 3)),
        ("box", np.float32, (count, length, 4)),
        ("spec_index", np.int64, (count, length)),
        ("settled", np.bool_, (count, length)),
    ):
        np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)
    parts = [range(i, count, processes) for i in range(processes)]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        jobs = [pool.submit(_render_part, folder, seed, chunks, part) for part in parts]
        specs = dict(pair for job in jobs for pair in job.result())
    (folder / "specs.json").write_text(json.dumps([specs[i] for i in range(count)]))
    return load_clips(folder)


def load_clips(folder: Path) -> Clips:
    frames, box, spec_index, settled = (
        np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("frames", "box", "spec_index", "settled")
    )
    return Clips(frames, box, spec_index, settled, json.loads((folder / "specs.json").read_text()))
