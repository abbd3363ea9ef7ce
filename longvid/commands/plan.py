"""`longvid plan`: what a render would do and cost, before anything is spent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longvid.commands import options
from longvid.commands.render import named_loras
from longvid.errors import UserError
from longvid.walks import KINDS, read

if TYPE_CHECKING:
    from rich.console import Console

    from longvid.backends import Backend, Rung
    from longvid.measurements import Estimate
    from longvid.memory import Card
    from longvid.plan import RenderPlan
    from longvid.plugins import Choice
    from longvid.request import Request

NOT_MEASURED = "not measured here"
NARROWEST = 80
"""Columns below which the table would lose its prompts; a narrower terminal breaks the lines itself."""


def plan(
    file: options.File,
    as_json: options.Json = False,
    model: options.Model = None,
    lora: options.Lora = None,
    seed: options.Seed = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    method: options.Method = None,
    draft: options.Draft = False,
    methods: Annotated[
        bool,
        typer.Option(
            "--methods",
            help="What the film would cost by every method, side by side; with --method, by that as well.",
        ),
    ] = False,
) -> None:
    """Show what a timeline becomes, and costs. Renders nothing.

    That is shots, chunks, evaluations, time and memory.
    """
    from longvid import measurements, timeline
    from longvid.memory import cards
    from longvid.request import Request
    from longvid.settings import Overrides

    overrides = Overrides(seed=seed, steps=steps, guidance=guidance, method=method, draft=draft)
    request = Request(timeline.load(file), model, overrides, loras=named_loras(lora))
    choice = request.choose()
    if methods:
        # Wrong options are an error; that a method cannot make this film is told in its row.
        try:
            asked = () if method is None else (str(read(method)),)
        except UserError as error:
            raise UserError(f"--method: {error}") from error
        compared = [Compared.of(each, request, choice.backend) for each in dict.fromkeys((*KINDS, *asked))]
        if as_json:
            typer.echo(json.dumps([asdict(each) for each in compared], ensure_ascii=False, indent=2))
        else:
            show_methods(compared)
        return
    made = request.settled(choice.backend).plan(choice.backend)
    cost = measurements.estimate(made)
    card = next(iter(cards()), None)
    # A card computes in two bytes a number (bfloat16 or float16), a CPU may in four.
    on_card, on_cpu = (choice.backend.rungs(made.spec, value_bytes=count) for count in (2, 4))
    memory = Memory(card, tuple(on_card), on_cpu[0])
    kept = kept_chunks(file, made, choice.backend)
    if as_json:
        typer.echo(json.dumps(report(made, cost, memory, kept), ensure_ascii=False, indent=2))
    else:
        show(made, choice, cost, memory, kept)


@dataclass(frozen=True)
class Compared:
    """A method, and what the film would cost by it: ``latents`` counts what the network is shown, call by
    call. All None where it cannot make this film, for the ``problem``."""

    method: str
    says: str
    source: str
    evaluations: int | None = None
    network_calls: int | None = None
    latents: int | None = None
    problem: str | None = None

    @staticmethod
    def of(name: str, request: Request, backend: Backend) -> Compared:
        kind_name, _, options = name.partition(":")
        kind = KINDS[kind_name]
        says = f"{kind_name} with {options}" if options else kind.says
        asked = replace(request, overrides=replace(request.overrides, method=name))
        try:
            made = asked.settled(backend).plan(backend)
        except UserError as error:
            return Compared(name, says, kind.source, problem=str(error))
        latents = sum(latents * calls for latents, calls in made.calls_by_latents)
        return Compared(name, says, kind.source, made.evaluations, made.network_calls, latents)


def show_methods(compared: Sequence[Compared]) -> None:
    """The methods for a person, on stdout."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    console.width = max(console.width, NARROWEST)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for heading in ("evaluations", "network\ncalls", "latents\nshown"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("what it is", ratio=1)
    for each in compared:
        figures = (each.evaluations, each.network_calls, each.latents)
        costs = [f"{figure:,}" if figure is not None else "-" for figure in figures]
        table.add_row(each.method, *costs, each.problem or each.says)
    console.print(table)


def kept_chunks(file: Path, made: RenderPlan, backend: Backend) -> tuple[int, int] | None:
    """(chunks kept, evaluations done) of the film that `longvid render` would go on with, if there is one."""
    work = Path(f"{file.stem}.longvid")
    if not (work / "run.json").exists():
        return None
    from longvid.keeping import would_keep  # PyTorch, only where there is something to look at

    kept = would_keep(work, made, backend.geometry)
    if kept is None:
        return None
    ended = kept.units == len(made.units)
    return kept.units, made.evaluations if ended else kept.state.step if kept.state else 0


@dataclass(frozen=True)
class Memory:
    """The first card here, if any, the ways to hold the model in one, and the way on the CPU."""

    card: Card | None
    rungs: tuple[Rung, ...]
    on_cpu: Rung

    @property
    def chosen(self) -> Rung:
        """The one that a render would begin with."""
        from longvid.memory import first_fitting

        return self.rungs[first_fitting(self.rungs, self.card.free_bytes)] if self.card else self.on_cpu


def report(
    plan: RenderPlan, cost: Estimate | None, memory: Memory, kept: tuple[int, int] | None
) -> dict[str, Any]:
    """The plan for programs: its effective values, and its cost (null where not measured here)."""
    return {
        **plan.effective(),
        "seconds": float(plan.frames / plan.fps),
        "cost": {
            "chunks": len(plan.units),
            "evaluations": plan.evaluations,
            "network_calls": plan.network_calls,
            "seconds": cost and cost.seconds,
            "memory_bytes": cost.memory_bytes if cost else memory.chosen.peak_bytes,
            "measured": cost and {"device": cost.device, "dtype": cost.dtype, "date": cost.date},
        },
        "kept": kept and {"chunks": kept[0], "evaluations": kept[1]},
        "memory": {
            "card": memory.card and asdict(memory.card),
            "rungs": [asdict(rung) for rung in memory.rungs],
            "chosen": memory.chosen.name,
        },
    }


def show(
    plan: RenderPlan, choice: Choice, cost: Estimate | None, memory: Memory, kept: tuple[int, int] | None
) -> None:
    """The plan for a person, on stdout."""
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
        takes = f"{cost.memory_bytes / 1e9:.1f} GB ({cost.source()})"
    else:
        time = f"{NOT_MEASURED} (`longvid bench {plan.model}` does it)"
        takes = NOT_MEASURED
        if memory.chosen.peak_bytes is not None:
            takes = f"{memory.chosen.peak_bytes / 1e9:.1f} GB (as the model says)"
    console = Console(highlight=False, markup=False)
    console.width = max(console.width, NARROWEST)
    console.print(str(choice))
    console.print(f"licence: {choice.backend.licence}")
    if choice.backend.expects:
        console.print(f"expect: {choice.backend.expects}")
    console.print(plan.title, style="bold")
    console.print(
        f"{width}x{height}{shown_at}, {float(plan.fps):g} frames a second, seed {plan.seed}, {plan.method}, "
        f"{plan.steps} steps, window of {plan.window} chunks"
    )
    for lora in plan.loras:
        console.print(f"LoRA {lora.path} at strength {lora.strength:g}")
    console.print(table)
    console.print(
        f"{clock(plan.frames / plan.fps)} of film: {plan.frames} frames, {len(plan.units)} chunks, "
        f"{plan.evaluations} evaluations, {plan.network_calls} network calls"
    )
    if kept:
        console.print(
            f"of an earlier render: {kept[0]} of {len(plan.units)} chunks kept, "
            f"{plan.evaluations - kept[1]} evaluations left"
        )
    console.print(f"time: {time}")
    console.print(f"memory: {takes}")
    if memory.card or len(memory.rungs) > 1:
        show_rungs(console, memory)


def show_rungs(console: Console, memory: Memory) -> None:
    """Each way to hold the model, which of them fit in the card, and which one a render begins with."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from longvid.memory import fits

    card = memory.card
    if card is None:
        console.print("no CUDA card here; on one, the fastest of these that fits its free memory:")
    else:
        console.print(
            f"{card.name}: {card.free_bytes / 1e9:.1f} of {card.total_bytes / 1e9:.1f} GB free; "
            "the fastest of these that fits:"
        )
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("held", "needs", "", "how"):
        table.add_column(heading)
    for rung in memory.rungs:
        needs = NOT_MEASURED if rung.peak_bytes is None else f"{rung.peak_bytes / 1e9:.1f} GB"
        said = ""
        if card is not None:
            said = "chosen" if rung is memory.chosen else "" if fits(rung, card.free_bytes) else "too much"
        table.add_row(rung.name, needs, said, rung.says + ("" if rung.exact else " (changes pixels)"))
    console.print(table)
