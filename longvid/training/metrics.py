"""The figures of a training by step, ``metrics.jsonl``: one JSON object a line. Torch-free.

{"step": 500, "loss": 0.81, "lr": 0.0001, "seconds": 1.4, ..., "held_out": 0.79, "held_out_steady": 0.74}
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longvid.errors import RenderError
from longvid.files import write

if TYPE_CHECKING:
    from longvid.training.trainer import Stepped


def mean(held_out: Mapping[str, float]) -> float | None:
    """One figure of the losses by check; None where none was measured. The text checks are for comparison
    with each other, and do not count."""
    counted = [loss for check, loss in held_out.items() if not check.startswith("text")]
    return sum(counted) / len(counted) if counted else None


def row(stepped: Stepped) -> dict[str, Any]:
    """A step's figures. A loss that is not finite is null, which JSON can say."""
    figures = {key: value for key, value in asdict(stepped).items() if key != "held_out"}
    if stepped.held_out:
        figures["held_out"] = mean(stepped.held_out)
        figures |= {f"held_out_{kind}": loss for kind, loss in stepped.held_out.items()}
    return {key: value if math.isfinite(value) else None for key, value in figures.items()}


def append(path: Path, stepped: Stepped) -> None:
    """One line more. Raises RenderError where the disk refuses."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row(stepped)) + "\n")
    except OSError as error:
        raise RenderError(f"{path}: cannot be written: {error.strerror or error}") from error


def keep(path: Path, step: int) -> None:
    """Let go of what lies behind ``step``, from which a run goes on: of steps that come anew, and of a line
    that a kill cut short. Raises RenderError where the disk refuses."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return
    kept = []
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):
            if line.endswith(b"\n") and json.loads(line)["step"] <= step:
                kept.append(line)
    if kept != lines:
        write(path, b"".join(kept))
