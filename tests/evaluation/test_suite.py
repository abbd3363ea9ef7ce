import json
from pathlib import Path

import pytest

from longvid import document, timeline
from longvid.errors import UserError
from longvid.evaluation.suite import load
from longvid.plan import plan
from tests.evaluation.comparing import TWO_BY_TWO, suite
from tests.tiny import TinyBackend
from tests.video.clips import clip

SUITES = sorted((Path(__file__).parents[2] / "timelines/suites").glob("*.yaml"))

pytestmark = pytest.mark.usefixtures("workplace")


def test_films_are_all_prompts_by_all_seeds_by_all_methods():
    read = suite()
    assert [(film.prompt, film.seed, film.variant) for film in read.films] == [
        (prompt, seed, variant) for prompt in (0, 1) for seed in (1, 2) for variant in (0, 1)
    ]
    assert (read.title, read.prompts) == ("Boats & <seas>", ("a red boat", "the sea at night"))
    assert str(read) == "8 films of 3 s: 2 methods by 2 prompts by 2 seeds, tiny"
    last = read.films[-1].plan
    assert (last.method, last.seed, last.frames, last.prompts) == ("replace", 2, 36, ("the sea at night",))


def test_a_film_is_written_as_a_timeline_that_plans_alike():
    film = suite(TWO_BY_TWO + "style: at 8.1\nguidance: 1.5\n").films[1]
    again = timeline.build(*document.parse(film.written().decode()))
    assert plan(again, TinyBackend()) == film.plan
    assert json.loads(film.written()) == {
        "model": "tiny",
        "style": "at 8.1",
        "guidance": 1.5,
        "shots": [{"prompt": "a red boat", "seconds": 3}],
        "method": "replace",
        "seed": 1,
        "title": "a red boat",
    }


def test_films_have_other_names_exactly_if_they_are_other_films():
    names = {film.name for film in suite().films}
    assert len(names) == 8
    assert names == {film.name for film in suite(TWO_BY_TWO.replace("title: Boats & <seas>\n", "")).films}
    assert names < {film.name for film in suite(TWO_BY_TWO.replace("[1, 2]", "[1, 2, 3]")).films}
    assert not names & {film.name for film in suite(TWO_BY_TWO.replace("seconds: 3", "seconds: 4")).films}
    assert suite().films[0].name.startswith("01-a-red-boat-progressive-seed-1-")


def test_two_rows_of_one_film_are_refused():
    """Their files would be one; names that look alike as files are no matter for other films."""
    rows = "[{name: 'Ours!', method: progressive}, {name: ours, method: METHOD}]"
    text = f"model: tiny\nseconds: 3\nprompts: a boat\nmethods: {rows}\n"
    assert len(suite(text.replace("METHOD", "replace")).films) == 2
    with pytest.raises(UserError, match=r":4: methods: ours makes the same film as Ours!; keep one$"):
        suite(text.replace("METHOD", "progressive"))


def test_steps_are_swept_but_for_methods_with_their_own():
    read = suite(
        "model: tiny\nseconds: 3\nsteps: [8, 12]\nprompts: a boat\n"
        "methods: [progressive, {method: replace, name: RN}, {method: fifo, steps: 4}]"
    )
    assert [(each.name, each.method, each.steps) for each in read.variants] == [
        ("progressive, 8 steps", "progressive", 8),
        ("progressive, 12 steps", "progressive", 12),
        ("RN, 8 steps", "replace", 8),
        ("RN, 12 steps", "replace", 12),
        ("fifo, 4 steps", "fifo", 4),
    ]
    assert [film.plan.steps for film in read.films] == [8, 12, 8, 12, 4]
    assert read.title == "suite"


def test_a_prompt_may_be_shots_or_a_timeline_or_start_from_a_picture():
    folder = Path("elsewhere")
    folder.mkdir()
    clip(folder / "start.mp4", frames=40)
    (folder / "film.yaml").write_text(
        "model: tiny\nseed: 3\noutput: {poster: p.png}\nstart_from: start.mp4\n"
        "shots: [{prompt: a kite, seconds: 2}, {prompt: a star, seconds: 2}]"
    )
    read = suite(
        "model: tiny\nseeds: 9\nmethods: progressive\nprompts:\n"
        "  - {name: two, shots: [{prompt: a, seconds: 2}, {prompt: b, seconds: 2}]}\n"
        "  - {timeline: elsewhere/film.yaml}\n"
        "  - {shots: [{prompt: d, seconds: 2}], start: elsewhere/start.mp4}\n"
    )
    shots, film, started = read.films
    assert read.prompts == ("two", "a kite / a star", "d")
    assert [shot.prompt for shot in shots.plan.shots] == ["a", "b"]
    assert film.plan.seed == 9, "a suite's seed goes before a timeline's"
    assert json.loads(film.written()).keys() == {"model", "seed", "start_from", "shots", "method"}
    assert film.timeline.start_path == started.timeline.start_path == (folder / "start.mp4").absolute()
    assert started.plan.start is not None


CUT = "[{shots: [{prompt: a, seconds: 2}, {prompt: b, seconds: 2, cut: true}]}]"
BASE = "model: tiny\nseconds: 3\nprompts: [a boat]\nmethods: [progressive]\n"
WRONG = {
    BASE + "promts: x": "suite.yaml:5: promts: is no key of a suite; did you mean prompts?",
    BASE + "shots: []": "suite.yaml:5: shots: is a key of a prompt, not of a suite",
    BASE + "title:": "suite.yaml:5: title: is empty; give it a value or leave the key out",
    BASE + "seeds: []": "suite.yaml:5: seeds: is an empty list; name at least one",
    BASE + "seeds: [1, 1]": "suite.yaml:5: seeds: names one of them twice; keep one",
    BASE + "seeds: [-1]": "suite.yaml:5: seeds[0]: -1 is too small; at least 0",
    BASE
    + "steps: 9": "suite.yaml:5: steps: 9 steps are no multiple of the window's 4 chunks; nearest: 8 or 12",
    BASE + "fps: 900": "suite.yaml:5: fps: 900 is out of range; 1 to 240 frames a second",
    BASE.replace("[a boat]", "[{prompt: a, strat: b}]"): (
        "suite.yaml:3: prompts[0].strat: is no key of a prompt; did you mean start?"
    ),
    BASE.replace(
        "[a boat]", "[{name: a}]"
    ): "suite.yaml:3: prompts[0]: takes one of prompt, shots and timeline",
    BASE.replace("[a boat]", "[{prompt: a, start: no.png}]"): (
        "suite.yaml:3: prompts[0].start: there is no file 'no.png'"
    ),
    BASE.replace("[a boat]", "[{timeline: no.yaml}]"): (
        "suite.yaml:3: prompts[0].timeline: there is no file 'no.yaml'"
    ),
    BASE.replace("[progressive]", "\n  - progresive"): (
        "suite.yaml:5: methods[0]: no method 'progresive'; did you mean progressive?"
    ),
    BASE.replace("[progressive]", "\n  - fifo\n  - fifo"): (
        "suite.yaml:6: methods[1]: fifo is there twice; leave one out or `name` it"
    ),
    BASE.replace("methods: [progressive]", ""): "suite.yaml:1: methods: is missing",
    BASE.replace(
        "seconds: 3\n", ""
    ): "suite.yaml:1: does not say how long a film is; add `seconds:`, as seconds: 60",
    BASE.replace("seconds: 3", "seconds: 1.5"): (
        "suite.yaml:3: prompts[0]: lasts 1.5 s; films are measured in clips of two seconds"
    ),
    BASE.replace("seconds: 3", "seconds: three"): (
        "suite.yaml:2: seconds: 'three' is not a time; write seconds, 1m30s, 0:01:30.5 or 120f"
    ),
    BASE.replace("progressive", "progressive:ending=discard").replace("[a boat]", CUT): (
        "suite.yaml:4: method: ending=discard is for films without cuts"
    ),
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_said_in_one_line(text):
    with pytest.raises(UserError) as caught:
        suite(text)
    assert str(caught.value) == WRONG[text]


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_a_suite_to_run(path):
    read = load(path)
    assert not any(shot.unknown_words for film in read.films for shot in film.plan.shots)
    assert {film.plan.frames / film.plan.fps for film in read.films} == {60}
    assert {"progressive", "replace", "replace-noised", "fifo", "chained"} <= {
        variant.method for variant in read.variants
    }
    assert all(len(read.prompts) * len(read.seeds) >= 8 for _ in read.variants), "films a method"


def test_there_are_three_suites():
    assert [path.stem for path in SUITES] == ["interactive", "paper-diorama", "paper-opensora"]
