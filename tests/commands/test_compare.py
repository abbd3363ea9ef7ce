from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from longvid.errors import RenderError
from longvid.evaluation import comparison
from longvid.evaluation import suite as suites
from tests.evaluation.comparing import stand_in
from tests.installed import command, environment
from tests.planning import longvid
from tests.video.clips import clip

TEXT = """\
model: tiny
seconds: 2
prompts: [a red boat]
methods: [progressive, replace]
"""


@pytest.fixture
def place(workplace, monkeypatch) -> Path:
    """A folder to work in, with suite.yaml for the tiny model, which processes begun there know as well."""
    monkeypatch.setenv("PYTHONPATH", environment(workplace.parent / "plugins")["PYTHONPATH"])
    Path("suite.yaml").write_text(TEXT)
    return workplace


def test_a_suite_becomes_a_folder_and_the_same_again_makes_nothing_anew(place):
    Path("suite.yaml").write_text(TEXT.replace("[progressive, replace]", "[fifo]"))
    [film] = suites.load(Path("suite.yaml")).films
    ran = longvid("compare", "suite.yaml", "--device", "cpu", "--json")
    assert ran.code == 0, ran.err
    lines = ran.err.splitlines()
    assert lines[0] == "1 film of 2 s: 1 method by 1 prompt by 1 seed, tiny"
    assert f"1 of 1: {film.name}" in lines
    said = json.loads(ran.out)
    assert [(row["name"], row["films"]) for row in said["rows"]] == [("fifo", 1)]
    values = said["rows"][0]["values"]
    assert {"flicker", "seam_ratio", "drift.luma", "evaluations_per_second"} <= values.keys()
    assert values["evaluations_per_second"]["mean"] == film.plan.evaluations / 2
    assert json.loads(Path("suite/table.json").read_text()) == said
    assert {path.name for path in Path("suite").iterdir()} >= {"index.html", "duel.html", "table.md", "films"}

    stamp = Path(f"suite/films/{film.name}.mp4").stat().st_mtime_ns
    again = longvid("compare", "suite.yaml", "--device", "cpu", "--json")
    assert (again.code, json.loads(again.out)) == (0, said)
    assert not any(" of 1: " in line for line in again.err.splitlines())
    assert Path(f"suite/films/{film.name}.mp4").stat().st_mtime_ns == stamp


def stood_in(one, place, **how):
    """In place of `comparison.make`: a film of another kind, and nothing rendered."""
    if one.plan.method == "fifo":
        raise RenderError("the disk is full")
    return stand_in(one, place, {"flicker": 0.9}, clip(Path("film.mp4"), frames=60))


def test_votes_come_into_the_table(place, monkeypatch):
    monkeypatch.setattr(comparison, "make", stood_in)
    one, other = suites.load(Path("suite.yaml")).films
    votes = [{"id": "1", "left": one.name, "right": other.name, "question": "overall", "choice": "left"}]
    Path("votes.json").write_text(json.dumps({"votes": votes}))
    ran = longvid("compare", "suite.yaml", "--votes", "votes.json", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    assert "Duels won" in ran.out
    assert ran.out.splitlines()[-1] == "suite/index.html"
    kept = json.loads(longvid("compare", "suite.yaml", "--json").out)
    assert [row["values"]["viewers.overall"]["mean"] for row in kept["rows"]] == [1, 0]


def test_what_a_suite_would_cost(place):
    ran = longvid("compare", "suite.yaml", "--plan")
    assert ran.code == 0
    rows = [line.split()[:4] for line in ran.out.splitlines() if line.strip().startswith(("prog", "repl"))]
    [one, other] = (film.plan for film in suites.load(Path("suite.yaml")).films)
    assert rows == [
        ["progressive", "1", str(one.evaluations), str(one.network_calls)],
        ["replace", "1", str(other.evaluations), str(other.network_calls)],
    ]
    ran = longvid("compare", "suite.yaml", "--plan", "--json")
    assert json.loads(ran.out) == [
        {
            "method": each.method,
            "films": 1,
            "evaluations": each.evaluations,
            "network_calls": each.network_calls,
            "seconds": None,
        }
        for each in (one, other)
    ]
    assert not Path("suite").exists()


def test_a_film_that_fails_is_told_and_the_others_are_made(place, monkeypatch):
    monkeypatch.setattr(comparison, "make", stood_in)
    Path("suite.yaml").write_text(TEXT.replace("replace", "fifo"))
    failing = suites.load(Path("suite.yaml")).films[1]
    ran = longvid("compare", "suite.yaml", "--device", "cpu")
    assert ran.code == 1
    assert f"warning: {failing.name}: the disk is full" in ran.err.splitlines()
    assert ran.err.splitlines()[-1] == (
        "error: 1 of 2 films could not be made; the first: the disk is full; "
        "the same command tries them again"
    )
    assert "1 of them are there" in Path("suite/index.html").read_text()


def test_a_stop_is_passed_on_and_what_is_there_is_kept(place):
    Path("suite.yaml").write_text(TEXT.replace("seconds: 2", "seconds: 300"))
    process = subprocess.Popen(
        command("compare", "suite.yaml", "--device", "cpu"), stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not list(Path("suite/films").glob("*.longvid/chunks/*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert err.splitlines()[-1] == "stopped; 0 of 2 films are there, and the same command goes on"
    [work] = Path("suite/films").glob("*.longvid")
    assert json.loads((work / "run.json").read_text())["status"] == "unfinished"


WRONG = {
    ("compare", "no.yaml"): "no.yaml: no such file; a suite is a YAML file",
    ("compare", "suite.yaml", "-o", "suite.yaml"): "--output suite.yaml: is a file; name a folder",
    (
        "compare",
        "suite.yaml",
        "--votes",
        "no.json",
    ): "--votes no.json: cannot be read: No such file or directory",
}


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_wrong_input_is_one_line(place, arguments):
    ran = longvid(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines()[-1].startswith(f"error: {WRONG[arguments]}")
