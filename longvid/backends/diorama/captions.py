"""What diorama's world can be asked for, and the words for it.

Each attribute has values, each value its phrases. A caption names some of the attributes in any order; what
it leaves out is mostly clear weather, a camera at rest and, if no object is named, none.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

Spec = dict[str, int | None]
"""Attribute -> index into its values; None where it has none (an object's colour where there is none)."""

VALUES: dict[str, dict[str, tuple[str, ...]]] = {
    "scene": {
        "sea": (
            "over the sea", "on the ocean", "over blue waves", "on a calm sea", "by the sea", "at sea",
            "over open water", "on the water", "above the waves", "along the coast", "across the ocean",
        ),
        "hills": (
            "over green hills", "in the hills", "over a meadow", "above rolling hills", "in a green valley",
            "over the countryside", "above the fields", "over grassland", "in the mountains",
            "across a meadow",
        ),
        "desert": (
            "over the desert", "above sand dunes", "in the desert", "over golden dunes", "across the sand",
            "in a sandy desert", "among dunes",
        ),
        "city": (
            "over a city", "above the city skyline", "in town", "over the rooftops", "above the buildings",
            "over downtown", "above tall towers", "in the city", "through the streets",
            "over an urban skyline",
        ),
    },
    "time": {
        "day": (
            "during the day", "in daylight", "at noon", "by day", "at midday", "in bright sunshine",
            "on a sunny afternoon", "under the midday sun",
        ),
        "sunset": (
            "at sunset", "at dusk", "in the evening", "in the evening light", "as the sun sets",
            "at twilight",
        ),
        "night": ("at night", "at midnight", "in moonlight", "under the moon", "on a dark night", "by night"),
        "dawn": (
            "at dawn", "at sunrise", "in the early morning", "at first light", "as the sun rises",
            "at daybreak",
        ),
    },
    "weather": {
        "clear": ("in clear weather", "under a clear sky", "in fine weather", "with clear skies"),
        "rain": (
            "in the rain", "while it rains", "in a storm", "in heavy rain", "on a rainy day", "in a downpour",
            "as rain falls", "in stormy weather",
        ),
        "snow": (
            "in the snow", "while it snows", "in snowfall", "as snow falls", "in a blizzard",
            "in snowy weather",
        ),
    },
    "shape": {
        "balloon": ("balloon", "hot air balloon"),
        "boat": ("boat", "sailboat", "ship", "sailing boat", "yacht"),
        "star": ("star", "five-pointed star"),
        "kite": ("kite", "diamond", "paper kite"),
    },
    "color": {
        "red": ("red", "crimson", "scarlet"),
        "yellow": ("yellow", "lemon", "gold"),
        "green": ("green", "emerald"),
        "blue": ("blue", "azure"),
        "purple": ("purple", "violet"),
        "white": ("white", "pale"),
    },
    "motion": {
        "left": (
            "drifting left", "moving left", "flying to the left", "heading left", "gliding leftwards",
            "floats to the left",
        ),
        "right": (
            "drifting right", "moving right", "flying to the right", "heading right", "gliding rightwards",
            "floats to the right",
        ),
        "bouncing": (
            "bouncing", "bouncing up and down", "moving up and down", "bobbing", "bobs up and down",
            "bounces",
        ),
        "still": ("standing still", "at rest", "not moving", "hanging still", "motionless", "hovering"),
    },
    "camera": {
        "static": ("static camera", "fixed camera", "locked shot", "still camera"),
        "pan": ("camera pans", "panning camera", "slow pan", "panning shot", "tracking shot"),
    },
}  # fmt: skip

STARTS = ("a", "the", "one", "a big", "a large", "a bright", "a lone", "a single", "")
FILLERS = (
    "slowly",
    "gently",
    "quietly",
    "softly",
    "there is",
    "we see",
    "a view of",
    "and then",
    "later",
    "with",
    "its",
    "of",
    "is",
    "peacefully",
)
LEFT_OUT = {"scene": 0.08, "time": 0.08, "weather": 0.05, "color": 0.06, "motion": 0.2, "camera": 0.1}
"""How often a caption leaves an attribute out; clear weather and a camera at rest more often (QUIET)."""
QUIET = {("weather", 0): 0.5, ("camera", 0): 0.75}


def compose(spec: Spec, rng: np.random.Generator) -> tuple[str, Spec]:
    """A random caption of the spec, and what it names: None where an attribute was left out."""
    said: Spec = dict.fromkeys(VALUES)

    def say(name: str) -> str:
        value = spec[name]
        if value is None or rng.random() < QUIET.get((name, value), LEFT_OUT.get(name, 0.0)):
            return ""
        said[name] = value
        phrases = tuple(VALUES[name].values())[value]
        return phrases[rng.integers(len(phrases))]

    head = ""
    if spec["shape"] is not None:
        head = " ".join((STARTS[rng.integers(len(STARTS))], say("color"), say("shape"), say("motion")))
    rest = [say(name) for name in ("scene", "time", "weather")]
    rng.shuffle(rest)
    parts = [head, *rest, say("camera")]
    if rng.random() < 0.15:
        parts = [*parts[1:4], parts[0], parts[4]]
    if rng.random() < 0.25:
        parts.insert(int(rng.integers(len(parts))), FILLERS[rng.integers(len(FILLERS))])
    separator = ", " if rng.random() < 0.4 else " "
    return separator.join(" ".join(part.split()) for part in parts if part.strip()), said


def fragment(rng: np.random.Generator) -> tuple[str, Spec]:
    """A prompt of a few words that names one attribute, or none."""
    name = tuple(VALUES)[rng.integers(len(VALUES))]
    value = int(rng.integers(len(VALUES[name])))
    phrases = tuple(VALUES[name].values())[value]
    opening = STARTS[rng.integers(len(STARTS))] if rng.random() < 0.5 else FILLERS[rng.integers(len(FILLERS))]
    silent = rng.random() < 0.4
    parts = [opening if rng.random() < 0.5 else "", "" if silent else phrases[rng.integers(len(phrases))]]
    return " ".join(part for part in parts if part), dict.fromkeys(VALUES) | ({} if silent else {name: value})


WORD = re.compile(r"[^\W_]+|[^\w\s!-/:-@\[-`{-~\u2010-\u2027\u3000-\u303f]")
"""Letters and digits of any script; or one sign that is no punctuation, such as an emoji."""


def words(text: str) -> list[str]:
    """Lower-case words of a prompt."""
    return WORD.findall(text.lower())


def _known() -> dict[str, int]:
    phrases = [p for values in VALUES.values() for group in values.values() for p in group]
    known = {w for p in (*phrases, *STARTS, *FILLERS) for w in words(p)}
    return {w: i for i, w in enumerate(sorted(known), 1)}


WORD_IDS = _known()
"""Word -> id from 1; 0 is padding. A word outside is named to the user and not read."""


def unknown_words(prompt: str) -> list[str]:
    """Words that no caption holds, in order, each once."""
    return list(dict.fromkeys(w for w in words(prompt) if w not in WORD_IDS))


def stated(prompt: str) -> Spec:
    """What a prompt asks for: the value of each attribute, None where it names none, or several.

    Read by the longest of the phrases above that stands at a place; else by a word that ends phrases of one
    value and is in no other's, such as "sea". Order, style and unknown words do not matter.
    """
    said, named = words(prompt), {name: set[int]() for name in VALUES}
    phrases, longest = _meanings(), max(map(len, _meanings()))
    first = 0
    while first < len(said):
        lengths = range(min(longest, len(said) - first), 0, -1)
        found = next((n for n in lengths if tuple(said[first : first + n]) in phrases), 0)
        if found:
            name, value = phrases[tuple(said[first : first + found])]
            named[name].add(value)
        first += found or 1
    return {name: next(iter(values)) if len(values) == 1 else None for name, values in named.items()}


@cache
def _meanings() -> dict[tuple[str, ...], tuple[str, int]]:
    """Attribute and value of every phrase, by its words, and of the last words that tell as much alone."""
    whole = {
        tuple(words(phrase)): (name, value)
        for name, values in VALUES.items()
        for value, phrases in enumerate(values.values())
        for phrase in phrases
    }
    silent = {word for phrase in (*STARTS, *FILLERS) for word in words(phrase)}
    meant: dict[str, set[tuple[str, int]]] = {}
    for phrase, meaning in whole.items():
        for word in phrase:
            meant.setdefault(word, set()).add(meaning)
    last = {
        phrase[-1:]: meaning
        for phrase, meaning in whole.items()
        if len(meant[phrase[-1]]) == 1 and phrase[-1] not in silent
    }
    return last | whole
