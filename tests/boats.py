"""A third party's dataset, as small as one can be: a boat of two pixels on a sea of one colour.

`boats` is right; the others are what their authors got wrong.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from longvid.datasets import Clip, DatasetSpec
from longvid.errors import UserError

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}


@dataclass(frozen=True)
class Boats:
    spec: DatasetSpec

    @property
    def fingerprint(self) -> str:
        return f"boats 1, seed {self.spec.seed}"

    def __len__(self) -> int:
        return 6 if self.spec.clips is None else self.spec.clips

    def captions(self, index: int) -> list[str]:
        """The second half of an odd clip is under another one."""
        first, second = ("a red boat", "a blue boat") if index % 2 else ("a blue boat",) * 2
        half = self.spec.chunks // 2
        return [first] * half + [second] * (self.spec.chunks - half)

    def begins(self, index: int) -> list[bool]:
        """But for where the colour changes."""
        said = self.captions(index)
        return [chunk == 0 or said[chunk] == said[chunk - 1] for chunk in range(len(said))]

    def clip(self, index: int) -> Clip:
        width, height = self.spec.size
        frames = self.spec.frames(self.spec.chunks)
        begin = int(np.random.default_rng((self.spec.seed, index)).integers(width))
        pixels = np.full((frames, height, width, 3), (20, 60, 90), np.uint8)
        weights = np.ones((frames, height, width), np.uint8)
        ends = [self.spec.frames(chunk + 1) for chunk in range(self.spec.chunks)]
        said = self.captions(index)
        for frame in range(frames):
            caption = said[sum(end <= frame for end in ends)]
            boat = (frame, height // 2, [(begin + frame) % width, (begin + frame + 1) % width])
            pixels[boat] = COLOURS[caption.split()[1]]
            weights[boat] = 5
        return Clip(pixels, weights)


def boats(spec: DatasetSpec) -> Boats:
    """The entry point."""
    if spec.size[0] < 2:
        raise UserError(f"boats: no boat fits into {spec.size[0]} pixels; ask for a wider picture")
    return Boats(spec)


class Wrecks(Boats):
    """Every clip is wrong, but for the first."""

    def clip(self, index: int) -> Clip:
        right = super().clip(index)
        match index:
            case 1:
                raise RuntimeError("no boat\nhere")
            case 2:
                return Clip(right.pixels[1:], None)
            case 3:
                return Clip(right.pixels.astype(np.float32))
            case 4:
                return Clip(right.pixels, right.weights[..., :1])
            case 5:
                right.weights[: self.spec.first_chunk_frames] = 0
        return right


def wrecks(spec: DatasetSpec) -> Wrecks:
    return Wrecks(spec)


class Unsaid(Boats):
    """What its author got wrong of the captions depends on the seed."""

    def __len__(self) -> int:
        return 0 if self.spec.seed == 3 else 1

    def captions(self, index: int):
        return {0: "a boat", 1: [], 2: ["a boat"]}[self.spec.seed]

    def begins(self, index: int) -> list[bool]:
        return [True] * 2


def unsaid(spec: DatasetSpec) -> Unsaid:
    return Unsaid(spec)


class Sunk(Boats):
    """Its process ends at the second clip."""

    def clip(self, index: int) -> Clip:
        if index == 1:
            os._exit(9)
        return super().clip(index)


def sunk(spec: DatasetSpec) -> Sunk:
    return Sunk(spec)


class Slow(Boats):
    """It tells its process, and takes a minute a clip."""

    def clip(self, index: int) -> Clip:
        Path("process").write_text(str(os.getpid()))
        time.sleep(60)
        return super().clip(index)


def slow(spec: DatasetSpec) -> Slow:
    return Slow(spec)
