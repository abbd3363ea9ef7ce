"""`longvid compare`: methods side by side, over many films."""

from __future__ import annotations

import json
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longvid.commands import options
from longvid.commands.render import signals
from longvid.errors import RenderError, UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from longvid.evaluation.comparison import Failed, Place, Scored
    from longvid.evaluation.standings import Standings
    from longvid.evaluation.suite import Film, Suite
    from longvid.progress import Show

TELL_SECONDS = 20.0
"""How it stands between two films is told this often."""


def compare(
    file: Annotated[
        Path, typer.Argument(metavar="SUITE", help="The suite, a YAML file.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Left out: the suite's name, here."),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, max=256, help="Films made at a time, which share the cores here.")
    ] = 1,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Make them on this Ray cluster, which sees the same folders."),
    ] = None,
    votes: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Votes that the duel page saved; may be given again."),
    ] = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what each method would cost, and make nothing.")
    ] = False,
    vbench_python: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="The python of an environment with vbench, as for `evaluate`."),
    ] = None,
    rescore: Annotated[
        bool, typer.Option("--rescore", help="Measure films again that were measured before.")
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Render a suite's prompts by several methods; measure the films.

    In the folder that is written, index.html shows the table, curves over time and all films; duel.html asks
    viewers which of two they prefer. The same command again makes only what is not there yet.
    """
    from longvid.evaluation import suite as suites

    suite = suites.load(file)
    if plan:
        tell_costs(suite, as_json)
        return
    folder = output or Path(file.stem)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder}: is a file; name a folder")
    from longvid.evaluation import comparison, gallery, standings
    from longvid.evaluation import votes as voting
    from longvid.evaluation.processes import Here, OnRay, environment, threads_each
    from longvid.locks import locked
    from longvid.progress import Loading, Noted, showing

    with showing("auto", quiet) as show, signals(told=True) as received:
        place = comparison.Place(folder)
        place.make()
        with locked(folder, "compares"):
            kept = voting.gather(votes or [], place.votes, suite)
            show(Noted(str(suite)))
            run = Here(environment(threads_each(jobs))) if ray is None else OnRay(ray, device)
            at_a_time = jobs if isinstance(run, Here) else run.slots
            measuring = ["--device", device]
            if vbench_python is not None:
                measuring += ["--vbench-python", str(vbench_python)]
            rendering = ["--device", device, "--dtype", dtype]
            one = partial(comparison.make, place=place, run=run, rendering=rendering, measuring=measuring)
            scored = {} if rescore else place.known(suite.films, vbench=vbench_python is not None)

            def stopping() -> bool:
                if received:
                    run.stop()
                return bool(received)

            failed = make_missing(suite, scored, one, at_a_time, place, show, stopping)
            if received:
                there = f"{len(scored)} of {len(suite.films)} films are there"
                show(Noted(f"stopped; {there}, and the same command goes on"))
                raise typer.Exit(128 + received[0])
            show(Loading("the report"))
            films = [scored[film.name] for film in suite.films if film.name in scored]
            for line in gallery.warnings(films):
                show(Noted(line, warning=True))
            found = standings.standings(suite, films, kept)
            gallery.write(suite, films, found, place)
    tell(found, folder, standings.to_json(suite, found) if as_json else None)
    if failed:
        raise RenderError(
            f"{len(failed)} of {len(suite.films)} films could not be made; the first: {failed[0].why}; "
            "the same command tries them again"
        )


def make_missing(
    suite: Suite,
    scored: dict[str, Scored],
    one: Callable[[Film], Scored],
    jobs: int,
    place: Place,
    show: Show,
    stopping: Callable[[], bool],
) -> list[Failed]:
    """Make the films that ``scored`` lacks, into it, so many ``jobs`` at a time; returns those that failed.

    ``stopping``: asked now and then, whether to leave it at what is there.
    """
    from longvid.evaluation import comparison
    from longvid.progress import Loading, Noted

    failed = []
    missing = [film for film in suite.films if film.name not in scored]
    chunks = sum(len(film.plan.units) for film in missing)
    told = time.monotonic()
    with closing(comparison.made(missing, one, jobs)) as happening:
        for result in happening:
            if stopping():
                break
            if isinstance(result, comparison.Scored):
                scored[result.film.name] = result
                show(Noted(f"{len(scored)} of {len(suite.films)}: {result.film.name}"))
            elif result is not None:
                failed.append(result)
                show(Noted(f"{result.film.name}: {result.why}", warning=True))
            elif time.monotonic() - told > TELL_SECONDS:
                show(Loading(f"{place.chunks(missing):,} of {chunks:,} chunks are finished"))
                told = time.monotonic()
    return failed


def tell_costs(suite: Suite, as_json: bool) -> None:
    """What the films of each method take together, on stdout; ``seconds`` is null where no speed is known."""
    from longvid import measurements

    costs: list[dict[str, Any]] = []
    for index, variant in enumerate(suite.variants):
        plans = [film.plan for film in suite.films if film.variant == index]
        estimates = [measurements.estimate(plan) for plan in plans]
        known = [estimate.seconds for estimate in estimates if estimate is not None]
        costs.append(
            {
                "method": variant.name,
                "films": len(plans),
                "evaluations": sum(plan.evaluations for plan in plans),
                "network_calls": sum(plan.network_calls for plan in plans),
                "seconds": sum(known) if len(known) == len(plans) else None,
            }
        )
    if as_json:
        typer.echo(json.dumps(costs, ensure_ascii=False, indent=2))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from longvid.times import duration

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", overflow="fold")
    for head in ("films", "evaluations", "network calls", "time here, one by one"):
        table.add_column(head, justify="right")
    for each in costs:
        counts = (f"{each[key]:,}" for key in ("films", "evaluations", "network_calls"))
        seconds = each["seconds"]
        time_here = "not measured here" if seconds is None else duration(seconds)
        table.add_row(Text(each["method"]), *counts, time_here)
    console = Console(highlight=False)
    console.print(str(suite), markup=False)
    console.print(table)


def tell(found: Standings, folder: Path, in_json: str | None) -> None:
    """The tables, or their JSON, on stdout."""
    if in_json is not None:
        typer.echo(in_json, nl=False)
        return
    from rich.console import Console

    from longvid.evaluation.standings import SLOPES, note, to_fit, to_rich

    console = Console(highlight=False)
    for title, metrics in found.tables.items():
        for some in to_fit(metrics, console.width) if title != SLOPES else ():
            console.print(to_rich(title, some, found.rows))
    console.print(note(found), style="dim", markup=False)
    console.print(str(folder / "index.html"), markup=False, soft_wrap=True)
