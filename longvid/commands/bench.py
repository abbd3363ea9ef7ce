"""`longvid bench`: what this machine does with a model, measured; `longvid plan` estimates from it."""

from __future__ import annotations

import json
import platform
import re
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from longvid.commands import options

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from longvid.backends import Backend, Denoiser, Dtype, Film, FilmSpec, Runtime
    from longvid.plan import RenderPlan

PROMPTS = ("a red boat on a calm sea at dawn", "the sea in the rain at night", "a city in the snow")
SHORT_SECONDS = 10
CALL_SECONDS = 0.5
"""Each window size is measured for about this long."""


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
    calls: tuple[tuple[int, float], ...]
    """(latent frames in the window, seconds of one network call); empty where it was not asked for."""
    network_calls: int
    size: tuple[int, int]
    dtype: str
    device: str
    threads: int
    by_default: bool
    """Whether a render here chooses this device and dtype by itself."""


def bench(
    model: Annotated[
        str, typer.Argument(help="A model's name, or a checkpoint's folder (with a slash).")
    ] = "diorama",
    as_json: options.Json = False,
    seconds: Annotated[int, typer.Option(min=11, max=3600, help="Length of the longer film.")] = 60,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
) -> None:
    """Measure a model here: the network by window size, whole films of 10 and 60 s, their peak memory.

    `longvid plan` estimates time and memory from the result.
    """
    from longvid import measurements, plugins
    from longvid.progress import Loading, showing

    name = plugins.backend(model).name
    with showing("auto", quiet=as_json) as show:
        show(Loading(f"rendering {SHORT_SECONDS} s of film with {name}, and timing its network"))
        short = alone(model, SHORT_SECONDS, device, dtype, time_calls=True)
        show(Loading(f"rendering {seconds} s of film with {name}"))
        long = alone(model, seconds, device, dtype, time_calls=False)
    measured = {
        "seconds_per_call": [list(call) for call in short.calls],
        "decode_seconds_per_frame": (long.seconds - long.network_seconds) / long.frames,
        "peak_bytes": long.peak_bytes if long.device_peak_bytes is None else long.device_peak_bytes,
        "device": long.device,
        "dtype": long.dtype,
        "machine": platform.node(),
        "torch": version("torch"),
        "date": time.strftime("%Y-%m-%d"),
    }
    lost = "warning: `longvid plan` cannot estimate from this"
    if long.by_default:
        try:
            measurements.write(name, long.size, measured)
        except (OSError, RuntimeError) as error:
            print(f"{lost}, it could not be kept: {error}", file=sys.stderr)
    else:
        print(f"{lost}, a render here takes another device or dtype by default", file=sys.stderr)
    facts = report(name, short, long)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        table(name, facts, short, long)


def alone(model: str, seconds: int, device: str, dtype: Dtype, *, time_calls: bool) -> FilmRun:
    """``measure`` in a fresh process, so that peak memory is the film's own."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measure, model, seconds, device, dtype, time_calls).result()


def measure(model: str, seconds: int, device: str, dtype: Dtype, time_calls: bool) -> FilmRun:
    """Render a film of three shots and time its parts."""
    from tempfile import TemporaryDirectory

    import torch

    from longvid import plugins, rendering, state
    from longvid.devices import choose_device, choose_dtype
    from longvid.plan import plan
    from longvid.progress import Done
    from longvid.timeline import build

    backend = plugins.backend(model)
    starts = [seconds * i // len(PROMPTS) for i in range(len(PROMPTS) + 1)]
    shots = [{"prompt": prompt, "until": end} for prompt, end in zip(PROMPTS, starts[1:], strict=True)]
    planned = plan(build({"shots": shots}), backend)
    timed = TimedBackend(backend)
    with TemporaryDirectory(prefix="longvid-bench-") as folder:
        output = Path(folder) / "film.mp4"
        for event in rendering.events(planned, cast("Backend", timed), output, device=device, dtype=dtype):
            done = event
        assert isinstance(done, Done)
        work = state.work_path(output)
        records = [state.read_sealed(path) for path in work.glob("chunks/*.json")]
        run = state.read_sealed(work / "run.json") or {}

    def spent(hop: str) -> float:
        return sum(float(record["seconds"][hop]) for record in records if record)

    peak_bytes = peak_memory()
    where, default = choose_device(device), choose_device()
    what = choose_dtype(dtype, where)
    card = torch.cuda.max_memory_allocated(where) if where.type == "cuda" else None
    calls = network_calls(backend, planned, where, what) if time_calls else ()
    return FilmRun(
        film_seconds=float(planned.frames / planned.fps),
        frames=planned.frames,
        seconds=done.seconds,
        network_seconds=timed.network.seconds,
        loop_seconds=spent("denoise"),
        decode_seconds=spent("decode"),
        encode_seconds=spent("encode"),
        peak_bytes=peak_bytes,
        device_peak_bytes=card,
        calls=calls,
        network_calls=timed.network.calls,
        size=planned.size,
        dtype=run["dtype"],
        device=run["device"],
        threads=run["threads"],
        by_default=(where, what) == (default, choose_dtype("auto", default)),
    )


def network_calls(
    backend: Backend, planned: RenderPlan, device: torch.device, dtype: torch.dtype
) -> tuple[tuple[int, float], ...]:
    """(latent frames, median seconds of one bare network call) for windows of 1 to K + 1 units."""
    import torch

    from longvid.backends import Runtime
    from longvid.rendering import encode_prompts

    film = backend.for_film(planned.spec, Runtime(device, dtype))
    denoiser, text, geometry = film.denoiser(), encode_prompts(film, planned)[0], backend.geometry
    height, width = (side // geometry.pixel_stride for side in reversed(planned.size))
    measured = []
    for units in range(1, min(planned.window + 1, len(planned.units)) + 1):
        latents = units * geometry.chunk_latents
        x = torch.randn(1, geometry.channels, latents, height, width, device=device)
        t = torch.full((1, latents), 0.5, device=device)
        window = text.for_units(range(units))
        times: list[float] = []
        with torch.inference_mode():
            timed = Timed(device)
            while len(times) < 4 or sum(times) < CALL_SECONDS:
                timed.seconds = 0.0
                timed(denoiser, x, t, window)
                times.append(timed.seconds)
        measured.append((latents, median(times[1:])))  # the first call warms up
    return tuple(measured)


class Timed:
    """Adds up the seconds of the calls made through it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0
        self.calls = 0

    def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        started = self.now()
        result = function(*args)
        self.seconds += self.now() - started
        self.calls += 1
        return result

    def now(self) -> float:
        """A card works on behind the program's back: it has to be waited for."""
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class TimedBackend:
    """A backend whose network's calls are timed; all else is as it was."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.network: Timed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def for_film(self, spec: FilmSpec, runtime: Runtime) -> Film:
        self.network = Timed(runtime.device)
        return cast("Film", TimedFilm(self.backend.for_film(spec, runtime), self.network))


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


# What it says


def report(model: str, short: FilmRun, long: FilmRun) -> dict[str, Any]:
    """The measurement for programs."""
    return {
        "model": model,
        "size": list(long.size),
        "device": long.device,
        "dtype": long.dtype,
        "threads": long.threads,
        "seconds_per_call": [{"latents": latents, "seconds": seconds} for latents, seconds in short.calls],
        "frames_per_second": long.frames / long.seconds,
        "compute_seconds_per_film_second": long.seconds / long.film_seconds,
        "loop_overhead": long.loop_seconds / long.network_seconds - 1,
        "peak_ratio": long.peak_bytes / short.peak_bytes,
        "films": [asdict(short), asdict(long)],
    }


def table(model: str, facts: dict[str, Any], short: FilmRun, long: FilmRun) -> None:
    """The measurement for a person, on stdout."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    width, height = long.size
    console.print(
        f"{model}, {width}x{height}, {long.dtype} on {long.device}"
        + (f", {long.threads} threads" if long.device_peak_bytes is None else "")
    )

    calls = Table(box=SIMPLE_HEAD, pad_edge=False)
    calls.add_column("window", justify="right")
    calls.add_column("network call", justify="right")
    for units, (latents, seconds) in enumerate(short.calls, start=1):
        calls.add_row(f"{units} chunk{'s' * (units > 1)}, {latents} latents", f"{1000 * seconds:.1f} ms")
    console.print(calls)

    films = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("film", "seconds", "network", "loop", "decode", "encode", "frames/s", "peak memory"):
        films.add_column(heading, justify="right", no_wrap=True)
    for run in (short, long):
        memory = f"{run.peak_bytes / 1e6:.0f} MB"
        if run.device_peak_bytes is not None:
            memory += f" + {run.device_peak_bytes / 1e6:.0f} MB on the card"
        films.add_row(
            f"{run.film_seconds:g} s",
            f"{run.seconds:.1f}",
            f"{run.network_seconds:.1f}",
            f"{run.loop_seconds:.1f}",
            f"{run.decode_seconds:.1f}",
            f"{run.encode_seconds:.1f}",
            f"{run.frames / run.seconds:.1f}",
            memory,
        )
    console.print(films)
    console.print(
        f"compute: {facts['compute_seconds_per_film_second']:.2f} s a second of film; loop: "
        f"{facts['loop_overhead']:+.1%} over the bare network calls; memory: "
        f"{facts['peak_ratio'] - 1:+.1%} from {short.film_seconds:g} to {long.film_seconds:g} s of film"
    )
