"""What `longvid bench` measured on this machine, kept for `longvid plan`.

``$XDG_CACHE_HOME/longvid/bench.json``, or ``~/.cache`` where that is not set:

    {"diorama": {"192x128": {"seconds_per_call": [[4, 0.01], [20, 0.03]], "decode_seconds_per_frame": 0.001,
                             "peak_bytes": 500000000, "device": "AMD EPYC", "dtype": "bfloat16",
                             "machine": "studio", "torch": "2.13.0", "date": "2026-11-22"}}}

``seconds_per_call``: seconds of one network call by latent frames in its window. ``peak_bytes``: highest
memory of a whole film, on the card where there is one. Only what a render chooses here by default is kept.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from longvid.plan import RenderPlan


def path() -> Path:
    """The file; it need not be there."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longvid" / "bench.json"


def read() -> dict[str, Any]:
    """Every measurement; empty where there is none, or none that can be read."""
    try:
        measured = json.loads(path().read_text("utf-8"))
    except (OSError, ValueError, RuntimeError):  # the last where there is no home folder
        return {}
    return measured if isinstance(measured, dict) else {}


def write(model: str, size: tuple[int, int], measured: Mapping[str, Any]) -> None:
    """Put a model's measurement at a size in place of the last one; whole or not at all.

    Raises OSError where the disk refuses, RuntimeError where there is no home folder.
    """
    everything = read()
    everything[model] = {**everything.get(model, {}), key(size): dict(measured)}
    path().parent.mkdir(parents=True, exist_ok=True)
    temporary = path().with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(everything, indent=1), "utf-8")
    temporary.replace(path())


def key(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


@dataclass(frozen=True)
class Estimate:
    """What a render takes here, and what that is known from."""

    seconds: float
    memory_bytes: int
    device: str
    dtype: str
    date: str

    def source(self) -> str:
        return f"{self.device}, {self.dtype}, measured {self.date}"


def estimate(plan: RenderPlan) -> Estimate | None:
    """The cost of a render here, or None where its model and size were not measured on this machine."""
    try:
        measured = read()[plan.model][key(plan.size)]
        if measured["machine"] != platform.node():  # a home folder may be shared
            return None
        points = sorted((int(latents), float(seconds)) for latents, seconds in measured["seconds_per_call"])
        per_frame = float(measured["decode_seconds_per_frame"])
        memory = int(measured["peak_bytes"])
        device, dtype, date = (str(measured[name]) for name in ("device", "dtype", "date"))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if not points or points[0][0] < 1:
        return None
    network = sum(calls * seconds_per_call(points, latents) for latents, calls in plan.calls_by_latents)
    total = network + per_frame * sum(unit.decoded_frames for unit in plan.units)
    return Estimate(total, memory, device, dtype, date) if math.isfinite(total) else None


def seconds_per_call(points: list[tuple[int, float]], latents: int) -> float:
    """Linear between the measured (latents, seconds), in order; in proportion outside of them."""
    for (left, left_seconds), (right, right_seconds) in pairwise(points):
        if left <= latents <= right:
            return left_seconds + (right_seconds - left_seconds) * (latents - left) / max(right - left, 1)
    nearest, seconds = points[0] if latents < points[0][0] else points[-1]
    return seconds * latents / nearest
