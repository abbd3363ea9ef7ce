from __future__ import annotations

import json

import pytest

from longvid.locks import locked
from tests.kept import EDITED, render
from tests.planning import longvid


@pytest.fixture
def here(workplace):
    """A folder to work in, with a film and a take."""
    render(workplace / "film.mp4")
    render(workplace / "film.mp4", *EDITED)
    return workplace


def test_nothing_goes_unless_told(here):
    ran = longvid("clean", "--older-than", "0")
    title, take, end = ran.out.splitlines()
    assert (ran.code, title) == (0, "film.longvid")
    assert "take 1, 0 days old; to make it again: 12 evaluations, 0:0" in take
    assert end.endswith(" could be freed; nothing is gone yet: --yes frees it")
    assert (here / "film.longvid" / "takes" / "1").exists()
    ran = longvid("clean", "film.longvid", "--older-than", "0", "--yes")
    assert ran.out.splitlines()[-1].startswith("freed ")
    assert not (here / "film.longvid" / "takes" / "1").exists()
    ran = longvid("clean", "film.longvid", "--older-than", "0")
    assert (ran.code, ran.out) == (0, "there is nothing to free\n")


def test_what_is_young_stays(here):
    assert longvid("clean", "--yes").out == "there is nothing to free\n"
    assert (here / "film.longvid" / "takes" / "1").exists()


def test_states_and_finished_films_go_on_request(here):
    ran = longvid("clean", "--older-than", "0", "--keep-states", "1", "--finished", "--yes")
    assert "11 states, up to 000007; an edit that reaches back there costs up to 22 evaluations" in ran.out
    assert "the chunks of a finished film, 0 days old; to make it again: 24 evaluations" in ran.out
    assert ran.code == 0
    assert (here / "film.mp4").exists()
    assert not list((here / "film.longvid" / "chunks").iterdir())


def test_json_is_for_programs(here):
    said = json.loads(longvid("clean", "--older-than", "0", "--json").out)
    (item,) = said["items"]
    assert (said["freed"], said["bytes"], item["kind"]) == (False, item["bytes"], "take")
    assert item["paths"] == ["film.longvid/takes/1"]
    assert item["evaluations"] == 12
    said = json.loads(longvid("clean", "--older-than", "0", "--json", "--yes").out)
    assert said["freed"]
    assert not (here / "film.longvid" / "takes" / "1").exists()


def test_where_a_render_runs_nothing_goes(here):
    with locked(here / "film.longvid"):
        ran = longvid("clean", "film.longvid", "--older-than", "0", "--yes")
        assert (ran.code, ran.out) == (3, "")
        assert "renders there" in ran.err
        ran = longvid("clean", "--older-than", "0", "--yes")
        assert (ran.code, ran.out) == (0, "there is nothing to free\n")
        assert ran.err.startswith("skipped: film.longvid: process ")
    assert (here / "film.longvid" / "takes" / "1").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--older-than", "soon"], "--older-than soon: is no age; write 30d, 12h, 2w, or 0"),
        (["--older-than", "-3d"], "is no age"),
        (["--keep-states", "0", "film.longvid"], "--keep-states 0: at least 1"),
        (["nowhere"], "nowhere: there is no such folder"),
    ],
    ids=str,
)
def test_wrong_input_is_one_line(here, args, message):
    ran = longvid("clean", *args)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
