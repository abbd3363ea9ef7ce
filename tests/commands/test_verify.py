from __future__ import annotations

import json

import pytest

from tests.kept import EDITED, flip, render
from tests.planning import longvid


@pytest.fixture
def here(workplace):
    """A folder to work in, with a film and a take."""
    render(workplace / "film.mp4")
    render(workplace / "film.mp4", *EDITED)
    return workplace


def test_a_whole_film_is_one_line(here):
    ran = longvid("verify", "film.longvid")
    inside = [file for file in (here / "film.longvid").rglob("*") if file.is_file() and file.name != "lock"]
    files = len({file.stat().st_ino for file in [*inside, here / "film.mp4"]})
    assert (ran.code, ran.out) == (0, f"film.longvid: {files} files read, all as written\n")
    assert ran.err.splitlines() == [
        "loading PyTorch",
        "reading film.longvid",
        "reading film.longvid/takes/1",
    ]
    assert longvid("verify", "film.longvid", "--quiet").err == ""


def test_what_is_wrong_is_named_with_what_comes_of_it(here):
    flip(here / "film.longvid" / "segments" / "000002.mp4", 50)
    flip(here / "film.longvid" / "run.json", 50)
    ran = longvid("verify", "film.longvid", "-q")
    assert (ran.code, ran.err) == (1, "")
    lines = ran.out.splitlines()
    assert lines[0] == (
        "film.longvid/segments/000002.mp4: is not what was written there; "
        "the next render decodes this chunk again from its latents"
    )
    assert lines[-1].endswith("3 wrong"), "the segment is the take's as well"


def test_json_is_for_programs(here):
    flip(here / "film.longvid" / "states" / "000004.safetensors", 50)
    ran = longvid("verify", "film.longvid", "--json")
    said = json.loads(ran.out)
    assert (ran.code, ran.err) == (1, "")
    assert said["work"] == "film.longvid"
    assert said["wrong"] == [
        {
            "file": "film.longvid/states/000004.safetensors",
            "what": "is not what was written there",
            "then": "the next render goes on from another state, or decodes again",
        }
    ]
    assert said["then"] == "the next render keeps 9 of 9 chunks (0:06), renders 0"
    assert longvid("verify", "film.longvid/takes/1", "--json").code == 0


def test_inside_of_the_work_directory_it_is_called_a_dot(here, monkeypatch):
    monkeypatch.chdir("film.longvid")
    ran = longvid("verify", ".", "-q")
    assert (ran.code, ran.err) == (0, "")


def test_what_is_no_work_directory_is_wrong_input(here):
    ran = longvid("verify", "other.longvid", "-q")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "error: other.longvid: there is no such folder; a film's work directory is named film.longvid\n"
    )
    (here / "other").mkdir()
    assert "other: is no film's work directory" in longvid("verify", "other").err
