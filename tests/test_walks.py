"""A film's way through the window, by each method and its options: written out, and against literal loops."""

from __future__ import annotations

import pytest

from longvid.errors import UserError
from longvid.walks import KINDS, Method, Walk, read


def walk(method: str, runs: tuple[int, ...], steps: int, window: int, latents: int = 1, **there: int) -> Walk:
    return Walk(read(method), runs, steps, window, latents, **there)


def levels(made: Walk) -> list[dict[int, tuple[int, int | None]]]:
    """Of each step, the units that it reads with their levels before and after."""
    return [
        dict(zip(step.reads, zip(step.before, step.after, strict=True), strict=True))
        for step in made.steps_in_order()
    ]


# As it is written


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("progressive", Method()),
        ("progressive: overlap=0 , chunk=1", Method(overlap=0, chunk=1)),
        ("progressive:ending=discard", Method(ending="discard")),
        ("progressive:overlap=1", Method()),
        ("replace-noised:overlap=2", Method("replace-noised", overlap=2)),
        ("fifo:lookahead=false,partitions=4", Method("fifo", lookahead=False, partitions=4)),
        ("chained", Method("chained")),
    ],
)
def test_a_method_is_read_with_its_options_and_written_the_same(text: str, method: Method) -> None:
    assert read(text) == method
    assert read(str(method)) == method


def test_what_is_at_its_default_is_not_written() -> None:
    assert str(read("progressive:overlap=1,ending=drain")) == "progressive"
    assert str(read("fifo:lookahead=false")) == "fifo:lookahead=false"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("progresive", "no method 'progresive'; did you mean progressive?"),
        ("magic", "no method 'magic'; there is: progressive, replace, replace-noised, fifo, chained"),
        ("replace:chunk=1", "replace has no option 'chunk'; it takes overlap"),
        ("chained:overlap=2", "chained has no option 'overlap'; it takes none"),
        ("progressive:overlap=0,overlap=1", "progressive: overlap is there twice; keep one"),
        ("progressive:overlap", "progressive: overlap has no value; write overlap=..."),
        ("progressive:overlap=-1", "progressive: overlap=-1 is not a number of chunks, 0 to 8"),
        ("progressive:chunk=2", "progressive: chunk=2 is not 1, or left out for the model's own"),
        ("progressive:ending=fade", "progressive: ending=fade is not drain or discard"),
        ("fifo:lookahead=maybe", "fifo: lookahead=maybe is not true or false"),
        ("fifo:partitions=0", "fifo: partitions=0 is not a number of partitions, at least 1"),
    ],
)
def test_a_wrong_one_is_one_clause(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read(text)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (walk("progressive:ending=discard", (3, 2), 4, 2), "ending=discard is for films without cuts"),
        (
            walk("progressive:chunk=1", (3,), 8, 2, latents=3),
            "8 steps are no multiple of the window's 6 latents; nearest: 6 or 12",
        ),
        (walk("fifo", (3,), 5, 1), "fifo: 5 steps cannot be 1 partitions of evenly many latents; try even"),
        (
            walk("fifo:partitions=3", (3,), 8, 1),
            "fifo: 8 steps cannot be 3 partitions of evenly many latents; try 1, 2, 4",
        ),
    ],
)
def test_what_a_method_cannot_make_is_one_clause(made: Walk, message: str) -> None:
    with pytest.raises(UserError) as error:
        made.check()
    assert str(error.value).startswith(message)


# Each method, written out


def test_noised_context_is_shown_at_the_group_s_level() -> None:
    assert levels(walk("replace-noised", (3,), 2, 2)) == [
        {0: (2, 1), 1: (2, 1)},
        {0: (1, 0), 1: (1, 0)},
        {1: (2, None), 2: (2, 1)},
        {1: (1, None), 2: (1, 0)},
    ]


def test_chained_clips_go_on_from_one_latent() -> None:
    made = walk("chained", (3,), 2, 2, latents=2)
    assert levels(made) == [
        {unit: (2, 1) for unit in range(4)},
        {unit: (1, 0) for unit in range(4)},
        {3: (0, None), 4: (2, 1), 5: (2, 1)},
        {3: (0, None), 4: (1, 0), 5: (1, 0)},
    ]
    assert (made.enter, made.leave) == ((0, 0, 2), (2, 2, 4))
    assert (made.parts, made.unit_latents, made.context_chunks) == (2, 1, 1)


def test_latents_may_move_one_by_one() -> None:
    made = walk("progressive:chunk=1,overlap=0", (2,), 4, 1, latents=2)
    assert levels(made) == [
        {0: (4, 3)},
        {0: (3, 2)},
        {0: (2, 1), 1: (4, 3)},
        {0: (1, 0), 1: (3, 2)},
        {1: (2, 1), 2: (4, 3)},
        {1: (1, 0), 2: (3, 2)},
        {2: (2, 1), 3: (4, 3)},
        {2: (1, 0), 3: (3, 2)},
        {3: (2, 1)},
        {3: (1, 0)},
    ]
    assert (made.enter, made.leave) == ((0, 4), (6, 10))


def test_a_full_window_to_the_end_costs_no_evaluation_more() -> None:
    drained, full = walk("progressive", (3,), 4, 2), walk("progressive:ending=discard", (3,), 4, 2)
    assert len(levels(full)) == len(levels(drained))
    assert [len(step) for step in levels(drained)[-4:]] == [3, 3, 2, 2]
    assert levels(full)[-2:] == [{1: (0, None), 2: (2, 1), 3: (4, 3)}, {1: (0, None), 2: (1, 0), 3: (3, 2)}]
    assert (full.enter, full.leave) == (drained.enter, drained.leave)
    assert [full.chunk(unit) for unit in range(full.units)] == [0, 1, 2, 2]


def test_without_overlap_nothing_clean_is_shown() -> None:
    for step in walk("progressive:overlap=0", (5,), 4, 2).steps_in_order():
        assert None not in step.after
    shown = [step.after.count(None) for step in walk("progressive:overlap=2", (5,), 4, 2).steps_in_order()]
    assert shown == [0] * 4 + [1] * 2 + [2] * 6


# FIFO


def test_fifo_s_worked_case() -> None:
    """f = 4, n = 2: 5 6 7 8 -> 7 8; 3 4 5 6 -> 5 6; 1 2 3 4 -> 3 4; 0 0 1 2 -> 1 2."""
    made = walk("fifo:partitions=2", (6,), 8, 1, latents=4)
    # The diagonal in which the queue is full, behind two that are finished: units 2 to 9.
    full = next(step for step in made.steps_in_order() if 9 in step.reads).step
    steps = [step for step in made.steps_in_order() if full <= step.step < full + 4]
    assert [step.before for step in steps] == [(5, 6, 7, 8), (3, 4, 5, 6), (1, 2, 3, 4), (0, 0, 1, 2)]
    assert [step.reads[0] for step in steps] == [6, 4, 2, 0]
    assert [step.after for step in steps] == [
        (None, None, 6, 7),
        (None, None, 4, 5),
        (None, None, 2, 3),
        (None, None, 0, 1),
    ]
    assert [step.emits for step in steps] == [(), (), (), (2,)]


@pytest.mark.parametrize("lookahead", [True, False])
@pytest.mark.parametrize(("runs", "n", "f"), [((3,), 2, 4), ((2, 1, 3), 1, 4), ((4,), 3, 2)])
def test_fifo_is_its_literal_loop(runs: tuple[int, ...], n: int, f: int, lookahead: bool) -> None:
    """A queue that is worked on in place: what each call reads and moves, and what falls out in front."""
    latents, depth = 2, n * f
    expected: list[dict[int, tuple[int, int | None]]] = []
    first = 0
    for chunks in runs:
        waiting = list(range(first, first + chunks * latents))
        done: list[int] = []
        queue: list[int | None] = [None] * depth
        while waiting or any(unit is not None for unit in queue):
            queue = [*queue[1:], waiting.pop(0) if waiting else None]
            if lookahead:
                # In front of the queue stand the last f / 2 that are finished.
                front = ([None] * (f // 2) + done)[-(f // 2) :]
                line: list[int | None] = [*front, *queue]
                blocks = [(start, start + f // 2, start + f) for start in range(0, depth, f // 2)]
                offset = f // 2
            else:
                line, offset = list(queue), 0
                blocks = [(start, start, start + f) for start in range(0, depth, f)]
            for begin, moved, end in reversed(blocks):
                call = {}
                for place in range(begin, end):
                    unit = line[place]
                    if unit is not None:
                        level = max(place - offset + 1, 0)
                        call[unit] = (level, level - 1 if place >= moved else None)
                if any(after is not None for _, after in call.values()):
                    expected.append(call)
            if queue[0] is not None:
                done.append(queue[0])
            queue[0] = None
        first += chunks * latents
    made = walk(f"fifo:partitions={n},lookahead={str(lookahead).lower()}", runs, depth, 1, latents=latents)
    assert levels(made) == expected
    assert [step.step for step in made.steps_in_order()] == list(range(len(expected)))


def test_fifo_goes_on_behind_what_is_given() -> None:
    """f = 4, n = 1: two clean latents stand in front of the first new ones, till two of those are done."""
    made = walk("fifo:partitions=1", (4,), 4, 1, latents=2, given=2)
    assert made.context_chunks == 1
    assert levels(made)[:6] == [
        {2: (0, None), 3: (0, None), 4: (4, 3)},
        {2: (0, None), 3: (0, None), 4: (3, 2), 5: (4, 3)},
        {3: (0, None), 4: (2, None), 5: (3, 2), 6: (4, 3)},
        {2: (0, None), 3: (0, None), 4: (2, 1)},
        {4: (1, None), 5: (2, None), 6: (3, 2), 7: (4, 3)},
        {2: (0, None), 3: (0, None), 4: (1, 0), 5: (2, 1)},
    ]
    assert (made.enter, made.leave[:2]) == ((-4, -4, 0, 2), (0, 0))


def test_fifo_costs_two_calls_a_partition_and_latent() -> None:
    for n in (1, 2, 4):
        one, more = (
            len(levels(walk(f"fifo:partitions={n}", (runs,), 16, 4, latents=4))) for runs in (40, 41)
        )
        assert more - one == 2 * n * 4
    assert walk("fifo", (9,), 16, 4, latents=4).partitions == 1
    assert walk("fifo", (9,), 30, 3, latents=5).partitions == 3
    assert walk("fifo", (9,), 60, 3, latents=5).partitions == 5
    assert walk("fifo", (9,), 16, 4, latents=4).context_chunks == 2


def test_every_chunk_enters_and_leaves_where_its_units_do() -> None:
    for name in KINDS:
        made = walk(name, (3, 2), 4, 2, latents=2)
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for step in made.steps_in_order():
            for unit in step.reads:
                first.setdefault(made.chunk(unit), step.step)
            for unit in step.emits:
                last[made.chunk(unit)] = step.step + 1
        assert made.enter == tuple(first[chunk] for chunk in range(5))
        assert made.leave == tuple(last[chunk] for chunk in range(5))
        assert made.enter[3] >= made.leave[2], "runs never share a window"


@pytest.mark.parametrize("lookahead", [True, False])
@pytest.mark.parametrize(("runs", "given"), [((5,), 0), ((5,), 2), ((2, 1, 3), 0), ((2, 3), 2), ((2, 3), 3)])
def test_when_fifo_s_chunks_enter_is_known_without_a_walk(
    runs: tuple[int, ...], given: int, lookahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A film of hours is half a million calls."""
    made = walk(f"fifo:partitions=2,lookahead={str(lookahead).lower()}", runs, 8, 1, latents=2, given=given)
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for step in made.steps_in_order():
        for unit in step.reads:
            first.setdefault(made.chunk(unit), step.step)
        last.update((made.chunk(unit), step.step + 1) for unit in step.emits)

    def walked(self: Walk) -> None:
        raise AssertionError("it was walked")

    monkeypatch.setattr(Walk, "steps_in_order", walked)
    new = range(given, sum(runs))
    assert made.enter == (-8,) * given + tuple(first[chunk] for chunk in new)
    assert made.leave == (0,) * given + tuple(last[chunk] for chunk in new)
