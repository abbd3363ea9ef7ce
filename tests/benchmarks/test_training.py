from __future__ import annotations

import json
from pathlib import Path

import pytest

from longvid.benchmarks import Setup
from longvid.benchmarks.training import LEAST_STEPS, measure_training
from tests.installed import environment, install_tiny
from tests.planning import longvid


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = install_tiny(tmp_path)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", environment(folder)["PYTHONPATH"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.mark.usefixtures("tiny")
def test_a_step_stands_beside_the_bare_network() -> None:
    run = measure_training(Setup("tiny", dtype="float32"), 60, steps=6, batch=4, micro_batch=2)
    assert (run.steps, run.batch, run.micro_batch, run.latents) == (6, 4, 2, 10)
    assert (run.size, run.precision, run.parameters, run.card) == ((24, 16), "float32", 120, False)
    # The step holds the passes; a network of 120 numbers costs less than what is round it.
    assert 0 < run.bare_seconds < run.seconds
    assert run.ratio == run.seconds / run.bare_seconds


@pytest.mark.usefixtures("tiny")
def test_the_budget_ends_it() -> None:
    assert measure_training(Setup("tiny", dtype="float32"), 0, steps=50).steps == LEAST_STEPS


@pytest.mark.usefixtures("tiny")
def test_the_command_says_it() -> None:
    asked = ("bench", "tiny", "--training", "--dtype", "float32", "--threads", 1)
    ran = longvid(*asked, "--json")
    assert (ran.code, ran.err) == (0, "")
    said = json.loads(ran.out)
    assert (said["model"], said["batch"], said["threads"]) == ("tiny", 4, 1)
    assert said["ratio"] == said["seconds"] / said["bare_seconds"]
    ran = longvid(
        "bench", "tiny", "--training", "--dtype", "float32", "--threads", "1", "--budget-seconds", "1"
    )
    assert ran.code == 0
    first, second = ran.out.splitlines()
    assert first.startswith("tiny, 24x16, float32 on ") and first.endswith(", 1 thread")
    assert second.startswith("a step of 4 windows of 10 latents, 1 at once: ")
