"""Where a render stands, and what it tells of that: its events, and its record in run.json."""

from __future__ import annotations

import platform
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from longvid import __version__
from longvid.backends import Runtime
from longvid.denoise import WindowState
from longvid.devices import device_name
from longvid.finishing import Clean, Finishing
from longvid.plan import RenderPlan
from longvid.progress import Began, ChunkSaved, Done, Stepped
from longvid.video import reader


@dataclass
class Standing:
    """Where a render stands, to go on from when memory runs out."""

    state: WindowState
    again: Iterator[Clean]
    """Chunks of an earlier render that are only decoded again."""
    begun_at: int = 0
    """The global step that this render goes on from."""
    began_at: float | None = None
    """Monotonic seconds of the first evaluation."""
    waiting: deque[Clean] = field(default_factory=deque)
    """Finished chunks that are not on disk yet."""
    saving: Future[ChunkSaved] | None = None
    """Of the first of them."""

    def unsaved(self) -> Iterator[Clean]:
        """The waiting chunks, but for one that has been saved by now."""
        if self.saving is not None:
            self.saving.result()
            self.saving = None
            self.waiting.popleft()
        while self.waiting:
            yield self.waiting[0]
            self.waiting.popleft()


def began(planned: RenderPlan, output: Path, runtime: Runtime) -> Began:
    width, height = planned.size
    return Began(
        title=planned.title,
        output=str(output),
        model=planned.model,
        device=device_name(runtime.device),
        dtype=dtype_name(runtime.dtype),
        size=(width * planned.scale, height * planned.scale),
        fps=float(planned.fps),
        frames=planned.frames,
        chunks=len(planned.units),
        shots=len(planned.shots),
        evaluations=planned.evaluations,
        steps=planned.steps,
    )


def stepped(planned: RenderPlan, state: WindowState, finishing: Finishing, standing: Standing) -> Stepped:
    shot = planned.shots[planned.units[min(finishing.chunks_done, len(planned.units) - 1)].shot]
    return Stepped(
        step=state.step,
        evaluations=planned.evaluations,
        units=state.units,
        levels=state.levels,
        steps=planned.steps,
        shot=shot.index,
        shots=len(planned.shots),
        prompt=shot.prompt,
        frames_done=finishing.frames_done,
        frames=planned.frames,
        fps=float(planned.fps),
        seconds=time.monotonic() - (standing.began_at or 0),
        begun_at=standing.begun_at,
    )


def done(planned: RenderPlan, output: Path, seconds: float, kept_frames: int, *, extended: bool) -> Done:
    frames, fps = planned.frames, planned.fps
    if extended:  # it follows a clip
        header = reader.header(output)
        frames, fps = header.frames, header.fps
    return Done(str(output), frames, float(fps), seconds, output.stat().st_size, kept_frames)


def run_record(planned: RenderPlan, runtime: Runtime, fingerprint: str) -> dict[str, Any]:
    """What the bits depend on, beside the plan."""
    packages = ("torch", "numpy", "av", "safetensors")
    return {
        "versions": {"longvid": __version__, "python": platform.python_version()}
        | {package: version(package) for package in packages},
        "device": device_name(runtime.device),
        "threads": torch.get_num_threads(),
        "dtype": dtype_name(runtime.dtype),
        "rung": runtime.rung,
        "compiled": runtime.compile,
        "fingerprint": fingerprint,
        "model": planned.model,
        "seed": planned.seed,
    }


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def without_seal(planned: RenderPlan) -> dict[str, Any]:
    """What goes into plan.json, which is sealed there."""
    return {key: value for key, value in planned.effective().items() if key != "sha256"}
