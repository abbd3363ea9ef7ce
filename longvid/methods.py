"""Which units each evaluation of the network reads, at which noise levels. Torch-free.

A film is units in runs; a true cut begins a new run, and runs never share a window. A unit is what moves
through the window together: a chunk of latents, or one latent (`walks.Walk` says which). All but FIFO are a
line ``enter(i)``, the global step at which unit i enters, and with it

    level(i, s) = clip(S - (s - enter(i)), 0, S)        S is pure noise, 0 is clean
    unit i is in the window while enter(i) <= s < enter(i) + S

so a unit loses one level an evaluation. Warm-up, steady state and drain (the variable length of paper section
3.2) are this one line: no phase, no flag. A film costs enter(N - 1) + S evaluations, and unit i is
independent of unit j > i exactly when enter(i) + S <= enter(j).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

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


def check_steps(steps: int, window: int, noun: str = "chunks") -> None:
    """Raise UserError, with the nearest that are, where S = ``steps`` is no multiple of K = ``window``."""
    if steps < 1 or steps % window:
        below = max(steps // window, 0) * window
        valid = (str(nearest) for nearest in (below, below + window) if 0 < nearest <= MAX_STEPS)
        message = f"{steps} steps are no multiple of the window's {window} {noun}"
        raise UserError(f"{message}; nearest: {' or '.join(valid)}")


Enter = Callable[[int, int, int], int]
"""enter(i) of unit i of a run, counted from the run's own start, of (i, S, K)."""


def enter_steps(
    enter: Enter, runs: Sequence[int], steps: int, window: int, given: int = 0, noised: int = 0
) -> tuple[int, ...]:
    """enter(i), the global step at which each unit of the film enters the window, in order.

    ``runs``: the units in each run, all at least 1. ``steps``: S, the denoising steps of a unit. ``window``:
    K, the noisy units in the window. The first unit after a cut enters at enter(i - 1) + S, when the last one
    before it is finished, and the rest of its run counts from there. The first ``given`` units of the film
    are clean before it begins (enter = -S), and their run counts from the one behind them. The
    ``noised`` behind those, which a progressive film takes from a clip, have entered before it begins, so
    that the first new one enters at 0: the i-th of n at -(n - i) m, so at level S - (n - i) m (paper Alg. 1,
    lines 1 to 3).
    """
    if window < 1 or not runs or min(runs) < 1:
        raise ValueError(f"the window and every run need at least one unit: {window}, {tuple(runs)}")
    ends = list(accumulate(runs))
    if not 0 <= given <= ends[-1]:
        raise ValueError(f"of {ends[-1]} units, {given} cannot be given")
    if noised and not (given and noised < window):
        raise ValueError(f"{noised} units cannot be noised behind {given}: at least 1, at most K - 1")
    if noised and any(given <= end < given + noised for end in ends):
        raise ValueError(f"{noised} units cannot be noised behind {given}: a run ends there")
    new = [min(units, max(end - given, 0)) for units, end in zip(runs, ends, strict=True)]
    lengths = [enter(units - 1, steps, window) + steps if units else 0 for units in new]
    starts = accumulate(lengths[:-1], initial=-enter(noised, steps, window))
    return (-steps,) * given + tuple(
        start + enter(i, steps, window)
        for start, units in zip(starts, new, strict=True)
        for i in range(units)
    )


def windows(
    enter: Sequence[int],
    runs: Sequence[int],
    steps: int,
    *,
    overlap: int = 1,
    noised_context: bool = False,
    beyond: int = 0,
) -> Iterator[WindowStep]:
    """The window steps of any line ``enter``, with S = ``steps``.

    ``overlap``: how many finished units of the same run are shown in front as context, once there are so many
    (overlapped conditioning, paper section 3.4): clean, or where ``noised_context`` is set at the level of
    the first unit behind them, with new noise each time (paper eq. 2). The last ``beyond`` units are only
    there to fill the window: the film ends before they are finished.
    """
    run_starts = list(accumulate(runs, initial=0))

    def level(unit: int, step: int) -> int:
        return min(max(steps - (step - enter[unit]), 0), steps)

    for step in range(enter[-1 - beyond] + steps):
        first, end = bisect_right(enter, step - steps), bisect_right(enter, step)
        run_start = run_starts[bisect_right(run_starts, first) - 1]
        context = tuple(range(max(run_start, first - overlap), first))
        live = tuple(range(first, end))
        yield WindowStep(
            step=step,
            reads=context + live,
            before=tuple(level(first if noised_context else unit, step) for unit in context)
            + tuple(level(unit, step) for unit in live),
            after=(None,) * len(context) + tuple(level(unit, step + 1) for unit in live),
            emits=tuple(unit for unit in live if level(unit, step + 1) == 0),
        )


def diagonals(
    runs: Sequence[int], partitions: int, frames: int, *, lookahead: bool = True, given: int = 0
) -> Iterator[WindowStep]:
    """FIFO-Diffusion (Kim et al. 2024, sections 4.2 and 4.3), of n = ``partitions`` of f = ``frames`` units.

    S = n f levels, unit i of a run enters at its diagonal i, and every diagonal takes all that are in the
    queue one level down, f units at a time. With ``lookahead`` a call reads f units and advances the later
    half of them only, so each has cleaner ones in front: 2 n calls instead of n. A queue that fills up or
    runs dry has fewer units; a call that would advance none is not made.

    The first ``given`` units are clean from the beginning, and are read in front of what is behind them.
    """
    steps = partitions * frames
    advanced = frames // 2 if lookahead else frames
    step = 0
    run_end = 0
    for units in runs:
        run_start, run_end = run_end, run_end + units
        first = max(run_start, min(given, run_end))
        for diagonal in range(run_end - first + steps - 1 if run_end > first else 0):
            # The unit at position p, 0 the oldest, is at level p + 1.
            oldest = first + diagonal - steps + 1
            for call in reversed(_calls(oldest, range(first, run_end), steps, advanced)):
                begin, end = oldest + call * advanced, oldest + (call + 1) * advanced
                moved = range(max(first, begin), min(run_end, end))
                in_front = begin - advanced if lookahead else moved.start
                # Calls go from the noisiest on: what is in front has not been moved in this diagonal. Of what
                # is given, as much is seen as of what is finished.
                reads = range(max(run_start, in_front, first - advanced), moved.stop)
                levels = tuple(max(unit - oldest + 1, 0) if unit >= first else 0 for unit in reads)
                yield WindowStep(
                    step=step,
                    reads=tuple(reads),
                    before=levels,
                    after=tuple(
                        level - 1 if unit in moved else None
                        for unit, level in zip(reads, levels, strict=True)
                    ),
                    emits=(oldest,) if oldest in moved else (),
                )
                step += 1


def diagonal_spans(
    runs: Sequence[int], partitions: int, frames: int, *, lookahead: bool = True, given: int = 0
) -> tuple[tuple[int, int], ...]:
    """(step at which it enters, step behind the one that finishes it) of every unit of ``diagonals``.

    Counted, not walked: unit i of a run is the first to be read in its diagonal i, and the last to be moved
    in diagonal i + S - 1. What is given entered at -S and is finished at 0.
    """
    steps = partitions * frames
    advanced = frames // 2 if lookahead else frames
    spans = [(-steps, 0)] * given
    run_end = begun = 0
    for units in runs:
        run_start, run_end = run_end, run_end + units
        new = range(max(run_start, min(given, run_end)), run_end)
        if not new:
            continue
        oldest = range(new.start - steps + 1, run_end)
        starts = list(accumulate((len(_calls(unit, new, steps, advanced)) for unit in oldest), initial=begun))
        spans += [(starts[i], starts[i + steps]) for i in range(len(new))]
        begun = starts[-1]
    return tuple(spans)


def _calls(oldest: int, units: range, steps: int, advanced: int) -> range:
    """The calls of a diagonal that advance any of a run's new ``units``: call r those of the positions r
    ``advanced`` and on, where position 0 is that of unit ``oldest``, which the run need not have."""
    first, last = max(units.start, oldest), min(units.stop, oldest + steps) - 1
    return range((first - oldest) // advanced, (last - oldest) // advanced + 1)


def enter_progressive(i: int, steps: int, window: int) -> int:
    """enter(i) = i m with m = S / K (paper section 3.1). Raises UserError where K does not divide S."""
    check_steps(steps, window)
    return i * (steps // window)


def enter_in_groups(i: int, steps: int, window: int) -> int:
    """enter(i) = floor(i / K) S: K units at one level together, then the next K (paper section 2.2)."""
    return i // window * steps
