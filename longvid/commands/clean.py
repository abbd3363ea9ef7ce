"""`longvid clean`: frees space, and says what it would cost to make again what goes."""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longvid.commands import options
from longvid.errors import LockedError, UserError

if TYPE_CHECKING:
    from longvid.cleaning import Item

UNITS = {"": 86400, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def clean(
    path: Annotated[
        Path, typer.Argument(help="A work directory, or a folder of films.", show_default="here")
    ] = Path(),
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help="What is younger stays: 30d, 12h, 2w; 0 for nothing.")
    ] = "30d",
    keep_states: Annotated[
        int | None,
        typer.Option(metavar="N", help="Free states too, all but the last N: edits then go further back."),
    ] = None,
    finished: Annotated[
        bool, typer.Option("--finished", help="Free the chunks of finished films too; the films stay.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it; without it, nothing is freed.")] = False,
    as_json: options.Json = False,
) -> None:
    """Show what work directories could free; with --yes, free it.

    Beside each thing stands what it would cost to make again: what a kill left, takes, and renders that
    --fresh moved aside. A film, and what it takes to go on with one that is not finished, always stays.
    """
    from longvid.cleaning import free, held, items, work_directories

    age = seconds(older_than)
    works = work_directories(path)
    found: list[Item] = []
    for work in works:
        try:
            with held(work):
                going = items(work, time.time(), age, keep_states=keep_states, finished=finished)
                found += going
                if not as_json:
                    show(work, going)
                for item in going if yes else ():
                    free(item)
        except (LockedError, UserError) as error:
            if works == [path]:
                raise
            print(f"skipped: {error}", file=sys.stderr)
    total = sum(item.bytes for item in found)
    if as_json:
        said = {"freed": yes, "bytes": total, "items": [asdict(item) for item in found]}
        typer.echo(json.dumps(said, indent=2, ensure_ascii=False, default=str))
    elif not found:
        typer.echo("there is nothing to free")
    elif yes:
        typer.echo(f"freed {size(total)}")
    else:
        typer.echo(f"{size(total)} could be freed; nothing is gone yet: --yes frees it")


def seconds(age: str) -> float:
    """Of ``30d``, ``12h``; a plain number is of days. Raises UserError."""
    match = re.fullmatch(r"(\d{1,6})([smhdw]?)", age)
    if not match:
        raise UserError(f"--older-than {age}: is no age; write 30d, 12h, 2w, or 0")
    return int(match[1]) * UNITS[match[2]]


def show(work: Path, going: list[Item]) -> None:
    """What goes from one work directory, for a person."""
    if going:
        typer.echo(f"{work}")
    for item in going:
        typer.echo(f"  {size(item.bytes):>9}  {what(item)}{cost(item)}")


def what(item: Item) -> str:
    files = [path for path in item.paths if item.kind != "states" or path.suffix != ".json"]
    many = "s" * (len(files) > 1)
    days = f"{item.age_seconds / 86400:.0f} days old"
    return {
        "leftovers": f"{len(files)} file{many} that a kill left",
        "take": f"take {item.paths[0].name}, {days}",
        "aside": f"moved aside by --fresh, {days}",
        "states": f"{len(files)} state{many}, up to {item.paths[-1].stem}",
        "finished": f"the chunks of a finished film, {days}",
    }[item.kind]


def cost(item: Item) -> str:
    from longvid.times import duration

    if not item.evaluations:
        return "" if item.kind == "leftovers" else "; nothing of it would have to be made again"
    made = f"{item.evaluations} evaluations, {duration(item.seconds)} when they were made"
    if item.kind == "states":
        return f"; an edit that reaches back there costs up to {made}"
    return f"; to make it again: {made}"


def size(count: int) -> str:
    """Bytes for a person: 4.84 GB, 12.3 MB, 8 kB."""
    if count >= 1e9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
