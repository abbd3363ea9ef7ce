"""diorama's captions: what is composed is read back, in known words, and what is held out stays new."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import yaml

from longvid.backends.diorama import captions, phrases, world

ROOT = Path(__file__).parents[2]
SAID_OF_AN_OBJECT = ("count", "shape", "color", "motion")


def values(said: dict[str, str]) -> captions.Spec:
    """By their names."""
    known = {name: list(captions.VALUES[name]).index(value) for name, value in said.items()}
    return dict.fromkeys(captions.VALUES) | known


def ways(table: phrases.Phrases) -> dict[str, set[tuple[str, ...]]]:
    """The words of every phrase of the table, also of two and in a list, by attribute and value."""
    said: dict[str, set[tuple[str, ...]]] = {}
    for name, known in table.items():
        for value, group in known.items():
            forms = {form for p in group for form in (p, captions.bare(name, p), captions.plural(name, p))}
            said[f"{name} {value}"] = {tuple(captions.words(form)) for form in forms}
    return said


# Phrases


def test_every_value_has_phrases_to_learn_and_others_kept_back() -> None:
    least = {"scene": (12, 4), "time": (12, 4), "weather": (12, 4), "shape": (6, 2), "motion": (12, 2)}
    for name, known in captions.VALUES.items():
        assert list(known) == list(phrases.HELD_OUT[name])
        learnt, kept = least.get(name, (8, 2))
        for value, group in known.items():
            held_out = phrases.HELD_OUT[name][value]
            assert len(set(group)) == len(group) >= learnt, value
            assert len(set(held_out)) == len(held_out) >= kept, value


def test_a_phrase_names_one_value() -> None:
    meant: dict[tuple[str, ...], str] = {}
    for table in (captions.VALUES, phrases.HELD_OUT):
        for meaning, said in ways(table).items():
            for phrase in said:
                assert meant.setdefault(phrase, meaning) == meaning, phrase


def test_no_held_out_phrase_is_one_of_training() -> None:
    """Nor differs from one by its preposition alone."""
    learnt = set().union(*ways(captions.VALUES).values())
    assert learnt.isdisjoint(set().union(*ways(phrases.HELD_OUT).values()))


def test_held_out_phrases_are_of_words_that_their_values_training_phrases_hold() -> None:
    small = captions.SILENT | captions.PREPOSITIONS | {"just", "to"}
    learnt, held_out = ways(captions.VALUES), ways(phrases.HELD_OUT)
    for meaning, said in held_out.items():
        assert set().union(*said) <= set().union(*learnt[meaning]) | small, meaning
        assert set().union(*said) <= captions.WORD_IDS.keys()


def test_no_held_out_order_is_one_of_training() -> None:
    """Where all is said, training has an object's motion right behind it and the camera last."""
    for order in captions.HELD_OUT_ORDERS:
        assert sorted(order) == sorted([*captions.SURROUNDINGS, "object", "motion", "camera"])
        assert order.index("motion") != order.index("object") + 1 or order[-1] != "camera"


def test_what_is_said_of_two() -> None:
    assert captions.plural("shape", "sailing boat") == "sailing boats"
    assert captions.plural("motion", "floats to the left") == "float to the left"
    assert captions.plural("motion", "hovering in place") == "hovering in place"
    assert captions.plural("scene", "above the waves") == "above the waves"


def test_a_list_leaves_prepositions_out() -> None:
    assert captions.bare("scene", "over green hills") == "green hills"
    assert captions.bare("time", "early in the morning") == "early in the morning"
    assert captions.bare("weather", "in snow") == "snow"
    assert captions.bare("motion", "at rest") == "at rest"


# Captions


def test_what_a_caption_says_is_what_the_spec_holds_and_is_read_so() -> None:
    rng = np.random.default_rng(0)
    for compose in (captions.compose, captions.compose_held_out) * 600:
        spec = world.draw_spec(rng)
        text, said = compose(spec, rng)
        assert captions.stated(text) == said, text
        assert captions.unknown_words(text) == []
        assert all(value in (None, spec[name]) for name, value in said.items())
        if spec["shape"] is None:
            assert all(said[name] is None for name in SAID_OF_AN_OBJECT)
        else:
            assert said["shape"] is not None
        if spec["count"] == captions.TWO:
            assert said["count"] == captions.TWO


def test_a_few_words_are_read_as_they_were_composed() -> None:
    rng = np.random.default_rng(1)
    for _ in range(600):
        text, said = captions.fragment(rng)
        assert captions.stated(text) == said, text
        assert captions.unknown_words(text) == []


def test_training_speaks_by_its_phrases_and_what_is_held_out_by_others() -> None:
    rng = np.random.default_rng(4)
    for compose, table in (
        (captions.compose, captions.VALUES),
        (captions.compose_held_out, phrases.HELD_OUT),
    ):
        known = ways(table)
        for _ in range(300):
            text, said = compose(world.draw_spec(rng), rng)
            spoken = f" {' '.join(captions.words(text))} "
            for name, value in said.items():
                if value is None or (name, value) == ("count", captions.TWO):  # a plural says it too
                    continue
                group = known[f"{name} {list(captions.VALUES[name])[value]}"]
                assert any(f" {' '.join(phrase)} " in spoken for phrase in group), (text, name)


def test_one_goes_mostly_without_saying_and_two_never() -> None:
    rng = np.random.default_rng(2)
    spec = dict.fromkeys(captions.VALUES, 0)
    for compose in (captions.compose, captions.compose_held_out):
        said = [compose(spec, rng)[1]["count"] for _ in range(1000)]
        assert said.count(0) / 1000 == pytest.approx(1 - captions.QUIET["count", 0], abs=0.04)
        assert {compose(spec | {"count": captions.TWO}, rng)[1]["count"] for _ in range(200)} == {1}


def test_an_article_fits_the_word_behind_it() -> None:
    rng = np.random.default_rng(3)
    for compose in (captions.compose, captions.compose_held_out) * 500:
        text, _ = compose(world.draw_spec(rng), rng)
        for article, word in zip(text.split(), text.split()[1:], strict=False):
            vowel = word[0] in "aeio" or word.startswith(("ul", "ur"))
            assert article not in ("a", "an") or vowel == (article == "an"), text


def test_a_joined_phrase_names_its_value_and_is_none_that_is_held_out() -> None:
    rng = np.random.default_rng(5)
    held_out = set().union(*ways(phrases.HELD_OUT).values())
    for name, known in captions.VALUES.items():
        for value, group in enumerate(known.values()):
            joined = {captions.splice(name, value, rng) for _ in range(60)}
            assert (name in ("count", "shape")) == (joined <= set(group)), joined
            for phrase in joined:
                assert captions.stated(phrase) == dict.fromkeys(captions.VALUES) | {name: value}, phrase
                assert tuple(captions.words(phrase)) not in held_out
                assert set(captions.words(phrase)) <= captions.WORD_IDS.keys()


# Prompts of a person's own


def test_unknown_words_are_named_once_in_order() -> None:
    assert captions.unknown_words("A red zeppelin, over the SEA; a zeppelin at warp") == ["zeppelin", "warp"]
    assert captions.unknown_words("") == []
    prompt = "2 red boats “at sea” — 日本, Straße… 🦄!"
    assert captions.unknown_words(prompt) == ["2", "日本", "straße", "🦄"]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("", {}),
        ("A RED boat, on the Sea!", {"shape": "boat", "color": "red", "scene": "sea"}),
        ("boat over blue waves", {"shape": "boat", "scene": "sea"}),
        ("a blue boat over the waves", {"shape": "boat", "color": "blue", "scene": "sea"}),
        ("a kite not moving", {"shape": "kite", "motion": "still"}),
        ("a moving kite, hand-painted, soft light", {"shape": "kite"}),
        ("a city, dark rainy night", {"scene": "city", "time": "night"}),
        ("a boat and a kite, both red", {"color": "red"}),
        ("the sea by day, or at night", {"scene": "sea"}),
        ("balloons drifting left", {"shape": "balloon", "count": "two", "motion": "left"}),
        ("a pair of kites in the mist", {"shape": "kite", "count": "two", "weather": "fog"}),
        ("twin stars", {"shape": "star", "count": "two"}),
        ("a pair, high above the alps", {"count": "two", "scene": "mountains"}),
        ("a lone gull", {"shape": "bird", "count": "one"}),
        ("a dark red balloon goes left", {"shape": "balloon", "color": "red", "motion": "left"}),
        ("a golden ufo over golden dunes", {"shape": "saucer", "color": "yellow", "scene": "desert"}),
        ("green hills, evening light", {"scene": "hills", "time": "sunset"}),
        ("the forest as day turns to night", {"scene": "forest", "time": "passing"}),
        ("a time lapse, slow pan", {"time": "passing", "camera": "right"}),
        ("the camera slowly pans to the left", {"camera": "left"}),
        ("a kite moving to the left", {"shape": "kite", "motion": "left"}),
        ("a kite drifting to the right", {"shape": "kite", "motion": "right"}),
        ("still camera, a kite drifts right", {"camera": "static", "shape": "kite", "motion": "right"}),
    ],
)
def test_a_prompt_of_a_persons_own_states_what_its_words_mean_alone(
    prompt: str, said: dict[str, str]
) -> None:
    assert captions.stated(prompt) == values(said)


def test_prompts_that_name_each_value_by_its_name_state_it() -> None:
    """Where the name is a word of its own."""
    for name in ("scene", "shape", "color", "weather"):
        for value in captions.VALUES[name]:
            if value != "clear":
                assert captions.stated(f"something like {value}") == values({name: value})


def prompts(told: object) -> Iterator[str]:
    """All of a timeline or suite."""
    if isinstance(told, str):
        yield told
    elif isinstance(told, list):
        yield from chain.from_iterable(map(prompts, told))
    elif isinstance(told, dict):
        yield from chain.from_iterable(
            prompts(told[key]) for key in ("prompts", "shots", "prompt") if key in told
        )


def test_dioramas_timelines_state_where_what_and_in_which_colour() -> None:
    paths = [path for path in (ROOT / "timelines").rglob("*.yaml") if "opensora" not in path.name]
    told = [prompt for path in paths for prompt in prompts(yaml.safe_load(path.read_text("utf-8")))]
    assert len(told) > 40
    for prompt in told:
        assert captions.unknown_words(prompt) == []
        said = captions.stated(prompt)
        assert None not in [said[name] for name in ("scene", "shape", "color", "motion")], prompt


def test_the_number_of_values_by_attribute() -> None:
    sizes = {name: len(known) for name, known in captions.VALUES.items()}
    assert list(sizes) == ["scene", "time", "weather", "count", "shape", "color", "motion", "camera"]
    assert list(sizes.values()) == [6, 5, 4, 2, 6, 6, 4, 3]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("«Boat»… ¡at sea! · “now” — gone", ["boat", "at", "sea", "now", "gone"]),
        ("\u2764\ufe0f a boat\u200b", ["\u2764", "a", "boat"]),
        ("cafe\u0301", ["caf\u00e9"]),
        ("夜の海 100%", ["夜の海", "100"]),
    ],
)
def test_words_are_what_is_read_and_not_punctuation_or_marks_unseen(prompt: str, said: list[str]) -> None:
    assert captions.words(prompt) == said


def test_of_two_nothing_is_said_in_the_singular() -> None:
    rng = np.random.default_rng(0)
    shapes = [f"{shape}s" for phrases in captions.VALUES["shape"].values() for shape in phrases]
    wrong = re.compile(rf"\b(an?|an?,) ({'|'.join(shapes)})\b")
    assert wrong.search("a, balloons, two, at sunrise")
    for _ in range(5000):
        text, _ = captions.fragment(rng)
        assert not wrong.search(text), text
