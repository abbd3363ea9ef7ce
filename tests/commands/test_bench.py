import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from longvid import measurements
from longvid.commands import bench
from longvid.commands.bench import FilmRun, Timed, peak_memory, report
from tests.installed import environment, install_tiny
from tests.planning import longvid

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
    calls=((4, 0.01), (8, 0.02)),
    network_calls=100,
    size=(96, 64),
    dtype="bfloat16",
    device="a CPU",
    threads=2,
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


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Path:
    monkeypatch.syspath_prepend(str(install_tiny(tmp_path / "plugins")))
    monkeypatch.setenv("PYTHONPATH", environment(tmp_path / "plugins")["PYTHONPATH"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_a_bench_is_what_plan_estimates_from(tiny, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    ran = longvid("bench", "tiny", "--json", "--seconds", 12)
    assert (ran.code, ran.err) == (0, "")
    facts = json.loads(ran.out)
    assert [call["latents"] for call in facts["seconds_per_call"]] == [2, 4, 6, 8, 10]
    short, long = facts["films"]
    assert (short["frames"], long["frames"]) == (120, 144)
    # 15 and 18 chunks: (N - 1) m + S evaluations, two calls each.
    assert (short["network_calls"], long["network_calls"]) == (2 * 36, 2 * 42)
    for run in (short, long):
        assert 0 < run["network_seconds"] < run["loop_seconds"] < run["seconds"]
        assert 0 < run["decode_seconds"] + run["encode_seconds"] < run["seconds"]
        assert run["peak_bytes"] > 50_000_000
    measured = measurements.read()["tiny"]["24x16"]
    assert measured["seconds_per_call"] == [
        [call["latents"], call["seconds"]] for call in facts["seconds_per_call"]
    ]
    assert measured["decode_seconds_per_frame"] == (long["seconds"] - long["network_seconds"]) / 144
    timeline = tiny / "film.yaml"
    timeline.write_text("{model: tiny, shots: [{prompt: x, seconds: 12}]}")
    planned = json.loads(longvid("plan", timeline, "--json").out)
    assert 0 < planned["cost"]["seconds"] < 60
    assert planned["cost"]["memory_bytes"] == measured["peak_bytes"] == long["peak_bytes"]
    assert planned["cost"]["measured"]["device"] == long["device"] == facts["device"]
    assert planned["cost"]["measured"]["dtype"] == long["dtype"]


def test_the_report_says_what_was_asked():
    facts = report("diorama", SHORT, LONG)
    assert facts["frames_per_second"] == 48.0
    assert facts["compute_seconds_per_film_second"] == 0.25
    assert facts["loop_overhead"] == pytest.approx(0.05)
    assert facts["peak_ratio"] == pytest.approx(1.02)
    assert facts["seconds_per_call"] == [{"latents": 4, "seconds": 0.01}, {"latents": 8, "seconds": 0.02}]


def test_the_table_holds_the_same(tiny, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(
        bench, "alone", lambda model, seconds, *rest, **more: SHORT if seconds == 10 else LONG
    )
    ran = longvid("bench", "tiny")
    assert ran.code == 0
    assert "tiny, 96x64, bfloat16 on a CPU, 2 threads" in ran.out
    assert "2 chunks, 8 latents" in ran.out
    assert "20.0 ms" in ran.out
    cells = [line.split() for line in ran.out.splitlines()]
    assert ["10", "s", "2.0", "1.0", "1.1", "0.2", "0.3", "60.0", "500", "MB"] in cells
    assert (
        "compute: 0.25 s a second of film; loop: +5.0% over the bare network calls; "
        "memory: +2.0% from 10 to 60 s of film"
    ) in ran.out


def test_a_measurement_that_cannot_be_kept_is_shown_all_the_same(tiny, monkeypatch):
    (tiny / "cache").touch()  # a file where the folder should be
    monkeypatch.setattr(
        bench, "alone", lambda model, seconds, *rest, **more: SHORT if seconds == 10 else LONG
    )
    ran = longvid("bench", "tiny", "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["frames_per_second"] == 48.0
    assert ran.err.startswith("warning: `longvid plan` cannot estimate from this, it could not be kept: ")
    assert ran.err.count("\n") == 1


def test_what_no_render_here_takes_by_default_is_not_kept(tiny, monkeypatch):
    other = replace(LONG, by_default=False)
    monkeypatch.setattr(bench, "alone", lambda *args, **more: other)
    ran = longvid("bench", "tiny", "--json", "--dtype", "float32")
    assert ran.code == 0
    assert "a render here takes another device or dtype by default" in ran.err
    assert measurements.read() == {}


def test_an_unknown_model_is_one_line(tiny):
    ran = longvid("bench", "nothing")
    assert (ran.code, ran.out) == (2, "")
    assert "no model 'nothing'" in ran.err


def test_timed_calls_add_up_and_pass_through():
    timed = Timed(torch.device("cpu"))
    assert timed(pow, 2, 5) == 32
    assert timed(time.sleep, 0.01) is None
    assert timed.calls == 2
    assert timed.seconds >= 0.01


def test_peak_memory_rises_with_what_is_held():
    before = peak_memory()
    block = torch.ones(before // 4 + 5_000_000)  # beyond the highest so far
    assert peak_memory() >= before + 4 * 5_000_000 - 10_000_000
    assert len(block) > 0
