"""Which conditions a chunk, and a state, hang on."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from longvid.identities import Identities, identities
from longvid.plan import RenderPlan, plan
from longvid.starts import Start
from longvid.timeline import build
from tests.tiny import TinyBackend

BACKEND = TinyBackend()
BOAT = {"prompt": "a red boat", "seconds": 4}
SEA = {"prompt": "the sea", "seconds": 4}
CITY = {"prompt": "a city", "seconds": 4}


def planned(*shots: dict[str, object], **film: object) -> RenderPlan:
    """A film of 18 chunks, S = 8, K = 4: chunk i shares windows with i + 1 ... i + 3."""
    return plan(build({"seed": 7, **film, "shots": list(shots or (BOAT, SEA, CITY))}), BACKEND)


def named(of: RenderPlan, fingerprint: str = "f", dtype: str = "float32") -> Identities:
    return identities(of, BACKEND.geometry, fingerprint, dtype)


def with_seed(of: RenderPlan, changed: int) -> RenderPlan:
    units = list(of.units)
    units[changed] = replace(units[changed], seed=99)
    return replace(of, units=tuple(units))


def test_they_are_a_pure_function_of_the_plan() -> None:
    names = named(planned())
    assert names == named(planned())
    assert len({*names.latents, *names.chunks, names.film}) == 37
    assert (names.enter, names.end) == (tuple(range(0, 36, 2)), 42)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 16},
        {"window": 2},
        {"method": "replace"},
        {"size": [32, 32]},
        {"fps": 24},
        {"model_options": {"gain": 2}},
    ],
    ids=str,
)
def test_what_holds_for_all_of_the_film_is_in_every_one(change: dict[str, object]) -> None:
    before, after = named(planned()), named(planned(**change))
    assert before.film != after.film
    assert not set(before.latents) & set(after.latents)
    assert not {before.of_state(step) for step in range(43)} & {after.of_state(step) for step in range(43)}


@pytest.mark.parametrize(
    "change", [{"seed": 8}, {"style": "oil"}, {"negative": "blurry"}, {"guidance": 3}], ids=str
)
def test_what_holds_for_every_unit_is_in_every_chunk(change: dict[str, object]) -> None:
    before, after = named(planned()), named(planned(**change))
    assert before.film == after.film
    assert not set(before.conditions) & set(after.conditions)
    assert not set(before.latents) & set(after.latents)


@pytest.mark.parametrize("change", [{"fingerprint": "g"}, {"dtype": "bfloat16"}])
def test_the_weights_and_the_dtype_count(change: dict[str, str]) -> None:
    assert not set(named(planned()).latents) & set(named(planned(), **change).latents)


@pytest.mark.parametrize("output", [{"crf": 20}, {"scale": 2}], ids=str)
def test_the_file_s_settings_are_of_the_frames_alone(output: dict[str, int]) -> None:
    before, after = named(planned()), named(planned(output=output))
    assert before.latents == after.latents
    assert not set(before.chunks) & set(after.chunks)


def test_titles_are_of_nothing() -> None:
    assert named(planned({**BOAT, "title": "Boat"}, SEA, title="Two")) == named(planned(BOAT, SEA))


@pytest.mark.parametrize("changed", [0, 3, 4, 9, 17])
def test_a_change_counts_from_the_first_chunk_that_shares_a_window_with_it(changed: int) -> None:
    before, after = named(planned()), named(with_seed(planned(), changed))
    first = max(changed - 3, 0)
    assert before.latents[:first] == after.latents[:first]
    assert not set(before.latents[first:]) & set(after.latents[first:])


@pytest.mark.parametrize("changed", [0, 3, 4, 9, 17])
def test_a_change_counts_in_the_states_behind_its_entry(changed: int) -> None:
    """Unit i enters at 2 i; the state before that step knows nothing of it."""
    before, after = named(planned()), named(with_seed(planned(), changed))
    for step in range(43):
        assert (before.of_state(step) == after.of_state(step)) is (step <= 2 * changed), step


def test_states_differ_from_step_to_step() -> None:
    names = named(planned())
    assert len({names.of_state(step) for step in range(43)}) == 43
    assert [names.finished(step) for step in (0, 7, 8, 9, 10, 41, 42)] == [0, 0, 1, 1, 2, 17, 18]


def test_a_longer_film_keeps_all_but_its_last_window() -> None:
    short, long = named(planned(BOAT, SEA)), named(planned(BOAT, SEA, CITY))
    assert short.latents[: 12 - 3] == long.latents[: 12 - 3]
    assert not set(short.latents[12 - 3 :]) & set(long.latents)
    assert short.of_state(24) == long.of_state(24), "before unit 12 enters"
    assert short.of_state(25) != long.of_state(25)


def test_runs_share_no_window() -> None:
    one, other = (named(planned(BOAT, {**shot, "cut": True})) for shot in (SEA, CITY))
    assert one.latents[:6] == other.latents[:6]
    assert not set(one.latents[6:]) & set(other.latents[6:])


def test_a_trimmed_chunk_has_the_latents_of_a_whole_one() -> None:
    whole, trimmed = named(planned()), named(planned(BOAT, SEA, {**CITY, "seconds": "46f"}))
    assert whole.latents == trimmed.latents
    assert whole.chunks[:-1] == trimmed.chunks[:-1]
    assert whole.chunks[-1] != trimmed.chunks[-1]


def test_where_a_run_ends_is_of_its_last_chunk_s_frames() -> None:
    """With groups that share no window the latents are the same, but here the codec gives what it holds back.
    A film that goes on is told from one that ends, and from one that cuts."""
    film = {"method": "replace"}
    four = {"prompt": "a red boat", "seconds": Fraction(32, 12)}
    ends = named(planned(four, **film))
    goes_on = named(planned(four, SEA, **film))
    cuts = named(planned(four, {**SEA, "cut": True}, **film))
    assert ends.latents == goes_on.latents[:4] == cuts.latents[:4]
    assert ends.chunks == cuts.chunks[:4]
    assert ends.chunks[:3] == goes_on.chunks[:3]
    assert ends.chunks[3] != goes_on.chunks[3]


@pytest.mark.parametrize("method", ["replace-noised", "progressive", "progressive:overlap=2", "fifo"])
def test_what_is_given_counts_as_the_context_that_it_is(method: str) -> None:
    """A network sees it under its own prompt, and replacement with noise noises it by its own seed."""

    def started(**changed: object) -> Identities:
        made = planned(BOAT, SEA, method=method)
        units = tuple(replace(unit, **changed) if unit.index == 2 else unit for unit in made.units)
        return named(replace(made, units=units, start=Start(("a", "b", "c"))))

    one = started()
    for other in (started(seed=99), started(mix=((1, 1.0),))):
        assert one.latents[:3] == other.latents[:3] == ("a", "b", "c")
        assert not set(one.latents[3:]) & set(other.latents[3:])
        assert one.of_state(0) == other.of_state(0)
        assert not {one.of_state(step) for step in range(1, one.end + 1)} & {
            other.of_state(step) for step in range(1, one.end + 1)
        }


def test_a_run_knows_nothing_of_what_is_given_in_front_of_it() -> None:
    def started(seed: int) -> Identities:
        made = with_seed(planned(BOAT, {**SEA, "cut": True}), 0)
        units = tuple(replace(unit, seed=seed) if unit.index == 5 else unit for unit in made.units)
        return named(replace(made, units=units, start=Start(("a", "b", "c", "d", "e", "f"))))

    assert started(1).latents == started(2).latents
