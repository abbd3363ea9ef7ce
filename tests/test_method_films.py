"""Films by every method: stopped, killed and edited anywhere, each is byte for byte its fresh render."""

from __future__ import annotations

from pathlib import Path

import pytest

from longvid.errors import UserError
from longvid.video import reader
from tests.edits import BOAT, CITY, SEA, SNOW, Film, contents, copied, new, planned, render
from tests.planning import longvid

pytestmark = pytest.mark.usefixtures("workplace")

METHODS = {
    "replace-noised:overlap=2": [BOAT, SEA, CITY],
    "fifo:partitions=3": [BOAT, SEA, CITY],
    "fifo:lookahead=false": [BOAT, SEA],
    "chained": [BOAT, SEA, CITY],
    "progressive:overlap=0,chunk=1": [BOAT, SEA, CITY],
    "progressive:overlap=2": [BOAT, SEA, CITY],
    "progressive:ending=discard": [BOAT, SEA],
}


@pytest.mark.parametrize("method", METHODS)
def test_a_film_of_any_method_resumes_and_is_edited(tmp_path: Path, method: str) -> None:
    film: Film = {"seed": 7, "method": method, "shots": METHODS[method]}
    plan = planned(film)
    whole = new(tmp_path / "whole")
    assert render(film, whole).evaluations == plan.evaluations
    assert plan.evaluations == plan.walk.leave[-1]

    stopped = new(tmp_path / "stopped")
    part = 3 * plan.evaluations // 5
    render(film, stopped, stop_at=part)
    killed = copied(stopped, tmp_path / "killed", killed=True)
    assert render(film, stopped).evaluations == plan.evaluations - part, "a stop loses nothing"
    assert contents(stopped) == contents(whole)
    assert 0 < render(film, killed).evaluations < plan.evaluations, "a kill loses what is in the window"
    assert contents(killed) == contents(whole)

    *before, last = METHODS[method]
    edited: Film = {**film, "shots": [*before, {**last, "prompt": "a storm at night"}]}
    fresh, again = new(tmp_path / "fresh"), copied(whole, tmp_path / "again")
    render(edited, fresh)
    assert 0 < render(edited, again).evaluations < plan.evaluations, "what comes before the edit is kept"
    assert contents(again) == contents(fresh)
    assert contents(fresh) != contents(whole)


def test_a_method_that_cannot_make_the_film_is_told_where_it_is_written(tmp_path: Path) -> None:
    cut: Film = {"method": "progressive:ending=discard", "shots": [BOAT, SNOW]}
    with pytest.raises(UserError, match=r"method: ending=discard is for films without cuts"):
        planned(cut)


@pytest.mark.parametrize(
    "method", ["fifo", "chained", "progressive:overlap=2", "progressive:overlap=0,chunk=1"]
)
def test_a_film_of_any_method_goes_on_from_its_own_end(tmp_path: Path, method: str) -> None:
    """Behind all that is there, as behind a clip: nothing of it is made again."""
    film = tmp_path / "film.mp4"
    Path("film.yaml").write_text(
        f"model: tiny\nmethod: {method!r}\nshots: [{{prompt: a red boat, seconds: 4}}]\n"
    )
    assert longvid("render", "film.yaml", "-o", film, "--device", "cpu", "-q").code == 0
    before = [pixels.tobytes() for _, pixels in reader.frames(film)]
    ran = longvid("extend", film, "--seconds", 2, "--prompt", "the sea", "--device", "cpu", "-q")
    assert (ran.code, ran.out) == (0, f"{film}\n"), ran.err
    after = [pixels.tobytes() for _, pixels in reader.frames(film)]
    assert len(after) == len(before) + 24
    assert after[: len(before)] == before
