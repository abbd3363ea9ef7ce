from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longvid.errors import UserError
from longvid.methods import WindowStep
from tests.walking import enter_steps, progressive, replacement

films = st.tuples(
    st.lists(st.integers(1, 6), min_size=1, max_size=4),  # units in each run
    st.integers(1, 6),  # K
    st.integers(1, 4),  # m
)


def test_one_run_warms_up_and_drains() -> None:
    assert list(progressive([3], steps=4, window=2)) == [
        WindowStep(0, (0,), (4,), (3,), ()),
        WindowStep(1, (0,), (3,), (2,), ()),
        WindowStep(2, (0, 1), (2, 4), (1, 3), ()),
        WindowStep(3, (0, 1), (1, 3), (0, 2), (0,)),
        WindowStep(4, (0, 1, 2), (0, 2, 4), (None, 1, 3), ()),
        WindowStep(5, (0, 1, 2), (0, 1, 3), (None, 0, 2), (1,)),
        WindowStep(6, (1, 2), (0, 2), (None, 1), ()),
        WindowStep(7, (1, 2), (0, 1), (None, 0), (2,)),
    ]


def test_a_cut_begins_again_from_noise_without_context() -> None:
    assert list(progressive([1, 2], steps=2, window=2)) == [
        WindowStep(0, (0,), (2,), (1,), ()),
        WindowStep(1, (0,), (1,), (0,), (0,)),
        WindowStep(2, (1,), (2,), (1,), ()),
        WindowStep(3, (1, 2), (1, 2), (0, 1), (1,)),
        WindowStep(4, (1, 2), (0, 1), (None, 0), (2,)),
    ]


def test_what_is_given_is_context_from_the_first_step_on() -> None:
    assert list(progressive([3], steps=4, window=2, given=1)) == [
        WindowStep(0, (0, 1), (0, 4), (None, 3), ()),
        WindowStep(1, (0, 1), (0, 3), (None, 2), ()),
        WindowStep(2, (0, 1, 2), (0, 2, 4), (None, 1, 3), ()),
        WindowStep(3, (0, 1, 2), (0, 1, 3), (None, 0, 2), (1,)),
        WindowStep(4, (1, 2), (0, 2), (None, 1), ()),
        WindowStep(5, (1, 2), (0, 1), (None, 0), (2,)),
    ]
    assert enter_steps("progressive", [3, 1], steps=4, window=2, given=1) == (-4, 0, 2, 6)
    assert enter_steps("progressive", [2, 3], steps=4, window=2, given=3) == (-4, -4, -4, 0, 2)
    assert enter_steps("progressive", [2, 3], steps=4, window=2, given=2) == (-4, -4, 0, 2, 4)
    assert list(progressive([3], steps=4, window=2, given=3)) == [], "nothing is new"
    for wrong in (-1, 4):
        with pytest.raises(ValueError, match="cannot be given"):
            enter_steps("progressive", [3], steps=4, window=2, given=wrong)


def test_replacement_moves_a_group_together_behind_the_finished_ones() -> None:
    assert list(replacement([4], steps=2, window=2)) == [
        WindowStep(0, (0, 1), (2, 2), (1, 1), ()),
        WindowStep(1, (0, 1), (1, 1), (0, 0), (0, 1)),
        WindowStep(2, (1, 2, 3), (0, 2, 2), (None, 1, 1), ()),
        WindowStep(3, (1, 2, 3), (0, 1, 1), (None, 0, 0), (2, 3)),
    ]
    # One clip, without autoregression, in steps that the window need not divide; and a cut behind it.
    assert enter_steps("replace", [5, 2], steps=7, window=5) == (0, 0, 0, 0, 0, 7, 7)


def test_overlap_is_how_many_finished_units_are_shown() -> None:
    for overlap in range(4):
        for step in progressive([4, 4], steps=4, window=2, overlap=overlap):
            context = [unit for unit, new in zip(step.reads, step.after, strict=True) if new is None]
            live = step.reads[len(context)]
            run_start = 0 if live < 4 else 4
            assert context == list(range(max(run_start, live - overlap), live))


def test_enter_steps() -> None:
    assert enter_steps("progressive", [4], steps=30, window=6) == (0, 5, 10, 15)
    assert enter_steps("progressive", [2, 1, 2], steps=6, window=3) == (0, 2, 8, 14, 16)
    assert enter_steps("progressive", [3], steps=5, window=1) == (0, 5, 10)


@pytest.mark.parametrize(
    ("steps", "window", "nearest"),
    [(17, 4, "16 or 20"), (3, 4, "4"), (0, 4, "4"), (-8, 4, "4"), (31, 6, "30 or 36")],
)
def test_steps_must_be_a_multiple_of_the_window(steps: int, window: int, nearest: str) -> None:
    with pytest.raises(UserError) as error:
        enter_steps("progressive", [3], steps, window)
    assert str(error.value) == (
        f"{steps} steps are no multiple of the window's {window} chunks; nearest: {nearest}"
    )
    with pytest.raises(UserError):
        next(progressive([3], steps, window))


@pytest.mark.parametrize(("runs", "window"), [([], 4), ([0], 4), ([2, 0], 4), ([2], 0)])
def test_the_window_and_every_run_have_a_unit(runs: list[int], window: int) -> None:
    with pytest.raises(ValueError, match="at least one unit"):
        enter_steps("progressive", runs, 8, window)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (((), (), (), ()), "not empty"),
        (((0, 1), (1, 2), (0,), (0,)), "equally long"),
        (((1, 0), (1, 2), (0, 1), (1,)), "order of time"),
        (((0, 0), (1, 2), (0, 1), (0,)), "order of time"),
        (((0, 1), (1, 4), (0, 2), (0,)), "loses one"),
        (((0, 1), (1, 4), (0, 3), ()), "reach level 0"),
    ],
)
def test_a_window_step_is_checked(fields: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WindowStep(0, *fields)


@given(films)
def test_every_film_of_any_runs_window_and_steps(film: tuple[list[int], int, int]) -> None:
    runs, window, stride = film
    steps = window * stride
    walk = list(progressive(runs, steps, window))
    enter = enter_steps("progressive", runs, steps, window)
    run_of = [run for run, units in enumerate(runs) for _ in range(units)]

    assert [step.step for step in walk] == list(range(len(walk)))
    assert len(walk) == enter[-1] + steps == sum((units - 1) * stride + steps for units in runs)
    assert [unit for step in walk for unit in step.emits] == list(range(sum(runs)))

    moved: dict[int, list[int]] = {unit: [] for unit in range(sum(runs))}
    finished: list[int] = []
    for step in walk:
        live = [unit for unit, new in zip(step.reads, step.after, strict=True) if new is not None]
        context = [unit for unit, new in zip(step.reads, step.after, strict=True) if new is None]
        assert 1 <= len(live) <= window
        assert len({run_of[unit] for unit in step.reads}) == 1
        assert context == [unit for unit in finished[-1:] if run_of[unit] == run_of[live[0]]]
        assert step.reads == (*context, *live)
        assert list(step.before) == sorted(set(step.before))
        assert step.before[: len(context)] == (0,) * len(context)
        # Unit i hears of unit j > i only where enter(j) < enter(i) + S.
        assert enter[live[-1]] < enter[live[0]] + steps
        for unit, level in zip(step.reads, step.before, strict=True):
            if unit in live:
                moved[unit].append(level)
        finished.extend(step.emits)
    assert all(levels == list(range(steps, 0, -1)) for levels in moved.values())


@given(films)
def test_the_walk_up_to_a_cut_is_the_walk_of_the_film_that_ends_there(
    film: tuple[list[int], int, int],
) -> None:
    runs, window, stride = film
    walk = list(progressive(runs, window * stride, window))
    shorter = list(progressive(runs[:1], window * stride, window))
    assert walk[: len(shorter)] == shorter
