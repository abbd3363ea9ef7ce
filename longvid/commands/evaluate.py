"""`longvid evaluate`: how good a long film is, in numbers."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longvid.commands import options

if TYPE_CHECKING:
    from collections.abc import Mapping

TELL_SECONDS = 2.0
"""How it stands is told at most this often."""


def evaluate(
    films: Annotated[
        list[Path], typer.Argument(metavar="VIDEO...", help="Films to measure.", show_default=False)
    ],
    timeline: Annotated[
        Path | None, typer.Option(help="Where shots were asked to begin, if the films cannot tell.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder of clips that the films should look like.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write values.json and curves.png there.")
    ] = None,
    encoded: Annotated[
        bool, typer.Option("--encoded", help="Measure the file, even where its work directory has latents.")
    ] = False,
    vbench_python: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="The python of an environment with vbench: its six dimensions."),
    ] = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure films: scenes, flicker, motion, drift, seams, switches.

    Consistency and cost as well, and of diorama's films how far prompts are followed. Shots, planned cuts and
    chunks are read from a film's own work directory, else from its metadata. Where the work directory has the
    film's latents, these are decoded, so that no encoder's seams are measured. What takes a package that is
    not installed is left out, and said. `longvid models pull metrics` fetches what CLIP's scores of each
    shot's prompt and FVD take.
    """
    from longvid.evaluation.table import units
    from longvid.progress import Loading, Noted, showing

    with showing("auto", quiet=quiet) as show:
        show(Loading("loading PyTorch"))
        from longvid import timeline as timelines
        from longvid.devices import choose_device
        from longvid.evaluation import measuring, reference
        from longvid.evaluation.report import check, write

        chosen = choose_device(device)
        if report is not None:
            check(report)
        asked = None if timeline is None else timelines.load(timeline)
        found = [measuring.film(film) for film in films]
        clips = None if against is None else reference.references(against, found)
        by = measuring.means(chosen, vbench_python)
        if by.missing is not None:
            show(Noted(by.missing, warning=True))

        told = 0.0

        def progress(what: str) -> None:
            nonlocal told
            if time.monotonic() - told > TELL_SECONDS:
                show(Loading(what))
                told = time.monotonic()

        measured = [
            measuring.measure(film, asked, by, progress, device=chosen, encoded=encoded) for film in found
        ]
        apart = None if clips is None else reference.apart(measured, clips, by, progress)
        values = {
            "films": [film.values for film in measured],
            "fd_effnet": apart and apart.fd_effnet and asdict(apart.fd_effnet),
            "fvd": apart and apart.fvd and asdict(apart.fvd),
            "units": units(),
        }
        if report is not None:
            write(report, values)
    if as_json:
        typer.echo(json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        tell(values)


def tell(values: Mapping[str, Any]) -> None:
    """The values for a person, on stdout."""
    from rich.console import Console

    from longvid.evaluation.table import table

    console = Console(highlight=False, markup=False)
    films = values["films"]
    console.print(table([film["film"] for film in films], films))
    for key, name in (("fd_effnet", "FD-EffNet"), ("fvd", "FVD of VideoMAE")):
        if apart := values[key]:
            console.print(
                f"{name} {apart['value']:.2f} (squared features, lower is nearer), n = {apart['n']} clips of "
                f"either, {apart['dimensions']} dimensions",
                soft_wrap=True,
            )
    for film in films:
        for note in film["notes"]:
            console.print(f"{film['film']}: {note}", soft_wrap=True)
