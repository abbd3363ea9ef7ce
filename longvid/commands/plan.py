"""`longvid plan`: what a render would do and cost, before anything is spent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from longvid.commands import options

if TYPE_CHECKING:
    from longvid.measurements import Estimate
    from longvid.plan import RenderPlan

NOT_MEASURED = "not measured here"
NARROWEST = 80
"""Columns below which the table would lose its prompts; a narrower terminal breaks the lines itself."""


def plan(
    file: options.File,
    as_json: options.Json = False,
    model: options.Model = None,
    seed: options.Seed = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    method: options.Method = None,
    draft: options.Draft = False,
) -> None:
    """Show what a timeline becomes: shots, chunks, evaluations, time and memory. Renders nothing."""
    from longvid import measurements, plugins, timeline
    from longvid.plan import plan as make_plan
    from longvid.settings import Overrides

    film = timeline.load(file)
    choice = plugins.choose(film, model)
    overrides = Overrides(seed=seed, steps=steps, guidance=guidance, method=method, draft=draft)
    made = make_plan(film, choice.backend, overrides)
    cost = measurements.estimate(made)
    stated_bytes = choice.backend.memory_bytes(made.size)
    if as_json:
        typer.echo(json.dumps(report(made, cost, stated_bytes), ensure_ascii=False, indent=2))
    else:
        show(made, str(choice), cost, stated_bytes)


def report(plan: RenderPlan, cost: Estimate | None, stated_bytes: int | None) -> dict[str, Any]:
    """The plan for programs: its effective values, and its cost (null where not measured here)."""
    return {
        **plan.effective(),
        "seconds": float(plan.frames / plan.fps),
        "cost": {
            "chunks": len(plan.units),
            "evaluations": plan.evaluations,
            "network_calls": plan.network_calls,
            "seconds": cost and cost.seconds,
            "memory_bytes": cost.memory_bytes if cost else stated_bytes,
            "measured": cost and {"device": cost.device, "dtype": cost.dtype, "date": cost.date},
        },
    }


def show(plan: RenderPlan, choice: str, cost: Estimate | None, stated_bytes: int | None) -> None:
    """The plan for a person, on stdout. ``stated_bytes``: memory as the backend has it."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from longvid.times import clock, duration

    def span(start: int, end: int) -> str:
        return f"{clock(start / plan.fps)}-{clock(end / plan.fps)}\n{start}-{end}"

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("shot", justify="right")
    table.add_column("prompt", ratio=1)
    for heading in ("asked\nframes", "gets\nframes", "chunks", "evals"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=max(map(len, heading.split())))
    guidances = {shot.guidance for shot in plan.shots}
    for shot in plan.shots:
        how = " · ".join(
            note
            for note, applies in (
                ("cut", shot.cut),
                (f"blends over {shot.blend_units} chunks", shot.blend_units),
                (f"guidance {shot.guidance:g}", len(guidances) > 1),
                (f"seed {shot.seed}", shot.seed != plan.seed),
            )
            if applies
        )
        prompt = Text(f"{shot.title}: {shot.prompt}" if shot.title else shot.prompt)
        if how:
            prompt.append(f"\n{how}", "cyan")
        if shot.unknown_words:
            prompt.append(f"\nwords the model does not know: {', '.join(shot.unknown_words)}", "yellow")
        table.add_row(
            str(shot.index + 1),
            prompt,
            span(shot.requested_start_frame, shot.requested_end_frame),
            span(shot.start_frame, shot.end_frame),
            str(shot.units),
            str(shot.evaluations),
        )
    width, height = plan.size
    shown_at = f" shown at {width * plan.scale}x{height * plan.scale}" if plan.scale > 1 else ""
    if cost:
        time = f"about {duration(cost.seconds)} ({cost.source()})"
        memory = f"{cost.memory_bytes / 1e9:.1f} GB ({cost.source()})"
    else:
        time = f"{NOT_MEASURED} (`longvid bench {plan.model}` does it)"
        memory = NOT_MEASURED if stated_bytes is None else f"{stated_bytes / 1e9:.1f} GB (as the model says)"
    console = Console(highlight=False, markup=False)
    console.width = max(console.width, NARROWEST)
    console.print(choice)
    console.print(plan.title, style="bold")
    console.print(
        f"{width}x{height}{shown_at}, {float(plan.fps):g} frames a second, seed {plan.seed}, {plan.method}, "
        f"{plan.steps} steps, window of {plan.window} chunks"
    )
    console.print(table)
    console.print(
        f"{clock(plan.frames / plan.fps)} of film: {plan.frames} frames, {len(plan.units)} chunks, "
        f"{plan.evaluations} evaluations, {plan.network_calls} network calls"
    )
    console.print(f"time: {time}")
    console.print(f"memory: {memory}")
