from __future__ import annotations

import json
from pathlib import Path

import pytest

from longvid.exchange import FILE
from longvid.files import write_sealed
from tests.kept import EDITED, SHOTS, render
from tests.planning import longvid


@pytest.fixture
def here(workplace):
    """A folder to work in, with a film and a take."""
    render(workplace / "film.mp4")
    render(workplace / "film.mp4", *EDITED)
    return workplace


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


def test_takes_are_listed_with_what_differs_and_from_when_on(here):
    ran = longvid("takes", "film.longvid")
    assert (ran.code, ran.err) == (0, "")
    heading, _, current, storm, first, sea = words(ran.out)
    assert heading == ["take", "rendered", "length", "chunks", "shots", "differs"]
    assert (current[0], current[3:]) == ("current", ["0:06", "9", "0:00", "a", "red", "boat"])
    assert storm == ["0:04", "a", "storm"]
    assert (first[0], first[3:9]) == ("1", ["0:06", "9", "0:00", "a", "red", "boat"])
    assert first[9:] == ["from", "0:02:", "shots[1].prompt"]
    assert sea == ["0:04", "the", "sea"]


def test_a_take_that_is_not_finished_says_so(here):
    render(Path("part.mp4"), chunks=5)
    _, _, current, *_ = words(longvid("takes", "part.longvid").out)
    assert current[4:7] == ["5", "of", "9"]


def test_json_is_for_programs(here):
    said = json.loads(longvid("takes", "film.longvid", "--json").out)
    current, first = said["takes"]
    assert (current["name"], current["current"], current["differs_from_seconds"]) == (None, True, None)
    assert (first["name"], first["current"], first["complete"], first["seconds"]) == ("1", False, True, 6.0)
    assert (first["differs"], first["differs_from_seconds"]) == (["shots[1].prompt"], 2.0)
    assert first["shots"][1] == {
        "title": None,
        "prompt": "the sea",
        "start_seconds": 4.0,
        "end_seconds": 6.0,
    }


def test_a_take_becomes_the_film(here):
    edited = Path("film.mp4").read_bytes()
    ran = longvid("takes", "film.longvid", "--use", 1)
    assert (ran.code, ran.out) == (0, "film.mp4\n")
    assert ran.err == "what was the film is kept as take 2\n"
    assert Path("film.mp4").read_bytes() != edited
    _, _, current, *_ = words(longvid("takes", "film.longvid").out)
    assert current[:2] == ["1", "(current)"]
    said = json.loads(longvid("takes", "film.longvid", "--use", 2, "--json").out)
    assert [take["name"] for take in said["takes"]] == ["2", "1"]
    assert Path("film.mp4").read_bytes() == edited


def test_an_unfinished_take_says_how_to_go_on(here):
    render(Path("new.mp4"), chunks=5)
    render(Path("new.mp4"), *EDITED)
    ran = longvid("takes", "new.longvid", "--use", 1)
    assert (ran.code, ran.out) == (0, "")
    assert "take 1 is not finished (5 of 9 chunks)" in ran.err
    assert ran.err.endswith("`longvid resume new.longvid` goes on with it\n")


def test_a_picture_of_every_take(here):
    ran = longvid("takes", "film.longvid", "--strip", "strip.png")
    assert ran.out.endswith("strip.png: from the top, current, 1\n")
    assert Path("strip.png").read_bytes().startswith(b"\x89PNG")
    assert longvid("takes", "film.longvid", "--strip", "strip.png", "--json").code == 0


def test_a_broken_off_exchange_is_told(here):
    write_sealed(here / "film.longvid" / FILE, {"take": "1"})
    ran = longvid("takes", "film.longvid")
    assert ran.err == ("warning: taking 1 was broken off; `longvid takes film.longvid --use 1` finishes it\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["film.longvid", "--use", "7"], "--use 7: film.longvid has no such take; there is: 1"),
        (["film.longvid", "--strip", "s.jpg"], "--strip s.jpg: a picture is written as .png; try s.png"),
        (["film.longvid", "--strip", "no/s.png"], "there is no folder no; create it first"),
        (["no.longvid"], "no.longvid: there is no such folder"),
    ],
    ids=str,
)
def test_wrong_input_is_one_line(here, args, message):
    ran = longvid("takes", *args)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert len(ran.err.splitlines()) == 1


def test_takes_of_other_lengths_and_seeds(here):
    render(here / "film.mp4", SHOTS[0], {**SHOTS[1], "seconds": 4, "seed": 3})
    *_, first, _, second, _ = words(longvid("takes", "film.longvid").out)
    assert first[9:] == ["from", "0:02:", "shots[1].seconds,"]
    assert second[9:] == ["from", "0:02:", "shots[1].prompt,"]
