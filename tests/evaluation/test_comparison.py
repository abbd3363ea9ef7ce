from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from longvid.errors import RenderError
from longvid.evaluation.comparison import Failed, Place, Scored, made, make
from longvid.evaluation.processes import Ran
from longvid.files import checksum
from tests.evaluation.comparing import TWO_BY_TWO, scored, suite
from tests.kept import flip
from tests.planning import longvid

pytestmark = pytest.mark.usefixtures("workplace")


def here(arguments: Sequence[str]) -> Ran:
    """`longvid` in this process."""
    ran = longvid(*arguments)
    return Ran(ran.code, ran.out, ran.err)


def test_a_film_is_rendered_and_measured_once():
    film = suite().films[0]
    place = Place(Path("out"))
    place.make()
    one = make(film, place, here, rendering=["--device", "cpu"], measuring=[])
    assert place.film(film).is_file()
    assert (one.values["film"], one.values["frames"]) == (f"films/{film.name}.mp4", 36)
    assert one.values["evaluations_per_second"] == pytest.approx(film.plan.evaluations / 3)
    assert {"scenes", "flicker", "motion", "drift", "seam_ratio", "curves"} <= one.values.keys()
    assert place.known([film]) == {film.name: one}
    assert str(Path.cwd()) not in place.scores(film).read_text()

    flip(place.film(film), -1)
    assert place.known([film]) == {}, "another film is there"


def test_scores_that_are_damaged_are_none():
    film = suite().films[0]
    place = Place(Path("out"))
    place.make()
    place.film(film).write_bytes(b"film")
    [one] = scored(suite(), {})
    place.keep(Scored(film, one.values, "a" * 64))
    assert place.known([film]) == {}, "scores of other content"
    place.scores(film).write_text("{")
    assert place.known([film]) == {}


def test_scores_without_vbench_are_none_where_it_is_asked_for():
    film = suite().films[0]
    place = Place(Path("out"))
    place.make()
    place.film(film).write_bytes(b"film")
    for vbench in (None, {"dynamic_degree": 0.5}):
        [one] = scored(suite(), {"vbench": vbench})
        place.keep(replace(one, film=film, content=checksum(place.film(film))))
        assert len(place.known([film])) == 1
        assert len(place.known([film], vbench=True)) == (vbench is not None)


def test_what_a_command_ends_on_is_why_a_film_failed():
    film = suite(TWO_BY_TWO).films[0]
    place = Place(Path("out"))
    place.make()
    for command in ("render", "evaluate"):

        def run(arguments: Sequence[str], failing: str = command) -> Ran:
            assert arguments[-1] == f"--for-{arguments[0]}"
            return Ran(2, "", f"x\nerror: {failing}: no\n") if arguments[0] == failing else Ran(0, "", "")

        with pytest.raises(RenderError, match=rf"^{command}: no$"):
            make(film, place, run, rendering=["--for-render"], measuring=["--for-evaluate"])
    assert not list(place.folder.glob("scores/*"))


def test_warnings_are_kept():
    said = Ran(1, "", "warning: one\nline\nwarning: two\nerror: end\n")
    assert (said.warnings, said.last_line) == (("one", "two"), "end")
    assert Ran(9, "", "").last_line == "exit code 9"


@pytest.mark.parametrize("error", [RenderError("full disk"), OSError("full disk")], ids=["told", "raw"])
def test_one_film_that_fails_leaves_the_others_be(error):
    read = suite()
    ready = {one.film.name: one for one in scored(read, *[{}] * 8)}

    def one(film):
        if film.seed == 2:
            raise error
        return ready[film.name]

    results = [result for result in made(read.films, one, jobs=3) if result is not None]
    assert sorted(result.film.name for result in results) == sorted(film.name for film in read.films)
    assert {result.why for result in results if isinstance(result, Failed)} == {"full disk"}
    assert sum(isinstance(result, Scored) for result in results) == 4


def test_as_many_films_as_jobs_are_made_at_a_time():
    read = suite()
    ready = {one.film.name: one for one in scored(read, *[{}] * 8)}
    meeting = threading.Barrier(4)  # nobody passes before four are there

    def one(film):
        meeting.wait(timeout=10)
        return ready[film.name]

    assert sum(result is not None for result in made(read.films, one, jobs=4)) == 8


def test_closed_it_begins_no_further_film():
    read = suite()
    ready = {one.film.name: one for one in scored(read, *[{}] * 8)}
    begun = []
    gate = threading.Semaphore(0)

    def one(film):
        begun.append(film.name)
        assert gate.acquire(timeout=10)
        return ready[film.name]

    happening = made(read.films, one, jobs=2)
    assert next(happening) is None, "the caller is asked now and then"
    gate.release()
    assert next(happening) is not None
    threading.Timer(0.2, gate.release, [8]).start()
    happening.close()
    assert len(begun) == 3, "the two that were at work, and the one that followed"
