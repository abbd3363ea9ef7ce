# ruff: noqa: E501 (a table of mistakes reads by the line)
import json
import platform
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from longvid import measurements, plugins
from longvid.backends import RESIDENT, Rung
from tests.planning import PlanBackend, longvid

FILM = """\
title: Two
seed: 7
shots:
  - {prompt: a red boat, until: 10}
  - {prompt: "[bold]zzstorm[/bold]", until: "250f", blend_seconds: 2, title: Storm, guidance: 3}
  - {prompt: a city, seconds: 4, cut: true, seed: 11}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in, one model, nothing measured, a wide terminal."""
    found = EntryPoints([EntryPoint("diorama", "tests.planning:backend", plugins.GROUP)])
    monkeypatch.setattr(plugins, "entry_points", lambda **wanted: found.select(**wanted))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.chdir(tmp_path)


def test_for_a_person() -> None:
    Path("film.yaml").write_text(FILM)
    ran = longvid("plan", "film.yaml")
    assert (ran.code, ran.err) == (0, "")
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert [line for line in lines if line and "───" not in line] == [
        "model planned (the default; `model:` or --model names another)",
        "licence: none: it has no weights",
        "Two",
        "96x64 shown at 384x256, 12 frames a second, seed 7, progressive, 16 steps, window of 4 chunks",
        "asked gets",
        "shot prompt frames frames chunks evals",
        "1 a red boat 0:00-0:10 0:00-0:09.333 7 28",
        "guidance 2 0-120 0-112",
        "2 Storm: [bold]zzstorm[/bold] 0:10-0:20.833 0:09.333-0:20.833 9 48",
        "blends over 2 chunks · guidance 3 120-250 112-250",
        "words the model does not know: zzstorm",
        "3 a city 0:20.833-0:24.833 0:20.833-0:24.833 3 24",
        "cut · guidance 2 · seed 11 250-298 250-298",
        "0:24.833 of film: 298 frames, 19 chunks, 100 evaluations, 200 network calls",
        "time: not measured here (`longvid bench planned` does it)",
        "memory: not measured here",
    ]


def test_on_a_narrow_terminal_prompts_are_there_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("film.yaml").write_text(FILM)
    monkeypatch.setenv("COLUMNS", "80")
    shown = longvid("plan", "film.yaml").out
    assert all(words in shown for words in ("shot", "prompt", "a red boat", "a city", "0-120"))
    monkeypatch.setenv("COLUMNS", "40")
    assert longvid("plan", "film.yaml").out == shown


def test_time_and_memory_where_they_were_measured() -> None:
    Path("film.yaml").write_text("shots: [{prompt: a, seconds: 10f}]")
    measured = {"seconds_per_call": [[4, 10]], "decode_seconds_per_frame": 0.5, "peak_bytes": 960_000_000}
    measured |= {"device": "a CPU", "dtype": "bfloat16", "machine": platform.node(), "date": "2026-11-22"}
    measurements.write("planned", (96, 64), measured)
    assert longvid("plan", "film.yaml").out.splitlines()[-2:] == [
        "time: about 5:28 (a CPU, bfloat16, measured 2026-11-22)",
        "memory: 1.0 GB (a CPU, bfloat16, measured 2026-11-22)",
    ]
    cost = json.loads(longvid("plan", "film.yaml", "--json").out)["cost"]
    assert cost == {
        "chunks": 1,
        "evaluations": 16,
        "network_calls": 32,
        "seconds": 328.0,
        "memory_bytes": 960_000_000,
        "measured": {"device": "a CPU", "dtype": "bfloat16", "date": "2026-11-22"},
    }


def test_memory_as_the_model_says(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("film.yaml").write_text("shots: [{prompt: a, seconds: 10f}]")
    monkeypatch.setattr(
        PlanBackend,
        "rungs",
        lambda self, spec, value_bytes: [Rung(RESIDENT, spec.size[0] * 10_000_000, "all of it")],
    )
    assert longvid("plan", "film.yaml").out.splitlines()[-1] == "memory: 1.0 GB (as the model says)"
    cost = json.loads(longvid("plan", "film.yaml", "--json").out)["cost"]
    assert (cost["memory_bytes"], cost["measured"]) == (960_000_000, None)


def test_for_programs() -> None:
    Path("film.yaml").write_text(FILM)
    ran = longvid("plan", "film.yaml", "--json")
    assert (ran.code, ran.err) == (0, "")
    plan = json.loads(ran.out)
    assert plan["cost"] == {
        "chunks": 19,
        "evaluations": 100,
        "network_calls": 200,
        "seconds": None,
        "memory_bytes": None,
        "measured": None,
    }
    assert plan["seconds"] == 298 / 12
    assert plan["shots"][1] == {
        "index": 1,
        "title": "Storm",
        "prompt": "[bold]zzstorm[/bold]",
        "first_unit": 7,
        "units": 9,
        "run": 0,
        "cut": False,
        "requested_start_frame": 120,
        "start_frame": 112,
        "requested_end_frame": 250,
        "end_frame": 250,
        "blend_units": 2,
        "guidance": 3.0,
        "seed": 7,
        "picture": None,
        "unknown_words": ["zzstorm"],
        "evaluations": 48,
    }
    assert plan["steps"] == 16
    assert len(plan["sha256"]) == 64


def test_flags_go_before_the_timeline() -> None:
    Path("film.yaml").write_text("model: nothing\nmethod: nothing\n" + FILM)
    flags = [
        "--model",
        "diorama",
        "--seed",
        "5",
        "--steps",
        "8",
        "--guidance",
        "1",
        "--method",
        "progressive",
    ]
    plan = json.loads(longvid("plan", "film.yaml", "--json", *flags).out)
    assert (plan["model"], plan["seed"], plan["steps"], plan["method"]) == ("planned", 5, 8, "progressive")
    assert plan["cost"]["network_calls"] == plan["cost"]["evaluations"] == 50
    assert [shot["seed"] for shot in plan["shots"]] == [5, 5, 11]
    draft = json.loads(longvid("plan", "film.yaml", "--json", "--draft", *flags[:4], *flags[6:]).out)
    assert draft["steps"] == 8


def test_a_plan_writes_nothing(tmp_path: Path) -> None:
    Path("film.yaml").write_text(FILM)
    longvid("plan", "film.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["film.yaml"]


def film(shots: str = "[{prompt: a, seconds: 2}]", **keys: object) -> bytes:
    return "".join(f"{key}: {value}\n" for key, value in {**keys, "shots": shots}.items()).encode()


BOMB = b"a: &a [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (name, name, b", ".join([b"*%c" % (name - 1)] * 10)) for name in b"bcdefghi"
)

WRONG = {
    "empty": (b"", "film.yaml: is empty"),
    "comment": (b"# nothing\n", "film.yaml: is empty"),
    "list": (b"- a\n- b\n", "film.yaml:1: is a list"),
    "scalar": (b"a film, please\n", "film.yaml:1: is a single value"),
    "binary": (bytes(range(256)), "film.yaml:"),
    "PNG": (b"\x89PNG\r\n\x1a\n\x00\x00", "film.yaml:1: is not UTF-8 text"),
    "null bytes": (b"shots: \0\0", "film.yaml:1: holds a control character"),
    "UTF-16": ("shots: []".encode("utf-16"), "film.yaml:1: is not UTF-8 text"),
    "exploding aliases": (BOMB + film(), "expands to more than 100000 values"),
    "own alias": (b"shots: &s [*s]", "film.yaml:1: is more than 20 levels deep, or holds itself"),
    "deep": (b"shots: " + b"[" * 10_000, "film.yaml:1: is more than 20 levels deep"),
    "python tag": (film("!!python/object/apply:os.system ['touch run']"), "film.yaml:1: the tag "),
    "python name": (film(title="!!python/name:os.system"), "film.yaml:1: the tag "),
    "duplicate key": (film(seed="1\nseed: 2"), "film.yaml:2: seed: is given twice, first on line 1"),
    "unknown key": (film(sed=1), "film.yaml:1: sed: is no key of the film; did you mean seed?"),
    "unknown shot key": (film("[{promt: a}]"), "film.yaml:1: shots[0].promt: is no key of a shot; did you mean prompt?"),
    "tab": (b"shots:\n\t- prompt: a\n", "film.yaml:2: a tab; YAML takes spaces"),
    "unclosed": (film("[{prompt: a"), "film.yaml:2: "),
    "two documents": (film() + b"---\n" + film(), "film.yaml:2: a second document begins here; remove the second ---"),
    "no shots": (b"seed: 1\n", "film.yaml:1: shots: is missing"),
    "empty shots": (film("[]"), "film.yaml:1: shots: needs a list of at least one shot"),
    "no prompt": (film("[{seconds: 2}]"), "film.yaml:1: shots[0].prompt: is missing"),
    "no end": (film("[{prompt: a}]"), "film.yaml:1: shots[0]: has no end"),
    "late start": (film("[{prompt: a, at: 1, seconds: 2}]"), "film.yaml:1: shots[0].at: is 0:01; the first shot starts at 0"),
    "gap": (film("[{prompt: a, seconds: 2}, {prompt: b, at: 3, seconds: 2}]"), "shots[1].at: is 0:03, but shots[0] ends at 0:02: a gap of 1 s"),
    "overlap": (film("[{prompt: a, seconds: 4}, {prompt: b, at: 3, seconds: 2}]"), "shots[1].at: is 0:03, but shots[0] ends at 0:04: an overlap of 1 s"),
    "seconds and until": (film("[{prompt: a, seconds: 4, until: 4}]"), "shots[0].until: stands beside `seconds`"),
    "too short": (film("[{prompt: a, seconds: 4}, {prompt: b, seconds: 0.5}, {prompt: c, seconds: 4}]"), "shots[1].seconds: 0.5 s is too short to hold one of the model's chunks; at least 16f (1.333 s)"),
    "no length": (film("[{prompt: a, seconds: 0}]"), "shots[0].seconds: 0 s is less than a frame"),
    "long blend": (film("[{prompt: a, seconds: 4}, {prompt: b, seconds: 2, blend_seconds: 9}]"), "shots[1].blend_seconds: 9 s is longer than the shot (2 s); at most 2 s"),
    "NaN": (film("[{prompt: a, seconds: .nan}]"), "shots[0].seconds: '.nan' is not a time"),
    "infinity": (film("[{prompt: a, seconds: .inf}]"), "shots[0].seconds: '.inf' is not a time"),
    "1e99": (film("[{prompt: a, seconds: 1e99}]"), "shots[0].seconds: 1e99 is too large"),
    "1e999999999": (film("[{prompt: a, seconds: 1e999999999}]"), "shots[0].seconds: 1e999999999 is too large"),
    "negative": (film("[{prompt: a, seconds: -2}]"), "shots[0].seconds: -2 is negative"),
    "a week": (film("[{prompt: a, seconds: 604800}]"), "shots[0].seconds: 604800 is longer than a day"),
    "a billion frames": (film("[{prompt: a, seconds: 999999999f}]"), "shots[0].seconds: ends at 23148:08:53.25; a film lasts at most a day"),
    "text for a number": (film(steps="many"), "film.yaml:1: steps: 'many' is not a whole number"),
    "number for text": (film(title=7), "film.yaml:1: title: 7 is not text; put it in quotes"),
    "list for text": (film("[{prompt: [a], seconds: 2}]"), "shots[0].prompt: ['a'] is not text"),
    "bool for a number": (film(seed="true"), "film.yaml:1: seed: true is not a whole number"),
    "NaN guidance": (film(guidance=".nan"), "film.yaml:1: guidance: '.nan' is not a number"),
    "unknown model": (film(model="dioramma"), "film.yaml:1: model: no model 'dioramma'; did you mean diorama?"),
    "unknown folder": (film(model="./none"), "film.yaml:1: model: there is no folder none"),
    "unknown method": (film(method="progresive"), "film.yaml:1: method: no method 'progresive'; did you mean progressive?"),
    "unknown option": (film(model_options="{fast: true}"), "film.yaml:1: model_options.fast: unknown; known: gain"),
    "impossible size": (film(size="[97, 64]"), "film.yaml:1: size: planned has no size [97, 64]; nearest: [96, 64]"),
    "negative size": (film(size="[-96, 64]"), "film.yaml:1: size[0]: -96 is too small; at least 1"),
    "huge size": (film(size="[96, 1e99]"), "film.yaml:1: size[1]: 1e99 is not a whole number"),
    "impossible rate": (film(fps=60), "film.yaml:1: fps: planned does not run at 60 frames a second; nearest: 24"),
    "steps and window": (film(steps=15), "film.yaml:1: steps: 15 steps are no multiple of the window's 4 chunks; nearest: 12 or 16"),
    "no picture": (film("[{prompt: a, seconds: 2, image: a.png}]"), "shots[0].image: there is no file 'a.png'"),
    "no clip": (film(start_from="a.mp4"), "film.yaml:1: start_from: there is no file 'a.mp4'"),
    "picture without a cut": (film("[{prompt: a, seconds: 2}, {prompt: b, seconds: 2, image: a.png}]"), "shots[1].image: this shot flows on from the one before it; add `cut: true`"),
    "no music": (film(output="{music: a.mp3}"), "film.yaml:1: output.music: there is no file 'a.mp3'"),
}  # fmt: skip


@pytest.mark.parametrize("content", WRONG.values(), ids=list(WRONG))
def test_wrong_input_is_one_clear_line(content: tuple[bytes, str], tmp_path: Path) -> None:
    text, message = content
    Path("film.yaml").write_bytes(text)
    ran = longvid("plan", "film.yaml")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: film.yaml:")
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert len(ran.err) < 250
    assert [path.name for path in tmp_path.iterdir()] == ["film.yaml"]


def missing(path: Path) -> str:
    return "no such file; `longvid new film.yaml` writes a timeline to start from"


def folder(path: Path) -> str:
    path.mkdir()
    return "is a folder, not a timeline"


def huge(path: Path) -> str:
    with path.open("wb") as file:
        file.truncate(100_000_000)
    return "has 100,000,000 bytes; a timeline has at most 1,000,000"


@pytest.mark.parametrize("make", [missing, folder, huge])
def test_what_is_no_file(make: Callable[[Path], str]) -> None:
    message = make(Path("film.yaml"))
    ran = longvid("plan", "film.yaml")
    assert (ran.code, ran.out, ran.err) == (2, "", f"error: film.yaml: {message}\n")


def test_methods_side_by_side() -> None:
    """15 chunks of 16 frames and one run of 3, S = 16, K = 4: counted by hand."""
    Path("film.yaml").write_text(FILM)
    ran = longvid("plan", "film.yaml", "--methods", "--json")
    assert (ran.code, ran.err) == (0, "")
    found = {each["method"]: each for each in json.loads(ran.out)}
    assert list(found) == ["progressive", "replace", "replace-noised", "fifo", "chained"]
    first, second = json.loads(longvid("plan", "film.yaml", "--json").out)["runs"]
    assert found["progressive"]["evaluations"] == (first - 1) * 4 + 16 + (second - 1) * 4 + 16
    groups = -(-first // 4) - (-second // 4)
    for name in ("replace", "replace-noised", "chained"):
        assert found[name]["evaluations"] == 16 * groups
    assert found["chained"]["latents"] < found["replace"]["latents"] == found["replace-noised"]["latents"]
    assert found["fifo"]["evaluations"] > found["progressive"]["evaluations"]
    shown = longvid("plan", "film.yaml", "--methods").out
    assert "a queue of single latents" in shown and f"{found['fifo']['evaluations']:,}" in shown


def test_a_method_with_options_is_compared_as_well() -> None:
    Path("film.yaml").write_text(FILM)
    ran = longvid("plan", "film.yaml", "--methods", "--json", "--method", "progressive:overlap=0")
    found = {each["method"]: each for each in json.loads(ran.out)}
    assert list(found)[5:] == ["progressive:overlap=0"]
    own, default = found["progressive:overlap=0"], found["progressive"]
    assert own["says"] == "progressive with overlap=0", "not what is said of it without"
    assert own["latents"] < default["latents"], "no clean chunk is shown"
    again = longvid("plan", "film.yaml", "--methods", "--json", "--method", "fifo")
    assert len(json.loads(again.out)) == 5
    wrong = longvid("plan", "film.yaml", "--methods", "--method", "fifo:no=1")
    assert (wrong.code, wrong.out) == (2, "") and "fifo has no option 'no'" in wrong.err


def test_a_method_that_cannot_make_the_film_says_why() -> None:
    Path("film.yaml").write_text("steps: 15\nwindow: 5\n" + FILM)
    found = {
        each["method"]: each for each in json.loads(longvid("plan", "film.yaml", "--methods", "--json").out)
    }
    assert found["progressive"]["problem"] is None
    assert "try even steps" in found["fifo"]["problem"] and found["fifo"]["evaluations"] is None
    Path("film.yaml").write_text("method: fifo\nsteps: 15\nwindow: 5\n" + FILM)
    ran = longvid("plan", "film.yaml")
    assert ran.code == 2
    assert "method: fifo: 15 steps cannot be 1 partitions of evenly many latents; try even steps" in ran.err
