"""`longvid verify`: whether every file of a work directory is what was written there."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from longvid.commands import options
from longvid.errors import RenderError

if TYPE_CHECKING:
    from longvid.verifying import Report


def verify(
    work: options.Work,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check every file of a film's work directory by its checksum.

    Takes are checked too, and the chain of the chunks' identities, and the film against its segments. Each
    wrong file is named, with what the next render does about it. Nothing is changed. Exits with 0 where all
    is well, with 1 otherwise.
    """
    from longvid.progress import Loading, showing

    with showing("auto", quiet=quiet or as_json) as show:
        show(Loading("loading PyTorch"))
        from longvid.verifying import verify as check

        report = check(work, lambda folder: show(Loading(f"reading {folder}")))
    typer.echo(to_json(report) if as_json else told(report))
    if report.wrong:
        raise typer.Exit(RenderError.exit_code)


def to_json(report: Report) -> str:
    return json.dumps(asdict(report), indent=2, ensure_ascii=False, default=str)


def told(report: Report) -> str:
    """The report for a person."""
    lines = [f"{wrong.file}: {wrong.what}; {wrong.then}" for wrong in report.wrong]
    lines += [f"not checked: {line}" for line in report.unchecked]
    lines += [f"note: {line}" for line in report.notes]
    if report.then is not None:
        lines.append(report.then)
    count = f"{len(report.wrong)} wrong" if report.wrong else "all as written"
    lines.append(f"{report.work}: {report.files} files read, {count}")
    return "\n".join(lines)
