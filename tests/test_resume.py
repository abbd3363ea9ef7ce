"""Nothing is ever lost: however a render ends, the next one goes on, and the film is that of one run."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from longvid import files
from longvid.errors import RenderError, UserError
from longvid.progress import ChunkSaved, Event
from tests.disk import Disk, Killed
from tests.edits import CITY, FILM, SNOW, Film, contents, copied, cost, enter, new, planned, render, shot
from tests.installed import environment, install_tiny
from tests.killing import Kind, Run, killing
from tests.tiny import TinyBackend

# SIGKILL


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """`longvid` in processes of its own, to be killed there."""
    plugins = install_tiny(tmp_path_factory.mktemp("installed") / "plugins")
    with killing(environment(plugins)) as run:
        yield run


RENDER = ("render", "film.yaml", "--device", "cpu", "--quiet")


def test_killed_at_twenty_moments_a_film_and_its_edits_are_those_of_one_run(tmp_path: Path, run: Run) -> None:
    """A film is rendered and edited, to and fro, in one work directory, and killed as often as it takes: at
    any call of any function, or at one that reaches the disk."""
    films = [{"model": "tiny", **film} for film in (FILM, shot(2, prompt="a city by day")(FILM))]
    whole = []
    for film in films:
        output = written(film, tmp_path / film["shots"][2]["prompt"])
        ended = run(output.parent, *RENDER)
        assert (ended.code, ended.output) == (0, "film.mp4\n")
        whole.append(contents(output))

    moments = random.Random(20)
    kills = finished = 0
    output = written(films[0], tmp_path / "killed")
    while kills < 20 or finished < 2:
        kind: Kind = moments.choice(["any", "disk"])
        kill_at = moments.randrange(1, ended.calls[kind]) if kills < 20 else -1
        killed = run(output.parent, *RENDER, kind=kind, kill_at=kill_at)
        if killed.code == -9:
            kills += 1
            continue
        assert (killed.code, killed.output) == (0, "film.mp4\n")
        assert contents(output) == whole[finished % 2]
        finished += 1
        output.with_name("film.yaml").write_text(json.dumps(films[finished % 2]))


def test_diorama_killed_twice_and_edited_is_that_of_one_run(tmp_path: Path, run: Run) -> None:
    film: Film = {
        "model": "diorama",
        "steps": 4,
        "shots": [
            {"prompt": "a red boat on a calm sea at noon", "seconds": 7},
            {"prompt": "a red boat on a calm sea at night, snow", "seconds": 3},
        ],
    }
    edited = shot(1, prompt="a red boat on a calm sea at night, rain")(film)
    whole = []
    for name, timeline in (("film", film), ("edited", edited)):
        ended = run(written(timeline, tmp_path / name).parent, *RENDER)
        assert (ended.code, ended.output) == (0, "film.mp4\n")
        whole.append(contents(tmp_path / name / "film.mp4"))

    output = written(film, tmp_path / "killed")
    chunks = [0]
    for _ in range(2):
        assert run(output.parent, *RENDER, kind="replace", kill_at=ended.calls["replace"] // 3).code == -9
        chunks.append(len(list((output.with_suffix(".longvid") / "chunks").iterdir())))
    assert 0 < chunks[1] < chunks[2] < 8
    assert run(output.parent, *RENDER).code == 0
    assert contents(output) == whole[0]
    output.with_name("film.yaml").write_text(json.dumps(edited))
    assert run(output.parent, *RENDER).code == 0
    assert contents(output) == whole[1]


def written(film: Mapping[str, object], folder: Path) -> Path:
    output = new(folder)
    output.with_name("film.yaml").write_text(json.dumps(film))
    return output


# A disk that fails


SMALL = TinyBackend(window_units=2, steps=2, causal=True, held_frames=3)
"""A run's chunks are finished two steps behind their entry, one a step."""
SHORT: Film = {"seed": 7, "shots": [{**CITY, "seconds": "12f"}, {**SNOW, "seconds": "5f"}]}
"""Chunks of 5 frames, 7 of 8, and behind a cut one of 5; of the first two, three frames come late."""
EDITED = shot(1, prompt="a forest in spring")(SHORT)
REPRINTED: Film = {**SHORT, "output": {"crf": 30}}

WORK: Mapping[str, tuple[Film | None, int | None, Film]] = {
    "render": (None, None, SHORT),
    "resume": (SHORT, 2, SHORT),
    "edit": (SHORT, None, EDITED),
    "other file": (SHORT, None, REPRINTED),
    "other title": (SHORT, None, {**SHORT, "title": "Two shots"}),
}
"""What lies there, where that was stopped, and what is asked for."""


@pytest.mark.parametrize("how", ["fails", "killed"])
@pytest.mark.parametrize("work", WORK)
def test_any_call_to_the_disk_may_fail(tmp_path: Path, work: str, how: str) -> None:
    """Every write, sync, rename, link and unlink in turn fails once, or is the last thing that happens. What
    was finished is not rendered again, what was replaced is in a take, and the next render is a whole one."""
    before, stop_at, film = WORK[work]
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch)
        whole, start = new(tmp_path / "whole"), new(tmp_path / "start")
        render(film, whole, SMALL)
        wanted, there = contents(whole), {}
        if before is not None:
            render(before, start, SMALL, stop_at=stop_at)
            there = kept(start.with_suffix(".longvid"))
        plan = planned(film, SMALL)
        behind = [entered + plan.steps for entered in enter(plan)]
        least = 0 if before is None else plan.evaluations - cost(planned(before, SMALL), plan, stop_at)

        number = 0
        while True:
            output = copied(start, tmp_path / "film") if there else new(tmp_path / "film")
            disk.start(**({"fails_at": number} if how == "fails" else {"killed_at": number}))
            failed, seen = False, list[Event]()
            try:
                render(film, output, SMALL, seen=seen)
            except (RenderError, UserError) as error:
                assert how == "fails"
                assert str(error).count("\n") == 0
                failed = True
            except Killed:
                failed = True
            if number >= len(disk.calls):
                assert not failed
                break
            call = f"{number}: {disk.calls[number]}"
            saved = [behind[event.chunk] for event in seen if isinstance(event, ChunkSaved)]

            disk.start()
            resumed = render(film, output, SMALL)
            assert resumed.warnings == (), call
            assert resumed.evaluations <= plan.evaluations - max([least, *saved]), call
            assert contents(output) == wanted, call
            if work in ("edit", "other file"):
                takes = (output.with_suffix(".longvid") / "takes").iterdir()
                assert there in [kept(take) for take in takes if not take.name.startswith(".")], call
            left = [path for path in output.parent.rglob(".*") if "takes" not in path.parts]
            assert not left, call
            shutil.rmtree(output.parent)
            number += 1
        assert set(disk.calls) >= {"write", "fsync", "replace"}


def kept(work: Path) -> dict[str, str]:
    """A render's chunks, by the checksums of what is there."""
    paths = (path for folder in ("chunks", "latents", "segments") for path in (work / folder).iterdir())
    return {str(path.relative_to(work)): files.checksum(path) for path in paths}
