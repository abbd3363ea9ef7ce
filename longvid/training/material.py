"""What a training is given: clips of whole chunks under captions, of a folder or of a dataset alike.

Nothing is decoded here and no model is loaded, so that it can be told before anything is spent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, Protocol, TypeVar

from longvid.backends import Backend, Geometry
from longvid.datasets import Clip
from longvid.training.captions import Problem

VALUE_BYTES = 2
"""Of a latent's number on disk: in half precision, whose error is far below a codec's."""
HELD_OUT = Fraction(1, 20)
SHOWN = 10
"""Problems and words that are told one by one; a hundred times the same would hide the others."""
T = TypeVar("T")


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

    def pixel_bytes(self, chunks: int) -> int:
        """On disk, about; without weights."""
        return self.frames(chunks) * self.size[0] * self.size[1] * 3


@dataclass(frozen=True)
class Item:
    """A clip of whole chunks, without its pixels. ``name``: for a person; ``content``: all that its pixels
    come of, JSON-able; ``captions``: one a chunk; ``begins``: whether a film could begin with the chunk;
    ``held_out``: it is measured by, and never trained on."""

    name: str
    content: Mapping[str, Any]
    captions: tuple[str, ...]
    begins: tuple[bool, ...]
    held_out: bool

    @property
    def chunks(self) -> int:
        return len(self.captions)


class Material(Protocol):
    """All that is trained on, and what was left out of it."""

    @property
    def name(self) -> str:
        """The folder's, or the dataset's."""
        ...

    @property
    def format(self) -> Format: ...

    @property
    def items(self) -> Sequence[Item]: ...

    @property
    def clips(self) -> int:
        """How many it was made from."""
        ...

    @property
    def seconds(self) -> Fraction:
        """Of all these clips."""
        ...

    @property
    def problems(self) -> Sequence[Problem]: ...

    def summary(self) -> list[str]:
        """What it consists of, a line each, for a person."""
        ...

    def warnings(self) -> list[str]:
        """What of it loses on its way to the model, a line each."""
        ...

    def shown(self, items: Sequence[int], workers: int) -> Generator[Clip | Problem, None, None]:
        """The pixels of these items in turn, or why there are none; ``workers`` are made while one is used.

        Raises RenderError where those who make them are gone.
        """
        ...


def distinct_captions(items: Iterable[Item]) -> tuple[str, ...]:
    """Each caption once, in order."""
    return tuple(dict.fromkeys(caption for item in items for caption in item.captions))


def lowest(names: set[str], share: Fraction) -> set[str]:
    """Of names that are digests, the lowest ``share`` of all possible ones: of two or more at least one, and
    never all. So what is held out is chosen by content, and stays so when more is added."""
    in_order = sorted(names)
    below = [name for name in in_order if Fraction(int(name, 16), 1 << 256) < share]
    least = 1 if share and len(in_order) > 1 else 0
    return set(in_order[: max(min(len(below), len(in_order) - 1), least)])


def ahead(jobs: Iterable[Callable[[], Future[T]]], workers: int) -> Generator[T, None, None]:
    """What each job comes to, in order; so many others are begun before it is waited for."""
    pending: deque[Future[T]] = deque()
    for begin in jobs:
        pending.append(begin())
        if len(pending) > workers:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def describe(
    material: Material, backend: Backend, cached: Literal["latents", "pixels"] = "latents"
) -> list[str]:
    """What is trained on and what is not, a line each, for a person. ``cached``: what training reads;
    of pixels no caption is read."""
    items, format = material.items, material.format
    held_out = sum(item.held_out for item in items)
    chunks = [item.chunks for item in items]
    width, height = format.size
    size = sum(map(format.latent_bytes if cached == "latents" else format.pixel_bytes, chunks))
    lines = [
        *material.summary(),
        f"{count(len(items), 'passage')} of {to(min(chunks), count(max(chunks), 'chunk'))} "
        f"at {width}x{height} and {float(format.fps):g} frames a second: "
        f"{len(items) - held_out} to train on, {held_out} held out",
        f"about {max(round(size / 1e6), 1)} MB of {cached} to cache",
    ]
    if not held_out:
        lines.append("nothing is held out: it may be learnt by heart, and no loss tells")
    if cached == "latents":
        lines += _unknown_words(items, backend)
    lines += material.warnings()
    if material.problems:
        lines.append(f"left out, {len(material.problems)}:")
        lines += [f"  {problem}" for problem in material.problems[:SHOWN]]
        if len(material.problems) > SHOWN:
            lines.append(f"  and {len(material.problems) - SHOWN} more")
    return lines


def _unknown_words(items: Iterable[Item], backend: Backend) -> list[str]:
    """One line, or none."""
    captions = distinct_captions(items)
    words = list(dict.fromkeys(word for caption in captions for word in backend.unknown_words(caption)))
    if not words:
        return []
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return [f"{backend.name} does not know, and will not hear: {', '.join(words[:SHOWN])}{more}"]


def count(number: int, noun: str) -> str:
    """``1 clip``, ``2 clips``."""
    return f"{number} {noun}{'s'[: number != 1]}"


def to(low: object, high: str) -> str:
    """``1 to 4 chunks``, or only the last where both are the same."""
    return high if f"{low}" in (high, high.partition(" ")[0]) else f"{low} to {high}"
