"""`longvid bench`: what this machine does with a model, measured; `longvid plan` estimates from it."""

from __future__ import annotations

import json
import platform
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longvid.commands import options
from longvid.errors import UserError

if TYPE_CHECKING:
    from longvid.backends import Geometry
    from longvid.benchmarks import Setup
    from longvid.benchmarks.films import FilmRun
    from longvid.benchmarks.steps import Rate, StepRun, Steps
    from longvid.plan import RenderPlan
    from longvid.progress import Show

NARROWEST = 100
"""Columns that the tables need; a narrower terminal breaks the lines itself."""
FALLBACK_SECONDS = (5, 2, 1)
"""Lengths of film that are tried where there is no time for a longer one."""


@dataclass(frozen=True)
class Expected:
    """A film that there was no time to render: its network calls at their measured times, and each frame's
    decoding and encoding."""

    film_seconds: float
    frames: int
    seconds: float


def bench(
    model: Annotated[
        str, typer.Argument(help="A model's name, or a checkpoint's folder (with a slash).")
    ] = "diorama",
    as_json: options.Json = False,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Measure the model without its weights: nothing to pull.")
    ] = False,
    training: Annotated[
        bool,
        typer.Option("--training", help="Measure a step of training instead, beside the bare network."),
    ] = False,
    seconds: Annotated[int, typer.Option(min=11, max=3600, help="Length of the longer film.")] = 60,
    films: Annotated[
        bool, typer.Option("--films/--no-films", help="Render films too, or measure single steps alone.")
    ] = True,
    latents: Annotated[
        list[int] | None,
        typer.Option(help="Measure the window of so many latents alone; may be given again."),
    ] = None,
    size: Annotated[str | None, typer.Option(help="Width x height of the picture, as 424x240.")] = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    compile: options.Compile = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the CPU to compute with.")] = None,
    budget_seconds: Annotated[
        int, typer.Option(min=1, help="What would not end in so many seconds is estimated, and said to be.")
    ] = 600,
) -> None:
    """Measure a model here: a denoising step, whole films, their memory.

    Steps are timed by window size, films of 10 and 60 s rendered. A step's speed stands beside that of matrix
    products, timed in turn with it. Without --dtype, float32 is timed beside what a render computes in; with
    --compile, the network as it is beside the compiled one. `longvid plan` estimates time and memory from the
    result.
    """
    from longvid.benchmarks import Setup, alone
    from longvid.progress import Loading, showing

    deadline = time.monotonic() + budget_seconds
    setup = Setup(model, random_weights, sides(size), device, dtype, compile, threads)
    backend = setup.backend()
    name, geometry = backend.name, backend.geometry
    if training:
        bench_training(name, setup, budget_seconds, as_json)
        return
    planned = setup.plan(seconds)
    asked = windows(latents, geometry)
    every = range(1, min(planned.window + 1, len(planned.units)) + 1)
    with showing("auto", quiet=as_json) as show:
        show(Loading(f"timing {name}'s network"))
        from longvid.benchmarks.steps import measure_steps

        steps = alone(measure_steps, setup, asked or every, budget_seconds / (2 if films else 1))
        calls = [(run.latents, run.median_seconds / run.calls) for run in steps.rendering()]
        rendered, expected = render_films(setup, seconds, calls, deadline, show) if films else ([], None)
    if not random_weights:
        keep(name, setup, calls, rendered, whole=films and not (asked or steps.skipped or expected))
    facts = report(name, setup, steps, rendered, expected)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        show_facts(facts)


def bench_training(name: str, setup: Setup, budget_seconds: float, as_json: bool) -> None:
    """Measure and show what a step of training costs more than the network itself."""
    from longvid.benchmarks import alone
    from longvid.progress import Loading, showing

    with showing("auto", quiet=as_json) as show:
        show(Loading(f"timing {name}'s training"))
        from longvid.benchmarks.training import measure_training

        run = alone(measure_training, setup, budget_seconds)
    if as_json:
        facts = {"model": name, "random_weights": setup.random_weights, **asdict(run), "ratio": run.ratio}
        typer.echo(json.dumps(facts, indent=2))
        return
    width, height = run.size
    threads = "" if run.card else f", {run.threads} thread{'s' * (run.threads > 1)}"
    print(f"{name}, {width}x{height}, {run.precision} on {run.device}{threads}")
    print(
        f"a step of {run.batch} windows of {run.latents} latents, {run.micro_batch} at once: "
        f"{_seconds(run.seconds)}; the bare network's forward and backward: {_seconds(run.bare_seconds)}; "
        f"{run.ratio:.2f} times; {run.parameters / 1e6:.3g} M parameters; the best of {run.steps}"
    )


def sides(size: str | None) -> tuple[int, int] | None:
    """(width, height) of ``WIDTHxHEIGHT``. Raises UserError."""
    if size is None:
        return None
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size)
    if not found:
        raise UserError(f"--size {size}: is no width x height in pixels, as 424x240")
    return int(found[1]), int(found[2])


def windows(latents: Sequence[int] | None, geometry: Geometry) -> list[int]:
    """Units of the windows asked for by their latents, in ascending order. Raises UserError."""
    unit = geometry.chunk_latents
    for count in latents or ():
        if count < 1 or count % unit:
            nearest = max(count // unit, 1) * unit
            raise UserError(f"--latents {count}: a window is of whole chunks of {unit}; try {nearest}")
    return sorted({count // unit for count in latents or ()})


def render_films(
    setup: Setup, seconds: int, calls: list[tuple[int, float]], deadline: float, show: Show
) -> tuple[list[FilmRun], Expected | None]:
    """The short film and the long one, as far as there is time; a shorter one where there is for neither.

    ``calls``: (latents, seconds of one network call). With it comes what the long film would have taken.
    """
    from longvid.benchmarks import SHORT_SECONDS, alone
    from longvid.benchmarks.films import measure_film, measure_finishing
    from longvid.measurements import seconds_per_call
    from longvid.progress import Loading

    def network_seconds(planned: RenderPlan) -> float:
        return sum(count * seconds_per_call(calls, latents) for latents, count in planned.calls_by_latents)

    films: list[FilmRun] = []
    ways = dict.fromkeys([setup.compile, False])
    tries = [(SHORT_SECONDS, setup.compile), *((seconds, compiled) for compiled in ways)]
    for length, compiled in tries + [(length, setup.compile) for length in FALLBACK_SECONDS]:
        if length < SHORT_SECONDS and films:
            break
        if time.monotonic() + network_seconds(setup.plan(length)) < deadline:
            show(Loading(f"rendering {length} s of film" + " eagerly" * (setup.compile and not compiled)))
            films.append(alone(measure_film, replace(setup, compile=compiled), length))
    planned = setup.plan(seconds)
    if any(film.frames == planned.frames and film.compiled == setup.compile for film in films):
        return films, None
    if films:
        finishing = (films[-1].seconds - films[-1].network_seconds) / films[-1].frames
    else:
        show(Loading("decoding a chunk of film"))
        finishing = alone(measure_finishing, setup)
    expected = network_seconds(planned) + finishing * planned.frames
    return films, Expected(float(planned.frames / planned.fps), planned.frames, expected)


def keep(
    name: str, setup: Setup, calls: list[tuple[int, float]], films: list[FilmRun], *, whole: bool
) -> None:
    """Write down what `longvid plan` estimates from, or say why that cannot be."""
    from longvid import measurements

    lost = "warning: `longvid plan` cannot estimate from this"
    if not whole:
        print(f"{lost}, it is not the whole measurement", file=sys.stderr)
        return
    long = films[-1]
    if not long.by_default or long.compiled or setup.compile or setup.threads is not None:
        print(f"{lost}, a render here computes in another way by default", file=sys.stderr)
        return
    measured = {
        "seconds_per_call": [list(call) for call in calls],
        "decode_seconds_per_frame": (long.seconds - long.network_seconds) / long.frames,
        "peak_bytes": long.peak_bytes if long.device_peak_bytes is None else long.device_peak_bytes,
        "device": long.device,
        "dtype": long.dtype,
        "machine": platform.node(),
        "torch": version("torch"),
        "date": time.strftime("%Y-%m-%d"),
    }
    try:
        measurements.write(name, long.size, measured)
    except (OSError, RuntimeError) as error:
        print(f"{lost}, it could not be kept: {error}", file=sys.stderr)


# What it says


def report(
    name: str, setup: Setup, steps: Steps, films: list[FilmRun], expected: Expected | None
) -> dict[str, Any]:
    """The measurement for programs."""
    from longvid import plugins

    rendering = steps.rendering()
    widest = rendering[-1]
    facts = {
        "model": name,
        "folder": setup.model if plugins.is_folder(setup.model) else None,
        "random_weights": setup.random_weights,
        "size": list(steps.size),
        "device": steps.device,
        "card": steps.card,
        "threads": steps.threads,
        "dtype": widest.dtype,
        "compiled": widest.compiled,
        "steps": [step_facts(run, steps.runs) for run in steps.runs],
        "steps_estimated": [
            {"latents": latents, "seconds": widest.seconds * latents / widest.latents}
            for latents in steps.skipped
        ],
        "seconds_per_call": [
            {"latents": run.latents, "seconds": run.median_seconds / run.calls} for run in rendering
        ],
        "films": [asdict(film) for film in films],
        "film_estimated": expected and asdict(expected),
    }
    same_way = [film for film in films if film.compiled == setup.compile]
    short, long = (same_way[0], same_way[-1]) if same_way else (None, None)
    film = expected or long
    return {
        **facts,
        "frames_per_second": film and film.frames / film.seconds,
        "compute_seconds_per_film_second": film and film.seconds / film.film_seconds,
        "loop_overhead": long and long.loop_seconds / long.network_seconds - 1,
        "peak_ratio": long.peak_bytes / short.peak_bytes if short and long and short is not long else None,
    }


def step_facts(run: StepRun, runs: Sequence[StepRun]) -> dict[str, Any]:
    """A step for programs. ``of_float32``, ``of_eager``: its time as a share of the same step's in float32,
    and uncompiled; ``share_of_square``, ``share_of_linear``: its speed as a share of those products'."""
    times = {(other.latents, other.dtype, other.compiled): other.seconds for other in runs}
    wide, eager = times.get((run.latents, "float32", run.compiled)), times[run.latents, run.dtype, False]
    return {
        "latents": run.latents,
        "dtype": run.dtype,
        "compiled": run.compiled,
        "seconds": run.seconds,
        "median_seconds": run.median_seconds,
        "first_seconds": run.first_seconds,
        "runs": run.runs,
        "network_calls": run.calls,
        "flop": run.flop,
        "tflops": run.flops / 1e12,
        "square": rate_facts(run.square),
        "linear": run.linear and rate_facts(run.linear),
        "share_of_square": run.flops / run.square.flops,
        "share_of_linear": run.linear and run.flops / run.linear.flops,
        "of_float32": wide and run.seconds / wide,
        "of_eager": run.seconds / eager,
    }


def rate_facts(rate: Rate) -> dict[str, Any]:
    return {"shape": list(rate.shape), "tflops": rate.flops / 1e12}


def show_facts(facts: dict[str, Any]) -> None:
    """The measurement for a person, on stdout."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    def table(*headings: str) -> Table:
        made = Table(box=SIMPLE_HEAD, pad_edge=False)
        for heading in headings:
            made.add_column(heading, justify="right")
        return made

    console = Console(highlight=False, markup=False)
    console.width = max(console.width, NARROWEST)
    width, height = facts["size"]
    folder = f" in {facts['folder']}" if facts["folder"] else ""
    random = " with random weights" if facts["random_weights"] else ""
    threads = "" if facts["card"] else f", {facts['threads']} thread{'s' * (facts['threads'] > 1)}"
    console.print(
        f"{facts['model']}{folder}{random}, {width}x{height}, {facts['dtype']} on {facts['device']}{threads}"
    )

    headings = ["window", "dtype", "step", "TFLOP", "TFLOP/s", "of square", "of linear", "of float32"]
    steps = table(*headings, *(["of eager"] if facts["compiled"] else []))
    for step in facts["steps"]:
        shares = [step["share_of_square"], step["share_of_linear"]]
        shares.append(step["of_float32"] if step["dtype"] != "float32" else None)
        if facts["compiled"]:
            shares.append(step["of_eager"] if step["compiled"] else None)
        steps.add_row(
            f"{step['latents']} latents",
            step["dtype"] + (", compiled" if step["compiled"] else ""),
            _seconds(step["seconds"]),
            f"{step['flop'] / 1e12:.3g}",
            f"{step['tflops']:.3g}",
            *("" if share is None else f"{share:.1%}" for share in shares),
        )
    for step in facts["steps_estimated"]:
        steps.add_row(f"{step['latents']} latents", facts["dtype"], f"about {_seconds(step['seconds'])}")
    console.print(steps)
    widest = facts["steps"][-1]
    squares = {
        step["dtype"]: step["square"] for step in facts["steps"] if step["latents"] == widest["latents"]
    }
    side = widest["square"]["shape"][0]
    speeds = ", ".join(f"{square['tflops']:.3g} TFLOP/s in {dtype}" for dtype, square in squares.items())
    console.print(
        f"step: {widest['network_calls']} network call{'s' * (widest['network_calls'] > 1)}, the best time; "
        f"square: a matrix product of side {side}, {speeds}; linear: the fastest of the network's own"
    )
    if facts["steps_estimated"]:
        console.print(f"about: no time was left; in proportion to the {widest['latents']} latents measured")

    films = table("film", "seconds", "network", "loop", "decode", "encode", "frames/s", "peak memory")
    for film in facts["films"]:
        memory = f"{film['peak_bytes'] / 1e6:.0f} MB"
        if film["device_peak_bytes"] is not None:
            memory += f" + {film['device_peak_bytes'] / 1e6:.0f} MB on the card"
        eager = ", eager" if facts["compiled"] and not film["compiled"] else ""
        hops = (film[f"{hop}_seconds"] for hop in ("network", "loop", "decode", "encode"))
        films.add_row(
            f"{film['film_seconds']:g} s{eager}",
            f"{film['seconds']:.1f}",
            *(f"{hop:.1f}" for hop in hops),
            f"{film['frames'] / film['seconds']:.1f}",
            memory,
        )
    if facts["films"]:
        console.print(films)
    if (film := facts["film_estimated"]) is not None:
        console.print(
            f"{film['film_seconds']:g} s of film would take about {film['seconds']:.0f} s, "
            f"{facts['frames_per_second']:.3g} frames a second: an estimate, --budget-seconds was too little"
        )
    if facts["films"]:
        says = f"compute: {facts['compute_seconds_per_film_second']:.2f} s a second of film; "
        says += f"loop: {facts['loop_overhead']:+.1%} over the bare network calls"
        if facts["peak_ratio"] is not None:
            lengths = [film["film_seconds"] for film in facts["films"]]
            from_to = f"from {min(lengths):g} to {max(lengths):g} s of film"
            says += f"; memory: {facts['peak_ratio'] - 1:+.1%} {from_to}"
        console.print(says)


def _seconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
