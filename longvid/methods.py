"""Which units each evaluation of the network reads, at which noise levels. Torch-free.

A film is units in runs; a true cut begins a new run, and runs never share a window. Every method is a line
``enter(i)``, the global step at which unit i enters, and with it

    level(i, s) = clip(S - (s - enter(i)), 0, S)        S is pure noise, 0 is clean
    unit i is in the window while enter(i) <= s < enter(i) + S

so a unit loses one level an evaluation. Warm-up, steady state and drain (the variable length of paper section
3.2) are this one line: no phase, no flag. A film costs enter(N - 1) + S evaluations, and unit i is
independent of unit j > i exactly when enter(i) + S <= enter(j).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Protocol

from longvid.errors import UserError
from longvid.values import MAX_STEPS


@dataclass(frozen=True)
class WindowStep:
    """One evaluation of the network: the global step, and for each unit in the window what happens to it.

    ``reads``: the units' indices in the film, in order of time. ``before``: the level at which each is shown
    to the network; above its stored level it is first noised up to it (paper eq. 2). ``after``: the level
    that each then has, one lower, or None for a unit that is only read and keeps its stored latents.
    ``emits``: the units that this step finishes.
    """

    step: int
    reads: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int | None, ...]
    emits: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.reads) == len(self.before) == len(self.after) > 0:
            raise ValueError(f"{self}: reads, before and after must be equally long, and not empty")
        if any(later <= unit for unit, later in pairwise(self.reads)):
            raise ValueError(f"{self}: reads must be in order of time")
        if any(new not in (None, old - 1) for old, new in zip(self.before, self.after, strict=True)):
            # A solver's memory relies on this: it was made one level above the stored one.
            raise ValueError(f"{self}: a unit that is read either keeps its level or loses one")
        if self.emits != tuple(unit for unit, new in zip(self.reads, self.after, strict=True) if new == 0):
            raise ValueError(f"{self}: emits must be the units that reach level 0")


class Method(Protocol):
    def __call__(
        self,
        runs: Sequence[int],
        steps: int,
        window: int,
        *,
        given: int = 0,
        noised: int = 0,
        overlap: int = 1,
    ) -> Iterator[WindowStep]:
        """The film's evaluations in order: ``runs`` units in each run, S = ``steps``, K = ``window``.

        ``given``: units at the film's start that are clean from the beginning, a clip's. ``noised``: units
        behind them that are there as well, and are noised and made anew. ``overlap``: how many finished units
        of the same run are shown in front as clean context, once there are so many (overlapped conditioning,
        paper section 3.4).
        """
        ...


def check_steps(steps: int, window: int) -> None:
    """Raise UserError, with the nearest that are, where S = ``steps`` is no multiple of K = ``window``."""
    if steps < 1 or steps % window:
        below = max(steps // window, 0) * window
        valid = (str(nearest) for nearest in (below, below + window) if 0 < nearest <= MAX_STEPS)
        message = f"{steps} steps are no multiple of the window's {window} chunks"
        raise UserError(f"{message}; nearest: {' or '.join(valid)}")


def enter_steps(
    method: str, runs: Sequence[int], steps: int, window: int, given: int = 0, noised: int = 0
) -> tuple[int, ...]:
    """enter(i), the global step at which each unit of the film enters the window, in order.

    ``runs``: the units in each run, all at least 1. ``steps``: S, the denoising steps of a unit. ``window``:
    K, the noisy units in the window. The first unit after a cut enters at enter(i - 1) + S, when the last one
    before it is finished, and the rest of its run counts from there. The first ``given`` units of the film
    are clean before it begins (enter = -S), and their run counts from the one behind them. The
    ``noised`` behind those, which a progressive film takes from a clip, have entered before it begins, so
    that the first new one enters at 0: the i-th of n at -(n - i) m, so at level S - (n - i) m (paper Alg. 1,
    lines 1 to 3). Raises UserError for an unknown method, for a progressive one where S is not a multiple of
    K, and where units can't be noised.
    """
    if method not in METHODS:
        raise UserError(f"method: {method!r} is unknown; known: {', '.join(METHODS)}")
    if window < 1 or not runs or min(runs) < 1:
        raise ValueError(f"the window and every run need at least one unit: {window}, {tuple(runs)}")
    ends = list(accumulate(runs))
    if not 0 <= given <= ends[-1]:
        raise ValueError(f"of {ends[-1]} units, {given} cannot be given")
    if noised and method != "progressive":
        raise UserError(f"method {method} takes no noised chunks over; only progressive does")
    if noised and not (given and noised < window):
        raise ValueError(f"{noised} chunks cannot be noised behind {given}: at least 1, at most K - 1")
    if noised and any(given <= end < given + noised for end in ends):
        raise ValueError(f"{noised} chunks cannot be noised behind {given}: a run ends there")
    enter_in_run = _ENTER[method]
    new = [min(units, max(end - given, 0)) for units, end in zip(runs, ends, strict=True)]
    lengths = [enter_in_run(units - 1, steps, window) + steps if units else 0 for units in new]
    starts = accumulate(lengths[:-1], initial=-enter_in_run(noised, steps, window))
    return (-steps,) * given + tuple(
        start + enter_in_run(i, steps, window)
        for start, units in zip(starts, new, strict=True)
        for i in range(units)
    )


def progressive(
    runs: Sequence[int], steps: int, window: int, *, given: int = 0, noised: int = 0, overlap: int = 1
) -> Iterator[WindowStep]:
    """Progressive autoregressive denoising (paper sections 3.1 to 3.4): enter(i) = i m with m = S / K.

    K noisy units whose levels rise from front to back. A run begins from text alone, or from what is given.
    """
    return _windows(enter_steps("progressive", runs, steps, window, given, noised), runs, steps, overlap)


def replacement(
    runs: Sequence[int], steps: int, window: int, *, given: int = 0, noised: int = 0, overlap: int = 1
) -> Iterator[WindowStep]:
    """Replacement without noise (paper section 4.1, RN): enter(i) = floor(i / K) S.

    K units at one level together, then the next K; the finished ones in front of them stay clean. It is how
    Open-Sora v1.2 itself goes on from a clip. With K = N it is one clip, without autoregression.
    """
    return _windows(enter_steps("replace", runs, steps, window, given, noised), runs, steps, overlap)


def _windows(enter: Sequence[int], runs: Sequence[int], steps: int, overlap: int) -> Iterator[WindowStep]:
    """The window steps of any line ``enter``, with clean context."""
    run_starts = list(accumulate(runs, initial=0))

    def level(unit: int, step: int) -> int:
        return min(max(steps - (step - enter[unit]), 0), steps)

    for step in range(enter[-1] + steps):
        first, end = bisect_right(enter, step - steps), bisect_right(enter, step)
        run_start = run_starts[bisect_right(run_starts, first) - 1]
        context = tuple(range(max(run_start, first - overlap), first))
        live = tuple(range(first, end))
        yield WindowStep(
            step=step,
            reads=context + live,
            before=tuple(level(unit, step) for unit in context + live),
            after=(None,) * len(context) + tuple(level(unit, step + 1) for unit in live),
            emits=tuple(unit for unit in live if level(unit, step + 1) == 0),
        )


METHODS: Mapping[str, Method] = {"progressive": progressive, "replace": replacement}


def _enter_progressive(i: int, steps: int, window: int) -> int:
    check_steps(steps, window)
    return i * (steps // window)


_ENTER: Mapping[str, Callable[[int, int, int], int]] = {
    "progressive": _enter_progressive,
    "replace": lambda i, steps, window: i // window * steps,
}
"""enter(i) of unit i of a run, counted from the run's own start, of (i, S, K)."""
