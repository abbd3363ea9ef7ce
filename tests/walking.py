"""Walks of films whose units are chunks, as short as tests need them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from longvid import methods
from longvid.methods import WindowStep
from longvid.walks import Method, Walk


def walk(name: str, runs: Sequence[int], steps: int, window: int, **there: int) -> Iterator[WindowStep]:
    """The steps of a method; ``there``: ``given``, ``noised`` and ``overlap``."""
    method = Method(name, overlap=there.pop("overlap", 1))
    return Walk(method, tuple(runs), steps, window, 1, **there).steps_in_order()


def progressive(runs: Sequence[int], steps: int, window: int, **there: int) -> Iterator[WindowStep]:
    return walk("progressive", runs, steps, window, **there)


def replacement(runs: Sequence[int], steps: int, window: int, **there: int) -> Iterator[WindowStep]:
    return walk("replace", runs, steps, window, **there)


def enter_steps(
    name: str, runs: Sequence[int], steps: int, window: int, given: int = 0, noised: int = 0
) -> tuple[int, ...]:
    lines: dict[str, Callable[[int, int, int], int]] = {
        "progressive": methods.enter_progressive,
        "replace": methods.enter_in_groups,
    }
    return methods.enter_steps(lines[name], runs, steps, window, given, noised)
