import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from longvid import benchmarks, measurements
from longvid.benchmarks import Setup
from longvid.benchmarks.films import FilmRun, measure_film, measure_finishing
from longvid.benchmarks.steps import Rate, StepRun, Steps, measure_steps
from longvid.commands.bench import report
from tests.installed import environment, install_tiny
from tests.planning import Ran, longvid

SHORT = FilmRun(
    film_seconds=10.0,
    frames=120,
    seconds=2.0,
    network_seconds=1.0,
    loop_seconds=1.1,
    decode_seconds=0.2,
    encode_seconds=0.3,
    peak_bytes=500_000_000,
    device_peak_bytes=None,
    network_calls=100,
    size=(24, 16),
    dtype="bfloat16",
    device="a CPU",
    threads=2,
    compiled=False,
    rung="resident",
    by_default=True,
)
LONG = replace(
    SHORT,
    film_seconds=60.0,
    frames=720,
    seconds=15.0,
    network_seconds=8.0,
    loop_seconds=8.4,
    peak_bytes=510_000_000,
)
NARROW = StepRun(
    latents=4,
    dtype="bfloat16",
    compiled=False,
    seconds=0.02,
    median_seconds=0.024,
    first_seconds=0.1,
    runs=9,
    calls=2,
    flop=8_000_000_000,
    square=Rate((1000, 1000, 1000), 0.004),  # 0.5 TFLOP/s; the step's are 0.4
    linear=Rate((500, 100, 1000), 0.0002),  # 0.5 TFLOP/s
)
WIDE = replace(NARROW, dtype="float32", seconds=0.05, square=Rate((1000, 1000, 1000), 0.01), linear=None)
STEPS = Steps(
    device="a CPU",
    card=False,
    threads=2,
    size=(24, 16),
    runs=(NARROW, WIDE, *(replace(run, latents=8, flop=2 * run.flop) for run in (NARROW, WIDE))),
    skipped=(),
)
SETUP = Setup("tiny")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(install_tiny(tmp_path / "plugins")))
    monkeypatch.setenv("PYTHONPATH", environment(tmp_path / "plugins")["PYTHONPATH"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return tmp_path


class Measured:
    """In place of `alone`: answers that were made before, and a list of the questions."""

    def __init__(self, steps: Steps = STEPS, short: FilmRun = SHORT, long: FilmRun = LONG) -> None:
        self.steps, self.short, self.long = steps, short, long
        self.films: list[tuple[int, bool]] = []
        self.windows: list[int] = []
        self.finished = False

    def __call__(self, function: object, setup: Setup, *args: Any) -> object:
        if function is measure_steps:
            self.windows = list(args[0])
            return self.steps
        if function is measure_finishing:
            self.finished = True
            return 0.5
        assert function is measure_film
        (seconds,) = args
        self.films.append((seconds, setup.compile))
        return replace(self.short if seconds <= 10 else self.long, compiled=setup.compile)


@pytest.fixture
def measured(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Measured:
    answers = Measured()
    monkeypatch.setattr(benchmarks, "alone", answers)
    return answers


def facts(*args: object) -> tuple[dict[str, Any], Ran]:
    ran = longvid("bench", "tiny", "--json", *args)
    assert ran.code == 0
    return json.loads(ran.out), ran


def test_a_bench_is_what_plan_estimates_from(tiny: Path) -> None:
    said, ran = facts("--seconds", 12)
    assert ran.err == ""
    assert [call["latents"] for call in said["seconds_per_call"]] == [2, 4, 6, 8, 10]
    assert said["steps_estimated"] == []
    assert said["film_estimated"] is None
    for step in said["steps"]:
        assert step["network_calls"] == 2
        assert 0 < step["seconds"] <= step["median_seconds"]
        assert step["tflops"] == step["flop"] / step["seconds"] / 1e12
    short, long = said["films"]
    assert (short["frames"], long["frames"]) == (120, 144)
    # 15 and 18 chunks: (N - 1) m + S evaluations, two calls each.
    assert (short["network_calls"], long["network_calls"]) == (2 * 36, 2 * 42)
    for run in (short, long):
        assert 0 < run["network_seconds"] < run["loop_seconds"] < run["seconds"]
        assert 0 < run["decode_seconds"] + run["encode_seconds"] < run["seconds"]
        assert run["peak_bytes"] > 50_000_000
    kept = measurements.read()["tiny"]["24x16"]
    assert kept["seconds_per_call"] == [
        [call["latents"], call["seconds"]] for call in said["seconds_per_call"]
    ]
    assert kept["decode_seconds_per_frame"] == (long["seconds"] - long["network_seconds"]) / 144
    timeline = tiny / "film.yaml"
    timeline.write_text("{model: tiny, shots: [{prompt: x, seconds: 12}]}")
    planned = json.loads(longvid("plan", timeline, "--json").out)
    assert 0 < planned["cost"]["seconds"] < 60
    assert planned["cost"]["memory_bytes"] == kept["peak_bytes"] == long["peak_bytes"]
    assert planned["cost"]["measured"]["device"] == long["device"] == said["device"]
    assert planned["cost"]["measured"]["dtype"] == long["dtype"] == said["dtype"]


def test_the_report_says_what_was_asked() -> None:
    said = report("tiny", SETUP, STEPS, [SHORT, LONG], None)
    assert said["frames_per_second"] == 48.0
    assert said["compute_seconds_per_film_second"] == 0.25
    assert said["loop_overhead"] == pytest.approx(0.05)
    assert said["peak_ratio"] == pytest.approx(1.02)
    assert said["seconds_per_call"] == [{"latents": 4, "seconds": 0.012}, {"latents": 8, "seconds": 0.012}]
    narrow, wide = said["steps"][:2]
    assert narrow["tflops"] == pytest.approx(0.4)
    assert narrow["square"] == {"shape": [1000, 1000, 1000], "tflops": pytest.approx(0.5)}
    assert narrow["linear"] == {"shape": [500, 100, 1000], "tflops": pytest.approx(0.5)}
    assert narrow["share_of_square"] == narrow["share_of_linear"] == pytest.approx(0.8)
    assert narrow["of_float32"] == pytest.approx(0.4)
    assert wide["share_of_square"] == pytest.approx(0.16 / 0.2)
    assert (wide["linear"], wide["share_of_linear"], wide["of_float32"]) == (None, None, 1.0)


def test_a_compiled_step_stands_beside_the_eager_one() -> None:
    compiled = replace(NARROW, compiled=True, seconds=0.015)
    steps = replace(STEPS, runs=(compiled, NARROW))
    films = [replace(SHORT, compiled=True), replace(LONG, compiled=True, seconds=10.0), LONG]
    said = report("tiny", replace(SETUP, compile=True), steps, films, None)
    assert [step["of_eager"] for step in said["steps"]] == [pytest.approx(0.75), 1.0]
    assert (said["compiled"], said["frames_per_second"]) == (True, 72.0)


def test_the_table_holds_the_same(measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    ran = longvid("bench", "tiny")
    assert ran.code == 0
    assert "tiny, 24x16, bfloat16 on a CPU, 2 threads" in ran.out
    cells = [line.split() for line in ran.out.splitlines()]
    assert ["4", "latents", "bfloat16", "20", "ms", "0.008", "0.4", "80.0%", "80.0%", "40.0%"] in cells
    assert ["4", "latents", "float32", "50", "ms", "0.008", "0.16", "80.0%"] in cells
    assert "a matrix product of side 1000, 0.5 TFLOP/s in bfloat16, 0.2 TFLOP/s in float32" in ran.out
    assert ["10", "s", "2.0", "1.0", "1.1", "0.2", "0.3", "60.0", "500", "MB"] in cells
    assert (
        "compute: 0.25 s a second of film; loop: +5.0% over the bare network calls; "
        "memory: +2.0% from 10 to 60 s of film"
    ) in ran.out
    assert measured.windows == [1, 2, 3, 4, 5]


def test_a_compiled_film_stands_beside_the_eager_one(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    measured.steps = replace(STEPS, runs=(replace(NARROW, compiled=True, seconds=0.01), NARROW))
    ran = longvid("bench", "tiny", "--compile")
    assert measured.films == [(10, True), (60, True), (60, False)]
    cells = [line.split() for line in ran.out.splitlines()]
    compiled = [
        "4",
        "latents",
        "bfloat16,",
        "compiled",
        "10",
        "ms",
        "0.008",
        "0.8",
        "160.0%",
        "160.0%",
        "50.0%",
    ]
    assert compiled in cells
    assert [line[:3] for line in cells if line[1:2] == ["s,"] or line[1:2] == ["s"]][:3] == [
        ["10", "s", "2.0"],
        ["60", "s", "15.0"],
        ["60", "s,", "eager"],
    ]
    assert measurements.read() == {}


def test_what_there_is_no_time_for_is_estimated(measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    slow = replace(NARROW, latents=2, seconds=36.0, median_seconds=36.0)
    measured.steps = replace(STEPS, runs=(slow,), skipped=(4, 10))
    ran = longvid("bench", "tiny")
    assert (measured.films, measured.finished) == ([], True)
    cells = [line.split() for line in ran.out.splitlines()]
    assert ["10", "latents", "bfloat16", "about", "180", "s"] in cells
    # A call of 2 latents takes 18 s; 720 frames at 0.5 s are finished beside them.
    planned = SETUP.plan(60)
    seconds = sum(9 * latents * calls for latents, calls in planned.calls_by_latents) + 360
    assert f"60 s of film would take about {seconds:.0f} s" in ran.out
    assert "an estimate, --budget-seconds was too little" in ran.out
    assert "it is not the whole measurement" in ran.err
    assert measurements.read() == {}


def test_a_shorter_film_is_rendered_where_there_is_time_for_that(measured: Measured) -> None:
    slow = replace(NARROW, latents=2, seconds=1.0, median_seconds=1.0)
    measured.steps = replace(STEPS, runs=(slow,))
    said, _ = facts("--budget-seconds", 100)
    assert measured.films == [(5, False)]
    assert not measured.finished
    assert said["film_estimated"]["frames"] == 720
    assert said["frames_per_second"] == 720 / said["film_estimated"]["seconds"]
    assert said["peak_ratio"] is None


def test_one_window_without_films(measured: Measured) -> None:
    said, ran = facts("--no-films", "--latents", 8, "--latents", 4)
    assert (measured.windows, measured.films) == ([2, 4], [])
    assert said["films"] == []
    assert said["frames_per_second"] is said["loop_overhead"] is said["peak_ratio"] is None
    assert "it is not the whole measurement" in ran.err


def test_random_weights_are_nothing_to_plan_from(measured: Measured) -> None:
    said, ran = facts("--random-weights")
    assert said["random_weights"] is True
    assert ran.err == ""
    assert measurements.read() == {}


def test_a_measurement_that_cannot_be_kept_is_shown_all_the_same(tiny: Path, measured: Measured) -> None:
    (tiny / "cache").touch()  # a file where the folder should be
    said, ran = facts()
    assert said["frames_per_second"] == 48.0
    assert ran.err.startswith("warning: `longvid plan` cannot estimate from this, it could not be kept: ")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("flags", [("--dtype", "float32"), ("--threads", "1"), ("--compile",)])
def test_what_no_render_here_does_by_default_is_not_kept(measured: Measured, flags: tuple[str, ...]) -> None:
    measured.long = replace(LONG, by_default="--dtype" not in flags)
    measured.steps = replace(STEPS, runs=(NARROW,))
    _, ran = facts(*flags)
    assert "a render here computes in another way by default" in ran.err
    assert measurements.read() == {}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("nothing",), "no model 'nothing'"),
        (("tiny", "--latents", 5), "--latents 5: a window is of whole chunks of 2; try 4"),
        (("tiny", "--latents", 1), "--latents 1: a window is of whole chunks of 2; try 2"),
        (("tiny", "--size", "24"), "--size 24: is no width x height in pixels, as 424x240"),
        (("tiny", "--size", "25x16"), "size"),
        (("diorama", "--random-weights"), "--random-weights: diorama's own come with longvid; leave it out"),
    ],
)
def test_what_is_wrong_is_one_line(tiny: Path, args: tuple[object, ...], said: str) -> None:
    ran = longvid("bench", *args)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_open_sora_without_a_file() -> None:
    folder = Path(__file__).parents[1] / "backends" / "opensora" / "mid"
    flags = ("--random-weights", "--no-films", "--latents", 5, "--size", "48x32", "--threads", 1)
    ran = longvid("bench", folder, *flags, "--device", "cpu", "--dtype", "float32", "--json")
    assert (ran.code, ran.err) == (0, "")
    said = json.loads(ran.out)
    assert (said["model"], said["folder"], said["random_weights"]) == ("opensora-v1.2", str(folder), True)
    assert (said["size"], said["threads"], said["dtype"]) == ([48, 32], 1, "float32")
    (step,) = said["steps"]
    assert (step["latents"], step["network_calls"]) == (5, 2)
    assert step["linear"]["shape"][0] == 5 * 2 * 3  # tokens of the window, none of a prompt
    assert 0 < step["share_of_linear"] < 1
