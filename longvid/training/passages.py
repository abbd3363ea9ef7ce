"""Which passages of a corpus are trained on: whole chunks at the model's size and rate, none across a cut."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import ceil, floor

from longvid.datasets import Clip
from longvid.errors import UserError
from longvid.times import length, round_half_up
from longvid.training.captions import Problem
from longvid.training.corpus import Corpus, Example
from longvid.training.material import HELD_OUT, Format, Item, count, distinct_captions, lowest, to
from longvid.training.pixels import Frames, decoded
from longvid.training.scenes import Scene

ENOUGH_OF_PICTURE = Fraction(1, 2)
SLOW = Fraction(2, 3)
"""Clips are told of that lose more than this: of the picture, of the model's rate."""


@dataclass(frozen=True)
class Passage:
    """A part of one scene. ``example``: the index of its clip; ``begin``: where in the clip, in frames of the
    clip's own rate, exactly; ``held_out``: it is measured by, and never trained on."""

    example: int
    scene: Scene
    begin: Fraction
    chunks: int
    held_out: bool


@dataclass(frozen=True)
class Selection:
    """The passages of a corpus in a format, by clip and time, and all that was left out: a `Material`."""

    corpus: Corpus
    format: Format
    passages: tuple[Passage, ...]
    problems: tuple[Problem, ...]

    @property
    def name(self) -> str:
        return str(self.corpus.folder)

    @property
    def clips(self) -> int:
        return len(self.corpus.examples)

    @property
    def seconds(self) -> Fraction:
        return sum((example.seconds for example in self.corpus.examples), Fraction())

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """The passages; a film could begin with each chunk of one, as it is under one caption."""
        return tuple(map(self._item, self.passages))

    def _item(self, passage: Passage) -> Item:
        example, frames = self._example(passage), self.format.frames(passage.chunks)
        content = {
            "size": self.format.size,
            "fps": str(self.format.fps),
            "clip": example.sha256,
            "begin": str(passage.begin),
            "frames": frames,
        }
        captions, begins = (example.caption,) * passage.chunks, (True,) * passage.chunks
        return Item(str(example.path), content, captions, begins, passage.held_out)

    def _example(self, passage: Passage) -> Example:
        return self.corpus.examples[passage.example]

    def numbers(self, passage: Passage) -> Iterator[int]:
        """The source's frame that each frame of the passage is: what is shown at its time."""
        rate = self._example(passage).source.fps / self.format.fps
        return (floor(passage.begin + k * rate) for k in range(self.format.frames(passage.chunks)))

    def shown(self, items: Sequence[int], workers: int) -> Generator[Clip | Problem, None, None]:
        """As `Material` has it; decoded in threads."""
        passages = [self.passages[item] for item in items]
        parts = [
            Frames(self._example(one).source, self.numbers(one), self.format.frames(one.chunks))
            for one in passages
        ]
        return decoded(parts, self.format.size, workers)

    def summary(self) -> list[str]:
        clip_seconds = [example.seconds for example in self.corpus.examples]
        scenes = [
            (scene[1] - scene[0]) / example.source.fps
            for example in self.corpus.examples
            for scene in example.scenes
        ]
        return [
            f"{count(self.clips, 'clip')}, {length(self.seconds)} in all, {_range(clip_seconds)} each, "
            f"with {count(len(distinct_captions(self.items)), 'caption')}",
            f"{count(len(scenes), 'scene')} of {_range(scenes)}"
            if self.corpus.cut
            else "not split at cuts: pip install 'longvid[scenes]' lets them be found",
        ]

    def warnings(self) -> list[str]:
        """Clips that lose much on their way to the model."""
        used = sorted({passage.example for passage in self.passages})
        sources = [self.corpus.examples[index].source for index in used]
        width, height = self.format.size

        def cut_away(size: tuple[int, int]) -> bool:
            share = Fraction(width * size[1], height * size[0])
            return min(share, 1 / share) < ENOUGH_OF_PICTURE

        found = {
            "only the middle is seen, less than half of the picture": [
                one for one in sources if cut_away(one.size)
            ],
            "enlarged": [one for one in sources if one.size[0] < width or one.size[1] < height],
            "slower than the model, so that frames come twice": [
                one for one in sources if one.fps < self.format.fps * SLOW
            ],
        }
        return [
            f"{those[0].path}{f' and {len(those) - 1} more' if len(those) > 1 else ''}: {says}"
            for says, those in found.items()
            if those
        ]


def select(corpus: Corpus, format: Format, held_out: Fraction = HELD_OUT) -> Selection:
    """The passages of all scenes that have room for a chunk.

    A scene gives as many chunks as it has, up to those of a whole passage; a longer one several passages, a
    stride apart and spread evenly, so that they overlap and its end is not lost. The share ``held_out`` of
    the scenes, at least one of two, is chosen by content: it stays the same when clips are added or renamed.
    Raises UserError where no scene is long enough.
    """
    passages: list[Passage] = []
    problems = list(corpus.problems)
    chunk = length(format.frames(1) / format.fps)
    longest, of = Fraction(0), corpus.examples[0]
    for index, example in enumerate(corpus.examples):
        rate = example.source.fps / format.fps
        before = len(passages)
        for scene in example.scenes:
            # As many frames as show something of the scene.
            room = ceil((scene[1] - scene[0]) / rate)
            passages += (
                Passage(index, scene, scene[0] + begin * rate, chunks, held_out=False)
                for begin, chunks in _spread(room, format)
            )
            longest, of = max((longest, of), (room / format.fps, example), key=lambda one: one[0])
        if len(passages) == before:
            long = length(example.seconds)
            problems.append(Problem(example.path, f"is {long}, without a scene as long as a chunk, {chunk}"))
    if not passages:
        raise UserError(
            f"{corpus.folder}: no scene is as long as a chunk, {chunk}; "
            f"the longest one is {length(longest)}, of {of.path}"
        )
    names = [_name(corpus.examples[passage.example], passage.scene) for passage in passages]
    kept_back = lowest(set(names), held_out)
    split = (replace(one, held_out=name in kept_back) for one, name in zip(passages, names, strict=True))
    return Selection(corpus, format, tuple(split), tuple(problems))


def _spread(room: int, format: Format) -> list[tuple[int, int]]:
    """(first frame, chunks) of the passages in so many frames; none where there is no room for a chunk."""
    chunks = sum(format.frames(n) <= room for n in range(1, format.chunks + 1))
    if not chunks:
        return []
    over = room - format.frames(chunks)
    steps = round_half_up(over / (format.frames(chunks) * format.stride))
    if not steps:
        return [(over // 2, chunks)]
    return [(round_half_up(Fraction(over * step, steps)), chunks) for step in range(steps + 1)]


def _name(example: Example, scene: Scene) -> str:
    """A scene's content, as a number in hex that says nothing else."""
    return hashlib.sha256(f"{example.sha256} {scene[0]} {scene[1]}".encode()).hexdigest()


def _range(seconds: list[Fraction]) -> str:
    return to(length(min(seconds)), length(max(seconds)))
