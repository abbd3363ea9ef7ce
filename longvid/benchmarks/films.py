"""Whole films, rendered as `longvid render` renders them, with their parts timed."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch

from longvid import files, outputs, rendering
from longvid.backends import Backend, Denoiser, Film, FilmSpec, Runtime
from longvid.benchmarks import Setup
from longvid.benchmarks.steps import now
from longvid.devices import choose_device, choose_dtype
from longvid.finishing import decode
from longvid.progress import Done
from longvid.video import post, writer


@dataclass(frozen=True)
class FilmRun:
    """One film, rendered in a process of its own."""

    film_seconds: float
    frames: int
    seconds: float
    """From the first evaluation to the finished film."""
    network_seconds: float
    """Within the network's calls alone."""
    loop_seconds: float
    """Within the denoising loop, the network's calls included."""
    decode_seconds: float
    encode_seconds: float
    """Frames to pixels and to H.264."""
    peak_bytes: int
    """Highest resident memory of the process."""
    device_peak_bytes: int | None
    """Highest memory allocated on a CUDA card."""
    network_calls: int
    size: tuple[int, int]
    dtype: str
    device: str
    threads: int
    compiled: bool
    rung: str
    """How the networks were held in memory."""
    by_default: bool
    """Whether a render here chooses this device and dtype by itself."""


def measure_film(setup: Setup, seconds: int) -> FilmRun:
    """Render a film of so many seconds and time its parts."""
    device, dtype = setup.begin()
    planned = setup.plan(seconds)
    network = Timed(device)
    timed = TimedBackend(setup.backend(), network)
    with TemporaryDirectory(prefix="longvid-bench-") as folder:
        output = Path(folder) / "film.mp4"
        happening = rendering.events(
            planned,
            cast(Backend, timed),
            output,
            device=setup.device,
            dtype=setup.dtype,
            compile=setup.compile,
        )
        for event in happening:
            done = event
        assert isinstance(done, Done)
        work = outputs.work_path(output)
        records = [files.read_sealed(path) for path in work.glob("chunks/*.json")]
        run = files.read_sealed(work / "run.json") or {}

    def spent(hop: str) -> float:
        return sum(float(record["seconds"][hop]) for record in records if record)

    default = choose_device()
    return FilmRun(
        film_seconds=float(planned.frames / planned.fps),
        frames=planned.frames,
        seconds=done.seconds,
        network_seconds=network.seconds,
        loop_seconds=spent("denoise"),
        decode_seconds=spent("decode"),
        encode_seconds=spent("encode"),
        peak_bytes=peak_memory(),
        device_peak_bytes=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        network_calls=network.calls,
        size=planned.size,
        dtype=run["dtype"],
        device=run["device"],
        threads=run["threads"],
        compiled=run["compiled"],
        rung=run["rung"],
        by_default=(device, dtype) == (default, choose_dtype("auto", default)),
    )


def measure_finishing(setup: Setup) -> float:
    """Seconds a frame of what becomes of clean latents: one chunk decoded, enlarged and encoded."""
    device, dtype = setup.begin()
    backend, planned = setup.backend(), setup.plan(10)
    geometry = backend.geometry
    codec = backend.for_film(planned.spec, Runtime(device, dtype)).codec()
    width, height = (side // geometry.pixel_stride for side in planned.size)
    latents = torch.randn(1, geometry.channels, geometry.chunk_latents, height, width, device=device)
    started = now(device)
    frames, _ = decode(codec, latents, {}, ends_run=True)
    pixels = post.finish(frames, planned.scale)
    writer.encode(pixels, planned.fps, planned.crf)
    return (now(device) - started) / planned.units[0].decoded_frames


class Timed:
    """Adds up the seconds of the calls made through it: on a card its own, so that nobody waits for it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.calls = 0
        self.host_seconds = 0.0
        self.marks: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        self.calls += 1
        if self.device.type == "cuda":
            stream = torch.cuda.current_stream(self.device)
            started, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            started.record(stream)
            result = function(*args)
            ended.record(stream)
            self.marks.append((started, ended))
        else:
            began = time.perf_counter()
            result = function(*args)
            self.host_seconds += time.perf_counter() - began
        return result

    @property
    def seconds(self) -> float:
        """Of the calls so far; waits for the card."""
        if self.marks:
            torch.cuda.synchronize(self.device)
        card_ms: float = sum(started.elapsed_time(ended) for started, ended in self.marks)
        return self.host_seconds + card_ms / 1000


class TimedBackend:
    """A backend whose network's calls are timed; all else is as it was."""

    def __init__(self, backend: Backend, network: Timed) -> None:
        self.backend = backend
        self.network = network

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def for_film(self, spec: FilmSpec, runtime: Runtime) -> Film:
        return cast(Film, TimedFilm(self.backend.for_film(spec, runtime), self.network))


class TimedFilm:
    def __init__(self, film: Film, network: Timed) -> None:
        self.film = film
        self.network = network

    def __getattr__(self, name: str) -> Any:
        return getattr(self.film, name)

    def denoiser(self) -> Denoiser:
        return partial(self.network, self.film.denoiser())


def peak_memory() -> int:
    """Highest resident memory of this process so far, in bytes.

    Linux counts in ru_maxrss what the process was before it became this program, but not in VmHWM.
    """
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text("utf-8"), re.MULTILINE)
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
