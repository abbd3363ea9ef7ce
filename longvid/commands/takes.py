"""`longvid takes`: the renders that a film's work directory keeps, and which of them is the film."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longvid.commands import options
from longvid.errors import UserError

if TYPE_CHECKING:
    from longvid.takes import Take

NARROWEST = 100
"""Columns that the table needs; a narrower terminal breaks the lines itself."""


def takes(
    work: options.Work,
    as_json: options.Json = False,
    use: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Make this take the film; what is the film now is put aside."),
    ] = None,
    strip: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Write a picture of every take: a row each, at equal times."),
    ] = None,
) -> None:
    """List a film's takes, and from when on they differ.

    An edit puts aside what it replaces as a take; `render --from TIME --as NAME` makes one. What takes share
    lies on disk once.
    """
    from longvid import takes as kept
    from longvid.exchange import pending
    from longvid.outputs import work_film

    work_film(work)
    if strip is not None:
        check_picture(strip)
    if use is not None:
        used = kept.use(work, use)
        if used.aside is not None:
            print(f"what was the film is kept as take {used.aside}", file=sys.stderr)
        if used.film is None:
            print(
                f"take {use} is not finished ({used.chunks_done} of {used.chunks} chunks), so there is no "
                f"film of it yet; `longvid resume {shlex.quote(str(work))}` goes on with it",
                file=sys.stderr,
            )
    elif (meant := pending(work)) is not None:
        print(
            f"warning: taking {meant.name} was broken off; "
            f"`longvid takes {shlex.quote(str(work))} --use {meant.name}` finishes it",
            file=sys.stderr,
        )
    found = kept.takes(work)
    facts = [take_facts(take, found[0]) for take in found]
    if strip is not None:
        kept.write_strips(found, strip)
    if as_json:
        typer.echo(json.dumps({"work": str(work), "takes": facts}, indent=2, ensure_ascii=False))
    elif use is None:
        show(facts)
        if strip is not None:
            rows = [name(fact) for fact in facts if fact["chunks_done"]]
            typer.echo(f"{strip}: from the top, {', '.join(rows)}")
    elif used.film is not None:
        typer.echo(used.film)


def check_picture(path: Path) -> None:
    """Raise UserError where a picture cannot be written as ``path``."""
    if path.suffix.lower() != ".png":
        raise UserError(f"--strip {path}: a picture is written as .png; try {path.with_suffix('.png')}")
    if not path.parent.is_dir():
        raise UserError(f"--strip {path}: there is no folder {path.parent}; create it first")


def take_facts(take: Take, current: Take) -> dict[str, Any]:
    """A take for programs. ``differs_from_seconds``: where its chunks begin to differ from the current's."""
    from longvid.takes import differing, first_other_frame

    other = first_other_frame(take, current)
    return {
        "name": take.name,
        "current": take.current,
        "folder": str(take.path),
        "rendered": take.rendered_at and time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(take.rendered_at)),
        "model": take.plan.get("model"),
        "seconds": float(take.plan.get("frames", 0) / take.fps),
        "seconds_done": float(take.frames_done / take.fps),
        "chunks": take.chunks,
        "chunks_done": len(take.records),
        "complete": take.complete,
        "shots": [
            {
                "title": shot["title"],
                "prompt": shot["prompt"],
                "start_seconds": float(shot["start_frame"] / take.fps),
                "end_seconds": float(shot["end_frame"] / take.fps),
            }
            for shot in take.plan.get("shots", [])
        ],
        "differs": [] if take.current else differing(take, current),
        "differs_from_seconds": None if other is None else float(other / take.fps),
    }


def name(fact: dict[str, Any]) -> str:
    """How a take is called on the screen."""
    if fact["current"]:
        return f"{fact['name']} (current)" if fact["name"] else "current"
    return str(fact["name"])


def show(facts: list[dict[str, Any]]) -> None:
    """The takes for a person, on stdout."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from longvid.times import duration

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("take", "rendered", "length"):
        table.add_column(heading, no_wrap=True)
    table.add_column("chunks", justify="right", no_wrap=True)
    table.add_column("shots", ratio=3)
    table.add_column("differs", ratio=2)
    for fact in facts:
        shots = [
            f"{duration(shot['start_seconds'])} {shot['title'] or shot['prompt']}" for shot in fact["shots"]
        ]
        done, chunks = fact["chunks_done"], fact["chunks"]
        table.add_row(
            Text(name(fact), "bold" if fact["current"] else ""),
            (fact["rendered"] or "")[:16].replace("T", " "),
            duration(fact["seconds"]),
            Text(str(chunks)) if done >= chunks > 0 else Text(f"{done} of {chunks}", "yellow"),
            "\n".join(shots),
            differs(fact),
        )
    console = Console(highlight=False, markup=False)
    console.width = max(console.width, NARROWEST)
    console.print(table)


def differs(fact: dict[str, Any]) -> str:
    """``from 0:06: shots[1].prompt``."""
    from longvid.times import duration

    if fact["current"]:
        return ""
    keys = ", ".join(fact["differs"])
    since = fact["differs_from_seconds"]
    if since is None:
        return keys and f"{keys}; the same as far as both are rendered"
    return f"from {duration(since)}: {keys or 'rendered anew'}"
