from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from weakref import finalize

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from longvid.backends import Runtime
from longvid.denoise import Finished, WindowState, fresh
from longvid.errors import RenderError
from longvid.guidance import classifier_free, per_frame
from longvid.methods import WindowStep
from longvid.noise import noise
from longvid.processes import DDIM, Solver, ab2, euler
from tests.looping import (
    SHAPE,
    entering,
    finished_of,
    growing,
    linear,
    run,
    tiny_predict,
    warped,
)
from tests.tiny import SPEC, TinyBackend
from tests.walking import enter_steps, progressive

# Known fields against their integrals


def test_a_constant_field_moves_every_unit_by_exactly_its_integral() -> None:
    def predict(x: Tensor, t: Tensor, units: tuple[int, ...]) -> Tensor:
        return per_frame(torch.tensor([float(unit) - 2 for unit in units]), x).expand_as(x)

    for schedule in (linear, warped):
        latents = finished_of(run(progressive([5, 2], 8, 4), predict, levels=8, schedule=schedule))
        assert len(latents) == 7
        for unit, found in enumerate(latents):
            torch.testing.assert_close(found, entering(unit) - (unit - 2), rtol=0, atol=2e-6)


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_euler_on_a_linear_field_has_its_closed_form(stride: int) -> None:
    """dx/dt = x from 1 to 0 in S equal steps: x(0) = x(1) (1 - 1/S)^S."""
    levels = 4 * stride
    for unit, found in enumerate(finished_of(run(progressive([6], levels, 4), growing, levels=levels))):
        torch.testing.assert_close(found, entering(unit) * (1 - 1 / levels) ** levels, rtol=1e-5, atol=1e-6)


def test_ab2_is_its_recurrence_with_steps_of_changing_length_and_begins_with_euler() -> None:
    levels = 8
    times = warped(torch.arange(levels, -1, -1, dtype=torch.float64) / levels).tolist()
    factor, before, taken = 1.0, None, 0.0
    for t, t_next in pairwise(times):
        h = t_next - t
        slope = factor if before is None else factor + h / taken / 2 * (factor - before)
        before, taken, factor = factor, h, factor + h * slope

    walk = list(progressive([6, 2], levels, 4))
    for unit, found in enumerate(finished_of(run(walk, growing, levels=levels, solver=ab2, schedule=warped))):
        torch.testing.assert_close(found, entering(unit) * factor, rtol=1e-5, atol=1e-6)


def test_euler_converges_with_order_one_and_ab2_with_order_two() -> None:
    """dx/dt = x cos(3 t): x(0) = x(1) exp(-sin(3) / 3); the error falls by 2 and by 4 with half the step."""

    def predict(x: Tensor, t: Tensor, units: tuple[int, ...]) -> Tensor:
        return x * torch.cos(3 * t)[:, None, :, None, None]

    def error(solver: Solver, levels: int, schedule: Callable[[Tensor], Tensor]) -> float:
        (found,) = finished_of(
            run(progressive([1], levels, 1), predict, levels=levels, solver=solver, schedule=schedule)
        )
        return float((found / entering(0) - math.exp(-math.sin(3) / 3)).abs().max())

    for schedule in (linear, warped):
        for solver, order in ((euler, 1), (ab2, 2)):
            errors = [error(solver, levels, schedule) for levels in (16, 32, 64)]
            for coarse, fine in pairwise(errors):
                assert math.log2(coarse / fine) == pytest.approx(order, abs=0.25), (solver, errors)


def test_ddim_gives_back_a_picture_that_the_network_knows() -> None:
    table = torch.linspace(0.999, 0.005, 1000)
    process = DDIM(table, "noise")
    picture = noise(9, 9, 9, SHAPE)[None].repeat(1, 1, 8, 1, 1)

    def predict(x: Tensor, t: Tensor, units: tuple[int, ...]) -> Tensor:
        a = process.alpha_bar(t)[:, None, :, None, None]
        return (x - a.sqrt() * picture[:, :, : x.shape[2]]) / (1 - a).sqrt().clamp(min=1e-6)

    for solver in (euler, ab2):
        for found in finished_of(
            run(progressive([5], 12, 4), predict, levels=12, process=process, solver=solver)
        ):
            torch.testing.assert_close(found, picture[:, :, :2], rtol=0, atol=1e-4)


# What the loop evaluates, holds and yields


@pytest.mark.parametrize("runs", [[1], [7], [1, 1, 1], [3, 5, 2]])
@pytest.mark.parametrize(("levels", "window"), [(8, 4), (8, 8), (6, 1), (12, 3)])
def test_the_number_of_evaluations(runs: list[int], levels: int, window: int) -> None:
    calls = []

    def predict(x: Tensor, t: Tensor, units: tuple[int, ...]) -> Tensor:
        assert x.shape == (1, 3, 2 * len(units), 4, 6) and t.shape == (1, 2 * len(units))
        assert x.dtype == t.dtype == torch.float32
        calls.append(units)
        return x

    states = list(run(progressive(runs, levels, window), predict, levels=levels))
    evaluations = sum((units - 1) * (levels // window) + levels for units in runs)
    assert len(calls) == len(states) == evaluations
    if len(runs) == 1:
        assert evaluations == (runs[0] - 1) * (levels // window) + levels


def test_states_of_a_small_film() -> None:
    states = list(run(progressive([3, 1], 4, 2), growing, levels=4))
    assert [(state.step, state.units, state.levels) for state, _ in states] == [
        (1, (0,), (3,)),
        (2, (0,), (2,)),
        (3, (0, 1), (1, 3)),
        (4, (0, 1), (0, 2)),  # finished, and held as context
        (5, (0, 1, 2), (0, 1, 3)),
        (6, (1, 2), (0, 2)),
        (7, (1, 2), (0, 1)),
        (8, (), ()),
        (9, (3,), (3,)),
        (10, (3,), (2,)),
        (11, (3,), (1,)),
        (12, (), ()),
    ]
    assert [[unit.unit for unit in finished] for _, finished in states] == [
        [], [], [], [0], [], [1], [], [2], [], [], [], [3]
    ]  # fmt: skip
    for state, finished in states:
        assert state.latents.shape == (1, 3, 2 * len(state.units), 4, 6)
        assert state.latents.dtype == torch.float32 and state.latents.is_contiguous()
        assert state.memory is None
        assert all(unit.latents.shape == (1, *SHAPE) and unit.latents.is_contiguous() for unit in finished)


def test_the_context_is_the_finished_unit_clean_at_time_zero() -> None:
    seen: list[tuple[tuple[int, ...], Tensor, Tensor]] = []

    def predict(x: Tensor, t: Tensor, units: tuple[int, ...]) -> Tensor:
        seen.append((units, x.clone(), t.clone()))
        return x

    done = finished_of(run(progressive([4], 4, 2), predict, levels=4, schedule=warped))
    shown = [(units, x, t) for units, x, t in seen if t[0, 0] == 0]
    assert [units for units, _, _ in shown] == [(0, 1, 2), (0, 1, 2), (1, 2, 3), (1, 2, 3), (2, 3), (2, 3)]
    for units, x, t in shown:
        assert torch.equal(x[:, :, :2], done[units[0]])
        assert t[0, :2].tolist() == [0, 0]
    assert seen[4][2].tolist() == [pytest.approx([0, 0, 0.75, 0.75, 1, 1])]


def test_a_prediction_of_a_narrow_dtype_moves_a_state_of_fp32() -> None:
    def predict(x: Tensor, t: Tensor, units: tuple[int, ...]) -> Tensor:
        return x.bfloat16()

    for state, _ in run(progressive([2], 4, 2), predict, levels=4, solver=ab2):
        assert state.latents.dtype == torch.float32
        assert state.memory is None or state.memory.dtype == torch.float32


def test_the_network_runs_in_inference_mode_and_the_caller_does_not() -> None:
    def predict(x: Tensor, t: Tensor, units: tuple[int, ...]) -> Tensor:
        assert torch.is_inference_mode_enabled()
        return x

    for _ in run(progressive([2], 4, 2), predict, levels=4):
        assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("solver", [euler, ab2])
def test_going_on_from_any_state_gives_the_same_bits(solver: Solver) -> None:
    predict = tiny_predict([(1, 0)] * 3 + [(0.5, 0.5)] + [(0, 1)] * 3)
    walk = list(progressive([5, 2], 8, 4))

    def states(state: WindowState | None) -> list[tuple[WindowState, list[Finished]]]:
        return list(run(walk, predict, levels=8, state=state, solver=solver, schedule=warped))

    whole = states(None)
    for done, (state, _) in enumerate(whole, start=1):
        rest = states(state)
        assert len(rest) == len(whole) - done
        for (one, ended), (other, ended_too) in zip(rest, whole[done:], strict=True):
            assert (one.step, one.units, one.levels) == (other.step, other.units, other.levels)
            assert torch.equal(one.latents, other.latents)
            assert (one.memory is None) == (other.memory is None)
            assert one.memory is None or (other.memory is not None and torch.equal(one.memory, other.memory))
            for unit, same in zip(ended, ended_too, strict=True):
                assert unit.unit == same.unit and torch.equal(unit.latents, same.latents)


@pytest.mark.gpu
@pytest.mark.parametrize("solver", [euler, ab2])
def test_a_film_on_a_gpu_stays_there_and_is_the_same_film(solver: Solver) -> None:
    def render(device: str) -> list[Tensor]:
        film = TinyBackend().for_film(SPEC, Runtime(torch.device(device), torch.float32))
        text = film.text(film.text_encoder()(["a red boat"]), {}, torch.ones(6, 1))
        predict = classifier_free(film.denoiser(), text, [2.0] * 6)
        empty = fresh(SHAPE, torch.device(device))
        latents = []
        for state, finished in run(progressive([6], 8, 4), predict, levels=8, state=empty, solver=solver):
            assert state.latents.device.type == device
            latents += [unit.latents for unit in finished]
        return latents

    for found, expected in zip(render("cuda"), render("cpu"), strict=True):
        torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_stop_the_film_by_unit_and_step(bad: float) -> None:
    def predict(x: Tensor, t: Tensor, units: tuple[int, ...]) -> Tensor:
        broken = torch.tensor([bad if unit == 2 and 0.6 < float(t.max()) <= 0.8 else 0.0 for unit in units])
        return x + per_frame(broken, x)

    with pytest.raises(RenderError, match=r"^chunk 2 became NaN or infinite at step 5 \(level 3 of 4\)"):
        list(run(progressive([4], 4, 2), predict, levels=4))


def test_what_the_network_says_of_the_context_is_thrown_away() -> None:
    def predict(x: Tensor, t: Tensor, units: tuple[int, ...]) -> Tensor:
        return torch.where(t[:, None, :, None, None] == 0, float("nan"), x)

    for solver in (euler, ab2):
        spoiled = finished_of(run(progressive([4], 4, 2), predict, levels=4, solver=solver))
        clean = finished_of(run(progressive([4], 4, 2), growing, levels=4, solver=solver))
        assert all(torch.equal(one, other) for one, other in zip(spoiled, clean, strict=True))


@pytest.mark.parametrize("step", [WindowStep(0, (0,), (3,), (2,), ()), WindowStep(0, (5,), (1,), (0,), (5,))])
def test_a_unit_can_only_be_shown_where_the_rule_can_take_it(step: WindowStep) -> None:
    held = WindowState(0, (0,), (4,), torch.zeros(1, *SHAPE), None)
    with pytest.raises(ValueError, match="cannot be shown"):
        next(run([step], growing, levels=4, state=held))


# Independence


@st.composite
def edited_films(draw: st.DrawFn) -> tuple[list[int], int, int, int]:
    runs = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    window, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    return runs, window, stride, draw(st.integers(0, sum(runs) - 1))


@settings(deadline=None, max_examples=60)
@given(edited_films(), st.sampled_from([euler, ab2]), st.sampled_from(["prompt", "seed"]))
def test_a_change_reaches_only_units_that_share_a_window_with_it(
    film: tuple[list[int], int, int, int], solver: Solver, change: str
) -> None:
    runs, window, stride, changed = film
    units, levels = sum(runs), window * stride
    enter = enter_steps("progressive", runs, levels, window)

    def render(edit: bool) -> list[Tensor]:
        mix = [
            (0.0, 1.0) if edit and change == "prompt" and i == changed else (1.0, 0.0) for i in range(units)
        ]
        seeds = [1 if edit and change == "seed" and i == changed else 0 for i in range(units)]
        walk = progressive(runs, levels, window)
        return finished_of(run(walk, tiny_predict(mix), levels=levels, solver=solver, seeds=seeds))

    first, second = render(edit=False), render(edit=True)
    for i in range(units):
        if enter[i] + levels <= enter[changed]:
            assert torch.equal(first[i], second[i]), (i, changed)
    assert not torch.equal(first[changed], second[changed])


@settings(deadline=None, max_examples=30)
@given(edited_films(), st.sampled_from([euler, ab2]))
def test_the_film_before_a_cut_is_the_film_that_ends_there(
    film: tuple[list[int], int, int, int], solver: Solver
) -> None:
    runs, window, stride, _ = film
    units, levels = sum(runs), window * stride
    predict = tiny_predict([(1.0, 0.0)] * units + [(0.0, 1.0)] * 3)

    def render(runs: list[int]) -> list[Tensor]:
        return finished_of(run(progressive(runs, levels, window), predict, levels=levels, solver=solver))

    whole, ended = render([*runs, 3]), render(runs)
    assert len(ended) == units
    assert all(torch.equal(one, other) for one, other in zip(whole, ended, strict=False))


def test_a_blend_hears_both_prompts() -> None:
    def render(share: float) -> list[Tensor]:
        mix = [(1.0, 0.0)] * 3 + [(1 - share, share)] + [(1.0, 0.0)] * 2
        return finished_of(run(progressive([6], 8, 4), tiny_predict(mix), levels=8))

    one, half, other = render(0), render(0.5), render(1)
    assert not torch.equal(half[3], one[3]) and not torch.equal(half[3], other[3])


def test_steps_that_can_be_gone_over_again_are_not_kept() -> None:
    """A film of hours has half a million."""

    class Steps:
        alive = most = 0

        def __iter__(self) -> Iterator[WindowStep]:
            for step in progressive([20], steps=4, window=2):
                finalize(step, self.gone)
                self.alive += 1
                self.most = max(self.most, self.alive)
                yield step
                del step

        def gone(self) -> None:
            self.alive -= 1

    steps = Steps()
    found = finished_of(run(steps, growing, levels=4))
    wanted = finished_of(run(progressive([20], steps=4, window=2), growing, levels=4))
    assert all(map(torch.equal, found, wanted)) and len(found) == 20
    assert steps.most <= 4
