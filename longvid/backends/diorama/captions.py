"""Captions of diorama's world, composed from what is shown and read back.

A caption names some of the attributes in any order; what it leaves out is mostly clear weather, a camera at
rest, a single object and, if no object is named, none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

from longvid.backends.diorama import phrases

if TYPE_CHECKING:
    import numpy as np

Spec = dict[str, int | None]
"""Attribute -> index into its values; None where it has none (an object's colour where there is none)."""

VALUES = phrases.VALUES
"""Attribute -> value -> its phrases, in the order of its indices."""
TWO = list(VALUES["count"]).index("two")

ARTICLES = ("a", "a", "a", "a", "the", "")
ADJECTIVES = ("", "", "", "big", "large", "bright")
FILLERS = (
    "slowly", "gently", "quietly", "softly", "peacefully", "there is", "there are", "we see", "a view of",
    "a picture of", "a film of", "and then", "and", "later", "now", "with", "its", "their", "of", "is", "are",
)  # fmt: skip
LEFT_OUT = {
    "scene": 0.08,
    "time": 0.08,
    "weather": 0.05,
    "count": 0.15,
    "color": 0.06,
    "motion": 0.2,
    "camera": 0.1,
}
"""How often a caption leaves an attribute out; what goes without saying more often (QUIET)."""
QUIET = {("weather", 0): 0.5, ("count", 0): 0.8, ("camera", 0): 0.75}
TERSE = 0.15
"""How often a caption is a list: "a red kite, green hills, a rainy day"."""

SURROUNDINGS = ("scene", "time", "weather")
PREPOSITIONS = frozenset((
    "above", "across", "along", "among", "around", "as", "at", "between", "by", "during", "in", "near", "on",
    "over", "through", "under", "while", "with",
))  # fmt: skip
HELD_OUT_ORDERS = (
    ("time", "scene", "motion", "object", "weather", "camera"),
    ("camera", "object", "time", "scene", "motion", "weather"),
    ("scene", "object", "weather", "motion", "time", "camera"),
    ("weather", "camera", "scene", "object", "time", "motion"),
    ("motion", "time", "object", "scene", "weather", "camera"),
    ("camera", "weather", "time", "scene", "motion", "object"),
)
"""Of captions that are kept from training, whose own never part an object from its motion."""
HELD_OUT_OPENINGS = ("", "", "there is", "we see", "now there is")


def compose(spec: Spec, rng: np.random.Generator) -> tuple[str, Spec]:
    """A random caption of the spec, and what it names: None where an attribute was left out."""
    spoken, said = _spoken(spec, VALUES, rng)
    terse = rng.random() < TERSE
    rest = [bare(name, spoken[name]) if terse else spoken[name] for name in SURROUNDINGS]
    rng.shuffle(rest)
    head = " ".join((_opening(spoken, said, rng), spoken["color"], spoken["shape"], spoken["motion"]))
    parts = [head, *rest, spoken["camera"]]
    if rng.random() < 0.15:
        parts = [*rest, head, spoken["camera"]]
    if rng.random() < 0.25:
        parts.insert(int(rng.integers(len(parts))), _one(FILLERS, rng))
    return _sentence(parts, ", " if terse or rng.random() < 0.4 else " "), said


def compose_held_out(spec: Spec, rng: np.random.Generator) -> tuple[str, Spec]:
    """As `compose`, by phrases and in orders that it never uses, of words that it does."""
    spoken, said = _spoken(spec, phrases.HELD_OUT, rng)
    parts = dict(spoken)
    color = spoken["color"]
    before, behind = (color, "") if rng.random() < 0.6 else ("", f"in {color}" if color else "")
    parts["object"] = ""
    if spoken["shape"]:
        opening = _one(HELD_OUT_OPENINGS, rng)
        if said["count"] == TWO:
            opening = opening.replace("is", "are")
        parts["object"] = " ".join((opening, _opening(spoken, said, rng), before, spoken["shape"], behind))
    order = HELD_OUT_ORDERS[rng.integers(len(HELD_OUT_ORDERS))]
    return _sentence([parts[name] for name in order], ", " if rng.random() < 0.4 else " "), said


def fragment(rng: np.random.Generator, spliced: float = 0.0) -> tuple[str, Spec]:
    """A prompt of a few words that names some attributes in any order, or none.

    ``spliced``: how often a phrase is one that no table holds (`splice`), so that an encoder learns what its
    words say and not the phrase by heart. `stated` need not know those.
    """
    names = rng.permutation(list(VALUES))[: rng.choice(6, p=[0.15, 0.25, 0.2, 0.15, 0.15, 0.1])].tolist()
    said: Spec = dict.fromkeys(VALUES)
    for name in names:
        said[name] = int(rng.integers(len(VALUES[name])))
    if "shape" in names and rng.random() < 0.3:
        said["count"] = TWO
    articles = _articles(said) if names and names[0] in ("shape", "color") else ()
    parts = [_one((*articles, *FILLERS), rng)] if rng.random() < 0.5 else []
    for name in names:
        value = said[name]
        assert value is not None
        phrase = splice(name, value, rng) if rng.random() < spliced else _one(_of(VALUES, name, value), rng)
        if said["count"] == TWO:
            phrase = plural(name, phrase)
        parts.append(bare(name, phrase) if rng.random() < 0.4 else phrase)
    return _sentence(parts, ", " if rng.random() < 0.4 else " "), said


def splice(name: str, value: int, rng: np.random.Generator) -> str:
    """How a phrase of the attribute begins, and one of the value ends: "over snowy dunes". Or the latter
    whole, where that would be held out or not say as much, or no word may be spared ("a pair of")."""
    whole = _one(_of(VALUES, name, value), rng)
    if name in ("count", "shape"):
        return whole
    begin = _one(_of(VALUES, name, int(rng.integers(len(VALUES[name])))), rng).split()
    end = whole.split()
    phrase = " ".join([*begin[: int(rng.integers(len(begin)))], *end[int(rng.integers(len(end))) :]])
    named = {attribute: said for attribute, said in stated(phrase).items() if said is not None}
    held_out = tuple(words(bare(name, plural(name, phrase)))) in _held_out()
    return whole if held_out or named != {name: value} else phrase


def bare(name: str, phrase: str) -> str:
    """What a list says of a surrounding: "green hills" for "over green hills"."""
    first, _, rest = phrase.partition(" ")
    return rest if name in SURROUNDINGS and first in PREPOSITIONS else phrase


def plural(name: str, phrase: str) -> str:
    """What is said of two: "kites" for "kite", and "float to the left" for "floats to the left"."""
    if name == "shape":
        return f"{phrase}s"
    if name == "motion":
        verb, space, rest = phrase.partition(" ")
        return (verb if verb.endswith("ss") else verb.removesuffix("s")) + space + rest
    return phrase


def _spoken(spec: Spec, table: phrases.Phrases, rng: np.random.Generator) -> tuple[dict[str, str], Spec]:
    """A phrase of the table for each attribute, "" for what is left out; and what they say together."""
    spoken, said = dict.fromkeys(VALUES, ""), dict[str, int | None].fromkeys(VALUES)
    for name in VALUES:
        value = spec[name]
        if value is None or rng.random() < QUIET.get((name, value), LEFT_OUT.get(name, 0.0)):
            continue
        phrase = _one(_of(table, name, value), rng)
        spoken[name] = plural(name, phrase) if spec["count"] == TWO else phrase
        said[name] = value
    if spec["count"] == TWO:
        said["count"] = TWO  # by the plural, where no word of its own says it
    return spoken, said


def _opening(spoken: dict[str, str], said: Spec, rng: np.random.Generator) -> str:
    """What stands before an object's colour; nothing where there is no object."""
    if not spoken["shape"]:
        return ""
    return f"{spoken['count'] or _one(_articles(said), rng)} {_one(ADJECTIVES, rng)}"


def _articles(said: Spec) -> tuple[str, ...]:
    return ("the", "", "") if said["count"] == TWO else ARTICLES


def _of(table: phrases.Phrases, name: str, value: int) -> Sequence[str]:
    return tuple(table[name].values())[value]


def _one(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _sentence(parts: Sequence[str], separator: str) -> str:
    """The parts that are not empty, with "an" where it is said."""
    text = separator.join(" ".join(part.split()) for part in parts if part.strip())
    return re.sub(r"\ba (?=[aeio]|u[lr])", "an ", text)


WORD = re.compile(r"[^\W_]+|[^\w\s!-/:-@\[-`{-~\u2010-\u2027\u3000-\u303f]")
"""Letters and digits of any script; or one sign."""


def words(text: str) -> list[str]:
    """Lower-case words of a prompt, and signs such as an emoji; no punctuation, nothing that is not seen."""
    found = WORD.findall(unicodedata.normalize("NFC", text).lower())
    return [word for word in found if unicodedata.category(word[0])[0] not in "MPC"]


def _named(table: phrases.Phrases) -> Iterator[tuple[tuple[str, ...], dict[str, int]]]:
    """The words of every phrase, as it stands, of two and in a list; and the values that they name."""
    for name, values in table.items():
        for value, group in enumerate(values.values()):
            for phrase in group:
                yield tuple(words(phrase)), {name: value}
                yield tuple(words(bare(name, phrase))), {name: value}
                if (of_two := plural(name, phrase)) != phrase:
                    number = {"count": TWO} if name == "shape" else {}
                    yield tuple(words(of_two)), {name: value, **number}


SILENT = frozenset(word for said in (*ARTICLES, "an", *ADJECTIVES, *FILLERS) for word in words(said))
"""Words that name nothing alone."""
WORD_IDS = {word: i for i, word in enumerate(sorted(SILENT.union(*(said for said, _ in _named(VALUES)))), 1)}
"""Word -> id from 1; 0 is padding. A word outside is named to the user and not read."""


def unknown_words(prompt: str) -> list[str]:
    """Words that no caption holds, in order, each once."""
    return list(dict.fromkeys(w for w in words(prompt) if w not in WORD_IDS))


def stated(prompt: str) -> Spec:
    """What a prompt asks for: the value of each attribute, None where it names none, or several.

    Read by the longest phrase that stands at a place; else by an end of phrases of one value that is in no
    other's, such as "sea" or "evening light". Order, style and unknown words do not matter. Two are of one
    shape: where several are named, their number is not.
    """
    said, named = words(prompt), {name: set[int]() for name in VALUES}
    meanings, longest = _meanings()
    first = 0
    while first < len(said):
        lengths = range(min(longest, len(said) - first), 0, -1)
        found = next((n for n in lengths if tuple(said[first : first + n]) in meanings), 0)
        for name, value in meanings.get(tuple(said[first : first + found]), {}).items():
            named[name].add(value)
        first += found or 1
    if len(named["shape"]) > 1:
        named["count"].clear()
    return {name: next(iter(values)) if len(values) == 1 else None for name, values in named.items()}


@cache
def _held_out() -> frozenset[tuple[str, ...]]:
    return frozenset(said for said, _ in _named(phrases.HELD_OUT))


@cache
def _meanings() -> tuple[dict[tuple[str, ...], dict[str, int]], int]:
    """What every phrase names, by its words, and what ends of phrases name that tell as much alone; and how
    many words the longest has."""
    whole = dict((*_named(VALUES), *_named(phrases.HELD_OUT)))
    meant: dict[tuple[str, ...], list[dict[str, int]]] = {}
    for phrase, meaning in whole.items():
        for first in range(len(phrase)):
            for end in range(first + 1, len(phrase) + 1):
                others = meant.setdefault(phrase[first:end], [])
                if meaning not in others:
                    others.append(meaning)
    ends = {}
    for phrase, meaning in whole.items():
        told = phrase
        while told[-1] in SILENT:  # "a pair of"
            told = told[:-1]
        for first in range(len(told)):
            if len(meant[told[first:]]) == 1 and told[first] not in SILENT:
                ends[told[first:]] = meaning
    meanings = dict(_named(phrases.ALONE)) | ends | whole
    return meanings, max(map(len, meanings))
