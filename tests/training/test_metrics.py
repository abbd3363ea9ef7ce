"""metrics.jsonl: one object a step, and none twice when a run goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from longvid.errors import RenderError
from longvid.training import metrics
from longvid.training.trainer import Stepped


def stepped(step: int, loss: float = 0.5, **held_out: float) -> Stepped:
    return Stepped(step, loss, 1e-4, 0.25, 2.0, 1, 8 * step, 3.0, held_out)


def rows(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_a_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics.append(path, stepped(1))
    metrics.append(path, stepped(2, float("nan"), steady=0.25, start=0.75))
    plain = {"lr": 1e-4, "seconds": 0.25, "gradient_norm": 2.0, "skipped": 1, "elapsed_seconds": 3.0}
    measured = {"held_out": 0.5, "held_out_steady": 0.25, "held_out_start": 0.75}
    assert rows(path) == [
        {"step": 1, "loss": 0.5, "samples": 8, **plain},
        {"step": 2, "loss": None, "samples": 16, **plain, **measured},
    ]


def test_what_lies_behind_a_checkpoint_goes(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics.keep(path, 3)
    assert not path.exists()
    for step in range(1, 6):
        metrics.append(path, stepped(step))
    with path.open("a") as file:
        file.write('{"step": 2, "los')
    metrics.keep(path, 3)
    assert [row["step"] for row in rows(path)] == [1, 2, 3]
    before = path.stat().st_ino
    metrics.keep(path, 3)
    assert path.stat().st_ino == before


def test_a_disk_that_refuses_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RenderError, match="cannot be written"):
        metrics.append(tmp_path / "nowhere" / "metrics.jsonl", stepped(1))
