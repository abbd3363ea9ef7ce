# ruff: noqa: E501 (a table of examples reads by the line)
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longvid.document import parse
from longvid.schedules.manuscript import written
from longvid.spans import spans
from longvid.timeline import build
from longvid.times import Time


def frames(count: int) -> Time:
    return Time(Fraction(count), in_frames=True)


def read(data: dict[str, Any]) -> str:
    """What is written, once it is known to read back as what it was written from."""
    text = written(data, [])
    found, wanted = build(*parse(text)), build(data)
    assert [shot.prompt for shot in found.shots] == [shot.prompt for shot in wanted.shots]
    assert found.fps == wanted.fps
    rate = found.fps or Fraction(24)
    assert spans(found, rate) == spans(wanted, rate)
    return text


LONG = (
    "a red boat with a white sail on a calm sea: dawn, # soft light, and far behind it the harbour - asleep"
)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a red boat", "a red boat"),
        ("no", "no"),
        ("12", '"12"'),
        ("true", '"true"'),
        ("a boat: red", '"a boat: red"'),
        ("a boat # red", '"a boat # red"'),
        ("- a boat", '"- a boat"'),
        ('"a boat"', '"\\"a boat\\""'),
        ("a boat's \\ sail", "a boat's \\ sail"),
        ("[a boat]", '"[a boat]"'),
        ("*boat", '"*boat"'),
        ("ein Boot im Sturm, größer 🌊", "ein Boot im Sturm, größer 🌊"),
    ],
)
def test_a_prompt_is_in_quotes_where_it_must_be(prompt: str, text: str) -> None:
    assert read({"shots": [{"prompt": prompt, "seconds": 2}]}) == (
        f"shots:\n  - prompt: {text}\n    seconds: 2\n"
    )


def test_a_long_prompt_is_folded() -> None:
    text = written({"shots": [{"prompt": LONG, "seconds": 2}]}, [])
    assert text == (
        "shots:\n"
        "  - prompt: >-\n"
        "      a red boat with a white sail on a calm sea: dawn, # soft light, and far behind it the harbour\n"
        "      - asleep\n"
        "    seconds: 2\n"
    )
    assert build(*parse(text)).shots[0].prompt == LONG


def test_frames_become_seconds_where_all_of_them_are_short() -> None:
    shots = [{"at": frames(0), "prompt": "a"}, {"at": frames(30), "prompt": "b", "until": frames(45)}]
    assert read({"fps": Fraction(12), "shots": shots}) == (
        "fps: 12\n\nshots:\n  - at: 0\n    prompt: a\n\n"
        "  - at: 2.5                # frame 30\n    prompt: b\n    until: 3.75            # frame 45\n"
    )
    shots[1]["at"] = frames(31)
    assert "at: 31f\n" in read({"fps": Fraction(12), "shots": shots})
    assert read({"fps": Fraction(30000, 1001), "shots": shots}).startswith("fps: 30000/1001\n")
    assert read({"fps": Fraction("23.976"), "shots": shots}).startswith("fps: 23.976\n")


def test_comments_are_one_line_each() -> None:
    text = written({"shots": [{"prompt": "a", "seconds": 2}]}, ["one\ntwo", "x " * 80])
    assert text.splitlines()[0] == "# one?two"
    assert all(line.startswith("#") for line in text.split("\n\n")[0].splitlines())


words = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Cn", "Co"], exclude_characters="\ufffe\uffff\ufeff"),
    min_size=1,
    max_size=200,
).filter(lambda text: bool(text.strip()))


@given(words, words, words, st.fractions(0, 1000, max_denominator=1000))
def test_any_words_read_back(prompt: str, negative: str, style: str, seconds: Fraction) -> None:
    shot = {
        "prompt": " ".join(prompt.split()),
        "negative": " ".join(negative.split()),
        "seconds": Time(seconds),
    }
    data = {"style": " ".join(style.split()), "shots": [shot]}
    film = build(*parse(written(data, [prompt])))
    assert (film.shots[0].prompt, film.shots[0].negative, film.style) == (
        shot["prompt"],
        shot["negative"],
        data["style"],
    )
    assert film.shots[0].seconds is not None
    assert abs(film.shots[0].seconds.amount - seconds) <= Fraction(1, 10**9)
