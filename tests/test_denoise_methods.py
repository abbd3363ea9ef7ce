"""Other methods through the loop's one rule, against literal versions of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from longvid.denoise import WindowState
from longvid.guidance import per_frame
from longvid.methods import WindowStep
from longvid.noise import noise
from longvid.processes import RectifiedFlow, Solver, ab2, euler
from tests.looping import (
    SHAPE,
    entering,
    finished_of,
    growing,
    run,
    tiny_predict,
    warped,
)
from tests.walking import progressive, replacement


def fifo_steps(parts: int, part: int, diagonals: int) -> list[WindowStep]:
    """FIFO's lookahead denoising with n = parts, f = part, on a queue that is full from the start.

    A diagonal step is 2n calls r = 2n - 1 .. 0; call r reads positions (r - 1) f/2 .. (r + 1) f/2 - 1 and
    moves those >= r f/2. Position p is at level p + 1; positions below 0 are the last finished latents, at
    level 0.
    """
    half, walk = part // 2, list[WindowStep]()
    for diagonal in range(diagonals):
        for r in reversed(range(2 * parts)):
            reads = range(diagonal + (r - 1) * half, diagonal + (r + 1) * half)
            positions = [unit - diagonal for unit in reads if unit >= 0]
            before = [max(p + 1, 0) for p in positions]
            after = [p if p >= r * half else None for p in positions]
            units = tuple(unit for unit in reads if unit >= 0)
            emits = tuple(unit for unit, new in zip(units, after, strict=True) if new == 0)
            walk.append(WindowStep(len(walk), units, tuple(before), tuple(after), emits))
    return walk


def test_fifo_reads_the_levels_of_its_table() -> None:
    first = fifo_steps(parts=2, part=4, diagonals=4)[8:12]  # a diagonal with two finished units behind it
    assert [step.before for step in first] == [(5, 6, 7, 8), (3, 4, 5, 6), (1, 2, 3, 4), (0, 0, 1, 2)]
    moved = [tuple(new for new in step.after if new is not None) for step in first]
    assert moved == [(6, 7), (4, 5), (2, 3), (0, 1)]


def test_fifo_equals_its_literal_queue() -> None:
    parts, part, diagonals = 2, 4, 6
    levels, half = parts * part, part // 2
    predict = tiny_predict([(1, 0)] * 5 + [(0, 1)] * 10)
    times = warped(torch.arange(levels + 1) / levels)

    start = [noise(3, unit, 1, SHAPE)[None] for unit in range(levels)]
    queue, done = list(start), list[Tensor]()
    for diagonal in range(diagonals):
        for r in reversed(range(2 * parts)):
            positions = [p for p in range((r - 1) * half, (r + 1) * half) if p + diagonal >= 0]
            x = torch.cat([queue[p] if p >= 0 else done[p] for p in positions], dim=2)
            t = per_frame(torch.stack([times[max(p + 1, 0)] for p in positions]), x)
            v = predict(x, t.flatten()[None], tuple(diagonal + p for p in positions))
            for k, p in enumerate(positions):
                if p >= r * half:
                    queue[p] = queue[p] + (times[p] - times[p + 1]) * v[:, :, 2 * k : 2 * k + 2]
        done.append(queue.pop(0))
        queue.append(entering(diagonal + levels))

    state = WindowState(0, tuple(range(levels)), tuple(range(1, levels + 1)), torch.cat(start, dim=2), None)
    steps = fifo_steps(parts, part, diagonals)
    found = finished_of(run(steps, predict, levels=levels, schedule=warped, state=state))
    assert len(found) == diagonals
    assert all(torch.equal(one, other) for one, other in zip(found, done, strict=True))


@pytest.mark.parametrize("noisy", [False, True])
def test_replacement_equals_its_literal_loop(noisy: bool) -> None:
    """Paper eqs. 5 and 6: groups of K units at one level behind the last unit, clean or noised alike."""
    window, levels, groups = 3, 4, 3
    predict = tiny_predict([(1, 0)] * 4 + [(0, 1)] * 5)
    times = warped(torch.arange(levels + 1) / levels)
    process = RectifiedFlow()

    walk, done = list[WindowStep](), list[Tensor]()
    for group in range(groups):
        units = tuple(range(group * window, (group + 1) * window))
        x = torch.cat([entering(unit) for unit in units], dim=2)
        for level in range(levels, 0, -1):
            step = len(walk)
            context = (units[0] - 1,) if group else ()
            shown = level if noisy else 0
            walk.append(
                WindowStep(
                    step,
                    (*context, *units),
                    (shown,) * len(context) + (level,) * window,
                    (None,) * len(context) + (level - 1,) * window,
                    units if level == 1 else (),
                )
            )
            parts = [x]
            if context:
                clean = done[context[0]]
                more = noise(0, context[0], step, SHAPE)[None]
                parts = [process.add_noise(clean, more, times[shown]) if noisy else clean, x]
            row = [shown] * len(context) + [level] * window
            seen = torch.cat(parts, dim=2)
            v = predict(seen, times[row].repeat_interleave(2)[None], (*context, *units))
            x = x + (times[level - 1] - times[level]) * v[:, :, -2 * window :]
        done.extend(x.chunk(window, dim=2))

    if not noisy:
        assert walk == list(replacement([groups * window], levels, window))
    found = finished_of(run(walk, predict, levels=levels, schedule=warped))
    assert len(found) == groups * window
    for one, other in zip(found, done, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("solver", [euler, ab2])
def test_a_clip_is_noised_to_its_levels_and_goes_on(solver: Solver) -> None:
    """Paper Alg. 1, lines 1 to 3: two chunks of a clip noised behind a clean one, a new chunk behind them."""
    window, levels = 3, 6
    clip = [noise(5, unit, 5, SHAPE)[None] for unit in range(3)]
    state = WindowState(4, (0, 1, 2), (0, 0, 0), torch.cat(clip, dim=2), None)
    steps = [
        WindowStep(4, (0, 1, 2, 3), (0, 2, 4, 6), (None, 1, 3, 5), ()),
        WindowStep(5, (0, 1, 2, 3), (0, 1, 3, 5), (None, 0, 2, 4), (1,)),
        WindowStep(6, (1, 2, 3), (0, 2, 4), (None, 1, 3), ()),
        WindowStep(7, (1, 2, 3), (0, 1, 3), (None, 0, 2), (2,)),
        WindowStep(8, (2, 3), (0, 2), (None, 1), ()),
        WindowStep(9, (2, 3), (0, 1), (None, 0), (3,)),
    ]
    assert steps == [step for step in progressive([4], levels, window, given=1) if step.step >= state.step]
    found = finished_of(run(steps, growing, levels=levels, state=state, solver=solver))

    h = -1 / levels
    for unit, start in ((1, 2), (2, 4), (3, 6)):
        x = entering(3)
        if unit < 3:
            x = RectifiedFlow().add_noise(
                clip[unit], noise(0, unit, 4, SHAPE)[None], torch.tensor(start / levels)
            )
        before = None
        for _ in range(start):
            slope = x if before is None or solver is euler else x + (x - before) / 2
            before, x = x, x + h * slope
        torch.testing.assert_close(found[unit - 1], x, rtol=1e-5, atol=1e-6)
