"""Suites for the tiny model, and films of them with made-up scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from longvid.evaluation.comparison import Place, Scored
from longvid.evaluation.suite import Film, Suite, load
from longvid.files import checksum

TWO_BY_TWO = """\
title: Boats & <seas>
model: tiny
seconds: 3
seeds: [1, 2]
prompts: [a red boat, the sea at night]
methods: [progressive, replace]
"""


def suite(text: str = TWO_BY_TWO) -> Suite:
    """Of a suite's text; it lies in ``suite.yaml``, here."""
    Path("suite.yaml").write_text(text)
    return load(Path("suite.yaml"))


def values(film: Film, **known: Any) -> dict[str, Any]:
    """What is said of a film: nothing but what is ``known``."""
    return {
        "film": f"films/{film.name}.mp4",
        "seconds": 3.0,
        "scenes": None,
        "drift": {},
        "drift_per_minute": {},
        "curves": {},
        "notes": [],
        **known,
    }


def scored(films: Suite, *known: dict[str, Any]) -> list[Scored]:
    """The first films of a suite, each with these values."""
    return [
        Scored(film, values(film, **own), f"{number:064x}")
        for number, (film, own) in enumerate(zip(films.films, known, strict=False))
    ]


def stand_in(film: Film, place: Place, known: dict[str, Any], made: Path) -> Scored:
    """Scores of a film whose file is a copy of ``made``."""
    path = place.film(film)
    path.write_bytes(made.read_bytes())
    one = Scored(film, values(film, **known), checksum(path))
    place.keep(one)
    return one
