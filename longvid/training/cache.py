"""What is made of clips once and kept on disk: files that appear whole or not at all.

A file is named by all that its numbers depend on, and counts as missing where it is damaged: what was stopped
goes on where it was, and the same clips in another folder cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from safetensors import SafetensorError, safe_open
from torch import Tensor

from longvid.datasets import Clip
from longvid.errors import RenderError, UserError
from longvid.files import read_sealed, write_sealed, write_tensors
from longvid.locks import locked, refused
from longvid.training.captions import Problem
from longvid.training.material import Item, Material

VERSION = 1
"""Raised when the same clip gives other numbers, so that they are not mixed."""
UNREADABLE = "cannot be read; the same command encodes it again"
Make = Callable[[Clip], dict[str, Tensor] | str]
"""The tensors of a clip that are kept, or in one clause why there are none."""


@dataclass(frozen=True)
class Encoded:
    """A caption or a passage is on disk, or cannot be, for the ``problem``: ``done`` of ``total``. ``kept``:
    how many of those were there already."""

    what: Literal["caption", "passage"]
    done: int
    total: int
    kept: int
    problem: Problem | None = None


class Part(Protocol):
    """Files of the cache that are read as one, which other processes find again by what it is ``told`` as."""

    def told(self) -> dict[str, Any]:
        """It as JSON."""
        ...


P = TypeVar("P", bound=Part)


@dataclass(frozen=True)
class Prepared(Generic[P]):
    """All that was encoded: what is trained on, and what is held out and may be empty. ``problems``: of what
    could not be."""

    training: P
    held_out: P
    problems: tuple[Problem, ...]

    def save(self, path: Path) -> None:
        """As a file that `read_prepared` reads: for other processes, and for a training that goes on."""
        problems = [[str(problem.path), problem.reason] for problem in self.problems]
        parts = {"training": self.training.told(), "held_out": self.held_out.told()}
        write_sealed(path, {**parts, "problems": problems})


def read_prepared(path: Path, read: Callable[[dict[str, Any]], P]) -> Prepared[P]:
    """What was saved, each part as ``read`` makes it of what it was told as. Raises UserError where there is
    no such file, or a changed one."""
    content = read_sealed(path)
    if content is None:
        raise UserError(f"{path}: is missing or was changed; begin anew, the clips stay encoded")
    problems = tuple(Problem(Path(file), reason) for file, reason in content["problems"])
    return Prepared(read(content["training"]), read(content["held_out"]), problems)


@contextmanager
def filling(cache: Path, *folders: str) -> Iterator[None]:
    """The cache for this process alone, with these folders in it.

    Raises UserError for a cache that cannot be, LockedError where another process fills it, and says of a
    RenderError that nothing is lost.
    """
    with refused(cache):
        for folder in folders:
            (cache / folder).mkdir(parents=True, exist_ok=True)
    with locked(cache, "encodes clips"):
        try:
            yield
        except RenderError as error:
            raise RenderError(
                f"{error}; what is encoded so far stays, and the same command goes on from there"
            ) from error


def fill(
    material: Material,
    path: Callable[[Item], Path],
    holds: str,
    workers: int,
    begin: Callable[[], Make],
) -> Iterator[Encoded]:
    """The file of each item, where its `path` is not whole with the tensor that it ``holds``. ``begin`` is
    called once, and only if something is missing."""
    paths = {path(item): index for index, item in enumerate(material.items)}
    missing = {file: index for file, index in paths.items() if not is_whole(file, holds)}
    done = kept = len(paths) - len(missing)
    yield Encoded("passage", done, len(paths), kept)
    if not missing:
        return
    make = begin()
    with closing(material.shown(list(missing.values()), workers)) as shown:
        for (file, index), clip in zip(missing.items(), shown, strict=True):
            problem = None
            if isinstance(clip, Problem):
                problem = clip
            elif isinstance(made := make(clip), str):
                problem = Problem(Path(material.items[index].name), made)
            else:
                write_tensors(file, made)
            done += 1
            yield Encoded("passage", done, len(paths), kept, problem)


def is_whole(path: Path, name: str) -> bool:
    """Whether the file is there with all its bytes, by its header and its length."""
    try:
        with safe_open(path, "pt") as file:
            return name in file.keys()  # noqa: SIM118, it is no mapping
    except (OSError, SafetensorError):
        return False


def gather(
    material: Material,
    path: Callable[[Item], Path],
    holds: str,
    part: Callable[[Sequence[Item]], P],
) -> Prepared[P]:
    """What there is of a material after `fill`: a ``part`` of what is trained on, one of what is held out.

    Raises UserError where nothing is there to train on.
    """
    whole = [is_whole(path(item), holds) for item in material.items]
    found = [item for item, there in zip(material.items, whole, strict=True) if there]
    lost = dict.fromkeys(item.name for item, there in zip(material.items, whole, strict=True) if not there)
    problems = tuple(Problem(Path(name), "cannot be encoded") for name in lost)
    training = [item for item in found if not item.held_out]
    if not training:
        reason = problems[0] if problems else "all of it is held out"
        raise UserError(f"{material.name}: nothing of it could be encoded: {reason}")
    return Prepared(part(training), part([item for item in found if item.held_out]), problems)
