"""diorama's world as a dataset: random clips under random captions, some with a transition."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from longvid.backends.diorama import canvas, captions, world
from longvid.datasets import Clip, DatasetSpec
from longvid.errors import UserError

VERSION = 3
"""Raised when a clip of the same number comes out otherwise, so that they are not mixed."""
CLIPS = 3200
"""Unless another number is asked for: 7 hours."""
SWITCH_SHARE = 0.45
"""Clips with a transition between two captions."""
OBJECT_WEIGHT = 4
"""A pixel in an object's box counts so many times; the box leaves some room about the object."""
CAPTIONS = 1
"""What a generator draws of a clip; the clip itself comes of its seed and number alone."""


@dataclass(frozen=True)
class World:
    """Clips of `chunks` chunks, each drawn from (seed, its number)."""

    clips: int
    chunks: int
    seed: int

    @property
    def fingerprint(self) -> str:
        return f"version={VERSION} seed={self.seed}"

    def __len__(self) -> int:
        return self.clips

    def captions(self, index: int) -> list[str]:
        """One caption a spec; the new one from the chunk on in which the transition begins."""
        rng = np.random.default_rng((self.seed, index, CAPTIONS))
        story = self._story(index)
        said = [captions.compose(spec, rng)[0] for spec in story.specs]
        return [said[spec] for spec in story.spec_index(self._firsts())]

    def begins(self, index: int) -> list[bool]:
        """Not in a transition: what came before could not be known."""
        return list(map(bool, self._story(index).settled(self._firsts())))

    def clip(self, index: int) -> Clip:
        drawn = world.draw_clip(np.random.default_rng((self.seed, index)), self.chunks, SWITCH_SHARE)
        return Clip(drawn.frames, object_weights(drawn.boxes))

    def _story(self, index: int) -> world.Story:
        return world.draw_story(np.random.default_rng((self.seed, index)), self.chunks, SWITCH_SHARE)

    def _firsts(self) -> NDArray[np.int64]:
        """Each chunk's first frame."""
        return np.arange(self.chunks) * world.CHUNK_FRAMES


def object_weights(boxes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """How much each pixel counts [f h w], of the objects' boxes x0 y0 x1 y1 [f n 4] in units."""
    half = np.float32(0.5 / canvas.UNIT_PX)
    inside = np.zeros((len(boxes), *canvas.ROW.shape), bool)
    for box in boxes.swapaxes(0, 1):
        left, top, right, bottom = box.T[..., None, None]
        across = (left < canvas.COLUMN + half) & (right > canvas.COLUMN - half)
        inside |= across & (top < canvas.ROW + half) & (bottom > canvas.ROW - half)
    return np.where(inside, np.uint8(OBJECT_WEIGHT), np.uint8(1))


def dataset(spec: DatasetSpec) -> World:
    """The entry point: clips of a chunk more than a training window, so that a transition lies at different
    places in it. Raises UserError for anything but the world's own size and rate."""
    own = DatasetSpec(
        size=(canvas.WIDTH_PX, canvas.HEIGHT_PX),
        fps=Fraction(world.FPS),
        first_chunk_frames=world.CHUNK_FRAMES,
        chunk_frames=world.CHUNK_FRAMES,
        chunks=spec.chunks,
        clips=spec.clips,
        seed=spec.seed,
    )
    if spec != own:
        raise UserError(
            f"diorama: the dataset is {_told(own)}, not {_told(spec)}; train the model diorama on it, or "
            "name another dataset or a folder of clips"
        )
    return World(CLIPS if spec.clips is None else spec.clips, max(spec.chunks + 1, 3), spec.seed)


def _told(spec: DatasetSpec) -> str:
    size = f"{spec.size[0]}x{spec.size[1]} at {float(spec.fps):g} frames a second"
    return f"{size} in chunks of {spec.first_chunk_frames} and {spec.chunk_frames}"
