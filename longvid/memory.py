"""The graphics cards here, and which way of holding a model fits in one. Torch-free: nvidia-smi tells it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from longvid.backends import Rung

QUERY = ("index", "name", "memory.total", "memory.free")
PATIENCE_SECONDS = 10


@dataclass(frozen=True)
class Card:
    """A CUDA card as its driver sees it."""

    index: int
    name: str
    total_bytes: int
    free_bytes: int


def cards() -> list[Card]:
    """Every card that nvidia-smi lists; none where there is no nvidia-smi, or it fails."""
    command = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
        found = []
        for line in said.stdout.splitlines():
            index, name, total, free = (part.strip() for part in line.split(","))
            found.append(Card(int(index), name, int(total) << 20, int(free) << 20))
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
    return found


def fits(rung: Rung, free_bytes: int) -> bool:
    """Whether a rung goes into the free memory, as far as is known: what nobody knows is tried."""
    return rung.peak_bytes is None or rung.peak_bytes <= free_bytes


def first_fitting(rungs: Sequence[Rung], free_bytes: int) -> int:
    """Place of the fastest rung that fits in the free memory; the last one's where none does."""
    return next((k for k, rung in enumerate(rungs) if fits(rung, free_bytes)), len(rungs) - 1)
