"""`longvid import`: another tool's prompt schedule becomes a timeline."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from longvid.commands import options
from longvid.errors import UserError


def import_(
    file: Annotated[Path, typer.Argument(help="The schedule, a text or JSON file.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The timeline; left out: the file's name + .yaml, here; - prints."
        ),
    ] = None,
    format: Annotated[
        Literal["auto", "deforum", "fizznodes", "framepack", "wangp", "list"],
        typer.Option(help="Whose schedule it is; auto tells from the content."),
    ] = "auto",
    fps: Annotated[
        str | None, typer.Option(metavar="RATE", help="Frames a second, in place of the file's own.")
    ] = None,
    seconds: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How long each line of a list lasts; elsewhere the whole film."),
    ] = None,
    model: options.Model = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Turn another tool's prompt schedule into a timeline.

    What it could not carry over is said.

    Deforum: {"0": "...", "48": "..."}, alone or in a settings file.

    FizzNodes: "0" :"...", "24" :"...", or a workflow in ComfyUI's API format.

    FramePack-Studio: [0s-2s: ...] [2s: ...].

    WanGP: [0%:25%] ..., lines behind commands such as /duration=5s, or (at 0 seconds: ...).

    Anything else is a list of prompts, one a line.
    """
    from longvid import plugins, schedules
    from longvid.files import write
    from longvid.locks import refused
    from longvid.times import parse_fps, parse_time

    printed = output == Path("-")
    target = output if output is not None else Path(f"{file.stem}.yaml")
    if not printed:
        with refused(target):
            check_free(target, file, overwrite=overwrite)
    try:
        rate = None if fps is None else parse_fps(number(fps))
    except ValueError as error:
        raise UserError(f"--fps: {error}") from None
    try:
        time = None if seconds is None else parse_time(seconds)
        if time is not None and not time.amount:
            raise ValueError(f"{seconds!r} is no length; above 0")
    except ValueError as error:
        raise UserError(f"--seconds: {error}") from None
    try:
        named = None if model is None else (model, plugins.backend(model))
    except UserError as error:
        raise UserError(f"--model: {error}") from error
    made = schedules.imported(file, None if format == "auto" else format, rate, time, named)
    for note in made.notes:
        typer.echo(f"{file}: {note}", err=True)
    if printed:
        typer.echo(made.text, nl=False)
        return
    write(target, made.text.encode())
    typer.echo(f"wrote {target}; see what it becomes: longvid plan {shlex.quote(str(target))}")


def check_free(target: Path, file: Path, *, overwrite: bool) -> None:
    """Raise UserError where the timeline cannot be written."""
    if target.is_dir():
        raise UserError(f"--output {target}: is a folder; name a file in it, as {target / 'film.yaml'}")
    if not target.parent.is_dir():
        raise UserError(f"--output {target}: there is no folder {target.parent}; make it first")
    if not target.exists():
        return
    if file.exists() and target.samefile(file):
        raise UserError(f"{target}: is the schedule itself; write elsewhere with --output")
    if not overwrite:
        raise UserError(f"{target}: is there already; --overwrite replaces it, --output writes elsewhere")


def number(text: str) -> object:
    """A rate as a command line has it: ``24`` and ``23.976`` are numbers, ``30000/1001`` is text."""
    from decimal import Decimal, InvalidOperation

    try:
        return Decimal(text)
    except InvalidOperation:
        return text
