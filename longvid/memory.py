"""The graphics cards here, and which way of holding a model fits in one. Torch-free: nvidia-smi tells it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from longvid.backends import Rung

QUERY = ("index", "uuid", "name", "memory.total", "memory.free")
PATIENCE_SECONDS = 10


@dataclass(frozen=True)
class Card:
    """A CUDA card as its driver sees it."""

    index: int
    uuid: str
    name: str
    total_bytes: int
    free_bytes: int


def cards() -> list[Card]:
    """Every card that nvidia-smi lists and CUDA_VISIBLE_DEVICES leaves, in its order; none where there is no
    nvidia-smi, or it fails."""
    command = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
        found = []
        for line in said.stdout.splitlines():
            index, uuid, name, total, free = (part.strip() for part in line.split(","))
            found.append(Card(int(index), uuid, name, int(total) << 20, int(free) << 20))
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return found if named is None else list(_visible(found, named))


def _visible(found: Sequence[Card], named: str) -> Iterator[Card]:
    """The cards that are named, by index or by the beginning of their UUID, up to the first that is none."""
    for name in (part.strip() for part in named.split(",")):
        card = next((c for c in found if name == str(c.index) or (name and c.uuid.startswith(name))), None)
        if card is None:
            return
        yield card


def fits(rung: Rung, free_bytes: int) -> bool:
    """Whether a rung goes into the free memory, as far as is known: what nobody knows is tried."""
    return rung.peak_bytes is None or rung.peak_bytes <= free_bytes


def first_fitting(rungs: Sequence[Rung], free_bytes: int) -> int:
    """Place of the fastest rung that fits in the free memory; the last one's where none does."""
    return next((k for k, rung in enumerate(rungs) if fits(rung, free_bytes)), len(rungs) - 1)
