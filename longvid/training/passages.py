"""Which passages of a corpus are trained on: whole chunks at the model's size and rate, none across a cut.

Nothing is decoded here and no model is loaded, so that it can be told before anything is spent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import ceil, floor

from longvid.backends import Geometry
from longvid.errors import UserError
from longvid.times import length, round_half_up
from longvid.training.captions import Problem
from longvid.training.corpus import Corpus, Example
from longvid.training.scenes import Scene

VALUE_BYTES = 2
"""Of a latent's number on disk: in half precision, whose error is far below a codec's."""
HELD_OUT = Fraction(1, 20)
SHOWN = 10
"""Problems that are told one by one; a hundred times the same would hide the others."""
ENOUGH_OF_PICTURE = Fraction(1, 2)
SLOW = Fraction(2, 3)
"""Clips are told of that lose more than this: of the picture, of the model's rate."""


@dataclass(frozen=True)
class Format:
    """What clips are brought to. ``size``: width, height in pixels. ``chunks``: of a whole passage, a window
    and the clean chunk in front of it. ``stride``: from one passage of a scene to the next, in parts of their
    length."""

    geometry: Geometry
    size: tuple[int, int]
    fps: Fraction
    chunks: int
    stride: Fraction = Fraction(1, 2)

    def frames(self, chunks: int) -> int:
        """Of a passage of so many chunks."""
        return sum(self.geometry.chunk_frame_counts(chunks))

    def latent_bytes(self, chunks: int) -> int:
        """On disk, about."""
        width, height = (side // self.geometry.pixel_stride for side in self.size)
        values = self.geometry.channels * chunks * self.geometry.chunk_latents * width * height
        return values * VALUE_BYTES


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
    """The passages of a corpus in a format, by clip and time, and all that was left out."""

    corpus: Corpus
    format: Format
    passages: tuple[Passage, ...]
    problems: tuple[Problem, ...]

    @cached_property
    def captions(self) -> tuple[str, ...]:
        """Each of them once, in order."""
        examples = self.corpus.examples
        return tuple(dict.fromkeys(examples[passage.example].caption for passage in self.passages))

    def numbers(self, passage: Passage) -> Iterator[int]:
        """The source's frame that each frame of the passage is: what is shown at its time."""
        rate = self.corpus.examples[passage.example].source.fps / self.format.fps
        return (floor(passage.begin + k * rate) for k in range(self.format.frames(passage.chunks)))


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
    kept_back = _lowest(set(names), held_out)
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


def _lowest(names: set[str], share: Fraction) -> set[str]:
    """The lowest ``share`` of all possible names: of two or more at least one, and never all."""
    in_order = sorted(names)
    below = [name for name in in_order if Fraction(int(name, 16), 1 << 256) < share]
    least = 1 if share and len(in_order) > 1 else 0
    return set(in_order[: max(min(len(below), len(in_order) - 1), least)])


def describe(selection: Selection) -> list[str]:
    """What is trained on and what is not, a line each, for a person."""
    corpus, format = selection.corpus, selection.format
    examples, passages = corpus.examples, selection.passages
    clip_seconds = [example.seconds for example in examples]
    scenes = [(scene[1] - scene[0]) / example.source.fps for example in examples for scene in example.scenes]
    held_out = sum(passage.held_out for passage in passages)
    chunks = [passage.chunks for passage in passages]
    width, height = format.size
    lines = [
        f"{_count(len(examples), 'clip')}, {length(sum(clip_seconds, Fraction()))} in all, "
        f"{_range(clip_seconds)} each, with {_count(len(selection.captions), 'caption')}",
        f"{_count(len(scenes), 'scene')} of {_range(scenes)}"
        if corpus.cut
        else "not split at cuts: pip install 'longvid[scenes]' lets them be found",
        f"{_count(len(passages), 'passage')} of {_to(min(chunks), _count(max(chunks), 'chunk'))} "
        f"at {width}x{height} and {float(format.fps):g} frames a second: "
        f"{len(passages) - held_out} to train on, {held_out} held out",
        f"about {max(round(sum(map(format.latent_bytes, chunks)) / 1e6), 1)} MB of latents to cache",
    ]
    if not held_out:
        lines.append(
            "nothing is held out, as there is one scene only: it may be learnt by heart, and no loss tells"
        )
    lines += _warnings(selection)
    if selection.problems:
        lines.append(f"left out, {len(selection.problems)}:")
        lines += [f"  {problem}" for problem in selection.problems[:SHOWN]]
        if len(selection.problems) > SHOWN:
            lines.append(f"  and {len(selection.problems) - SHOWN} more")
    return lines


def _warnings(selection: Selection) -> Iterator[str]:
    """Clips that lose much on their way to the model."""
    format = selection.format
    used = sorted({passage.example for passage in selection.passages})
    sources = [selection.corpus.examples[index].source for index in used]
    width, height = format.size

    def cut_away(size: tuple[int, int]) -> bool:
        share = Fraction(width * size[1], height * size[0])
        return min(share, 1 / share) < ENOUGH_OF_PICTURE

    for says, those in {
        "only the middle is seen, less than half of the picture": [s for s in sources if cut_away(s.size)],
        "enlarged": [s for s in sources if s.size[0] < width or s.size[1] < height],
        "slower than the model, so that frames come twice": [s for s in sources if s.fps < format.fps * SLOW],
    }.items():
        if those:
            more = f" and {len(those) - 1} more" if len(those) > 1 else ""
            yield f"{those[0].path}{more}: {says}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s'[: number != 1]}"


def _range(seconds: list[Fraction]) -> str:
    return _to(length(min(seconds)), length(max(seconds)))


def _to(low: object, high: str) -> str:
    """``1 to 4 chunks``, or only the last where both are the same."""
    return high if f"{low}" in (high, high.partition(" ")[0]) else f"{low} to {high}"
