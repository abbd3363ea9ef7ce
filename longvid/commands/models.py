"""`longvid models`: which models there are, fetching one's weights, and checking weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longvid.commands import options
from longvid.errors import UserError

if TYPE_CHECKING:
    from longvid.backends import Backend
    from longvid.downloads import Progress
    from longvid.evaluation.weights import Metrics

app = typer.Typer()


@dataclass(frozen=True)
class Listed:
    """A model as the list shows it. ``missing``: the parts of its weights that are not all here."""

    name: str
    missing: tuple[str, ...]
    bytes_here: int
    bytes_to_pull: int
    """About; 0 where nothing is missing or nothing can be pulled."""
    licence: str
    folder: str
    error: str | None = None
    """Why the model cannot be had at all."""
    expects: str = ""


@app.callback(invoke_without_command=True)
def models(context: typer.Context, as_json: options.Json = False) -> None:
    """List the models: which are here, their size, licence and folder."""
    if context.invoked_subcommand is not None:
        return
    from longvid import plugins

    found = [listed(name) for name in plugins.registered()]
    if as_json:
        typer.echo(json.dumps([asdict(model) for model in found], indent=2, ensure_ascii=False))
    else:
        table(found)


@app.command()
def pull(
    model: Annotated[str, typer.Argument(help="A model's name, as `longvid models` lists it, or metrics.")],
    without: Annotated[
        list[str] | None, typer.Option(metavar="PART", help="Leave a part out, such as text_encoder.")
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Take the revision this version of longvid names.")
    ] = False,
) -> None:
    """Fetch a model's published weights. Stopped in the middle, the same command goes on from there."""
    from longvid import downloads, plugins

    if plugins.is_folder(model):
        raise UserError(
            f"{model} is a folder; a model is pulled by its name: {', '.join(plugins.registered())}"
        )
    backend = named(model)
    if not backend.downloads:
        typer.echo(f"{model}: its weights came with it, in {backend.folder}; there is nothing to pull")
        return
    parts = [download.folder for download in backend.downloads]
    for part in without or ():
        if part not in parts:
            raise UserError(f"--without {part}: {model} has no such part; it has {', '.join(parts)}")
    wanted = [download for download in backend.downloads if download.folder not in (without or ())]
    with showing_progress() as report:
        downloads.pull(backend.folder, model, wanted, report, update=update)
    pulled = downloads.read_pulled(backend.folder)
    for download in wanted:
        entry = pulled[download.folder]
        typer.echo(f"{download.folder}: {entry.repo} at {entry.commit[:12]}, licence: {download.licence}")
        if entry.revision != download.revision:
            typer.echo(f"  this version of longvid names {download.revision[:12]}: --update takes it")
    problems = [] if backend.missing_files() else backend.check_weights()
    if problems:
        said = f"{problems[0]}; `longvid models check {model}` lists all"
        raise UserError(f"{backend.folder}: pulled, and not what {model} takes: {said}")
    typer.echo(f"{model} is in {backend.folder}")


@app.command()
def check(
    model: Annotated[str, typer.Argument(help="A model's name, or a checkpoint's folder (with a slash).")],
    as_json: options.Json = False,
) -> None:
    """Compare weights with what the model takes, by name and shape, and with what was pulled, by checksum.

    Exits with 0 where all is well, with 2 otherwise.
    """
    from longvid import downloads
    from longvid.progress import Loading, showing

    backend = named(model)
    problems = [f"missing file {path}" for path in backend.missing_files()]
    try:
        problems += backend.check_weights()
    except UserError as error:  # of a file that is missing, or cannot be read
        problems += [] if problems else [str(error)]
    with showing("auto", quiet=as_json) as show:
        problems += downloads.damaged(backend.folder, lambda file: show(Loading(f"reading {file}")))
    problems = list(dict.fromkeys(problems))
    if as_json:
        said = {"model": backend.name, "folder": str(backend.folder), "problems": problems}
        typer.echo(json.dumps(said, indent=2, ensure_ascii=False))
    else:
        for problem in problems:
            typer.echo(problem)
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)}" if problems else "good"
        typer.echo(f"{backend.name} in {backend.folder}: {count}")
    if problems:
        raise typer.Exit(UserError.exit_code)


def named(model: str) -> Backend | Metrics:
    """What has weights under this name: a model, or the networks that `longvid evaluate` measures by."""
    from longvid import plugins
    from longvid.evaluation import weights

    return weights.Metrics() if model == weights.NAME else plugins.backend(model)


def listed(name: str) -> Listed:
    from longvid import plugins

    try:
        backend = plugins.backend(name)
    except UserError as error:
        return Listed(name, (), 0, 0, "", "", str(error))
    missing = missing_parts(backend)
    return Listed(
        name=name,
        missing=missing,
        bytes_here=sum(path.stat().st_size for path in backend.folder.rglob("*") if path.is_file()),
        bytes_to_pull=sum(download.bytes for download in backend.downloads if download.folder in missing),
        licence=backend.licence,
        folder=str(backend.folder),
        expects=backend.expects,
    )


def missing_parts(backend: Backend) -> tuple[str, ...]:
    """Folders below the model's that lack a file, or the file where there is no folder between; each once."""
    from longvid import downloads

    parts = []
    for file in map(Path, backend.missing_files()):
        below = file.is_relative_to(backend.folder)
        parts.append(file.relative_to(backend.folder).parts[0] if below else str(file))
    for download in backend.downloads:
        if not downloads.is_complete(backend.folder, download):
            parts.append(download.folder)
    return tuple(dict.fromkeys(parts))


def table(found: list[Listed]) -> None:
    """The list for a person, on stdout."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    lines = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("model", "weights", "here"):
        lines.add_column(
            heading, no_wrap=heading != "weights", justify="right" if heading == "here" else "left"
        )
    lines.add_column("licence and folder", overflow="fold")
    for model in found:
        if model.error is not None:
            lines.add_row(model.name, Text("cannot be had", "yellow"), "", Text(model.error))
            continue
        weights = Text("here", "green")
        if model.missing:
            weights = Text(f"missing: {', '.join(model.missing)}", "yellow")
        if model.bytes_to_pull:
            weights.append(f"\n{size(model.bytes_to_pull)} to pull")
        said = [model.licence, *([model.expects] if model.expects else []), model.folder]
        lines.add_row(model.name, weights, size(model.bytes_here), Text("\n".join(said)))
    console = Console(highlight=False, markup=False)
    console.print(lines)
    if any(model.bytes_to_pull for model in found):
        console.print("`longvid models pull MODEL` fetches what is missing")


@contextmanager
def showing_progress() -> Iterator[Callable[[Progress], None]]:
    """Shows a pull on stderr: a bar on a terminal, a line a file anywhere else."""
    from rich.console import Console

    console = Console(file=sys.stderr, highlight=False, markup=False)
    if not console.is_terminal:
        last = None

        def line(event: Progress) -> None:
            nonlocal last
            if (event.file, event.checking) != last:
                doing = "checking" if event.checking else "fetching"
                done = f"{size(event.done_bytes)} of {size(event.all_bytes)} are here"
                console.print(f"{doing} {event.file}; {done}", soft_wrap=True)
                last = event.file, event.checking

        yield line
        return

    from rich import progress

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console, transient=True) as bar:
        task: progress.TaskID | None = None

        def draw(event: Progress) -> None:
            nonlocal task
            what = f"checking {event.file}" if event.checking else event.file
            if task is None:  # what came in an earlier pull is no part of the speed
                task = bar.add_task(what, total=event.all_bytes, completed=event.done_bytes)
            bar.update(task, description=what, completed=event.done_bytes)

        yield draw


def size(count: int) -> str:
    """Bytes for a person: 4.84 GB, 12.3 MB."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
