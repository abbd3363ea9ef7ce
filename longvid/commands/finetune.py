"""`longvid finetune`: a model learns one's own clips, and the levels that films go through."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from longvid.commands import options
from longvid.commands.render import Progress, Quiet, signals
from longvid.errors import UserError


def finetune(
    data: Annotated[
        Path,
        typer.Argument(
            help="Clips, each with a .txt beside it, or a metadata.csv or .jsonl of file_name and text.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The model's folder; a run that was stopped goes on there.")
    ],
    model: Annotated[str, typer.Option(help="What is trained: a model's name, or a checkpoint's folder.")],
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 1000,
    batch: Annotated[int, typer.Option(min=1, help="Samples a step, over all processes.")] = 4,
    micro_batch: Annotated[int, typer.Option(min=1, help="How many of them a process computes at once.")] = 1,
    lr: Annotated[float, typer.Option(min=0.0, help="Learning rate, at its highest.")] = 1e-4,
    warmup: Annotated[int, typer.Option(min=0, help="Steps over which the rate rises.")] = 50,
    lora_rank: Annotated[
        int | None, typer.Option(min=1, help="Train a LoRA of this rank, and leave the model as it is.")
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Add the LoRA to the model in the end.")] = False,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Less memory for a third more time (gradient checkpointing).")
    ] = False,
    optimizer: Annotated[
        str, typer.Option(help="adamw, or adamw-8bit on a card with bitsandbytes.")
    ] = "adamw",
    shard: Annotated[
        bool, typer.Option("--shard", help="Each process holds a part of the model only (FSDP2).")
    ] = False,
    sampling_steps: Annotated[
        int | None, typer.Option(min=1, help="S of the films to come; left out: the model's own.")
    ] = None,
    window: Annotated[int | None, typer.Option(min=1, help="K of the films to come.")] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WIDTHxHEIGHT", help="Left out: the model's first.")
    ] = None,
    held_out: Annotated[
        float, typer.Option(min=0.0, max=0.5, help="Share of the scenes that are measured by, not learnt.")
    ] = 0.05,
    every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 250,
    keep: Annotated[int, typer.Option(min=1, help="Checkpoints kept, beside the best.")] = 2,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Where encoded clips lie; left out: longvid's own cache folder.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Clips that are decoded at a time.")] = 2,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained on, and stop.")
    ] = False,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    progress: Progress = "auto",
    quiet: Quiet = False,
) -> None:
    """Teach a model one's own clips, and the rising noise levels of a film's window (paper, section 3.5).

    The folder then renders: `longvid render film.yaml --model FOLDER`, or with --lora where a LoRA was
    trained. Ctrl-C stops behind a checkpoint, and the same command goes on. `accelerate launch -m longvid
    finetune ...` shares the work among cards or machines.
    """
    from longvid import plugins
    from longvid.progress import Loading, Noted, showing
    from longvid.training.recipe import Recipe

    if optimizer not in ("adamw", "adamw-8bit"):
        raise UserError(f"--optimizer {optimizer}: is adamw or adamw-8bit")
    if merge and lora_rank is None:
        raise UserError("--merge: adds a LoRA to the model; give --lora-rank too")
    backend = plugins.backend(model)
    geometry = backend.geometry
    recipe = Recipe(
        steps=steps,
        batch=batch,
        micro_batch=micro_batch,
        lr=lr,
        warmup_steps=warmup,
        optimizer="adamw-8bit" if optimizer == "adamw-8bit" else "adamw",
        recompute=recompute,
        shard=shard,
        seed=seed,
        checkpoint_steps=every,
        keep_last=keep,
    )
    with showing(progress, quiet) as show, signals(told=progress != "json") as received:
        show(Loading("loading PyTorch"))
        from longvid.training.finetune import Asked, Looked, Written, choose
        from longvid.training.finetune import finetune as run
        from longvid.training.passages import Selection, describe
        from longvid.training.prepared import Encoded
        from longvid.training.trainer import Began, Saved, Stepped, Unsaved

        asked = Asked(
            data=data,
            out=output,
            model=model,
            recipe=recipe,
            size=geometry.sizes[0] if size is None else parse_size(size),
            fps=geometry.fps,
            window=window or geometry.window_units,
            sampling_steps=sampling_steps or geometry.steps,
            cache=cache or cache_folder(),
            lora_rank=lora_rank,
            merge=merge,
            held_out=Fraction(str(held_out)),
            workers=workers,
            device=device,
            dtype=dtype,
        )
        selected: Selection | None = None
        if int(os.environ.get("RANK", "0")) == 0:
            for found in choose(asked, backend):
                if isinstance(found, Looked):
                    show(Loading(f"looking through the clips: {found.done} of {found.total}"))
                else:
                    selected = found
            assert selected is not None
            for said in describe(selected):
                show(Noted(said))
            if dry_run:
                return
        ran = False
        for event in run(asked, backend, selected, lambda: bool(received)):
            match event:
                case Encoded(problem=problem) if problem is not None:
                    show(Noted(str(problem), warning=True))
                case Encoded():
                    show(Loading(f"encoding {event.what}s: {event.done} of {event.total}"))
                case Began():
                    show(
                        Noted(
                            f"training {event.parameters:,} numbers, from step {event.step} of {event.steps}"
                        )
                    )
                case Stepped():
                    if event.step == 1 or event.step % 10 == 0 or event.step == steps:
                        show(Loading(standing(event, steps)))
                case Saved():
                    show(Noted(f"checkpoint {event.path}"))
                case Unsaved():
                    show(Noted(f"checkpoint {event.step}: {event.reason}", warning=True))
                case Written():
                    ran = True
        if ran:
            typer.echo(output)
        elif received:
            raise typer.Exit(128 + received[0])


def standing(event: object, steps: int) -> str:
    """How a training stands."""
    from longvid.times import duration
    from longvid.training.trainer import Stepped

    assert isinstance(event, Stepped)
    left = (steps - event.step) * event.seconds
    rate = event.samples / event.elapsed_seconds if event.elapsed_seconds else 0.0
    return (
        f"step {event.step} of {steps}  loss {event.loss:.4f}  lr {event.lr:.2g}  "
        f"{rate:.1f} samples/s  {duration(left)} left"
    )


def parse_size(written: str) -> tuple[int, int]:
    """``424x240``. Raises UserError."""
    width, _, height = written.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise UserError(f"--size {written}: is no size; write WIDTHxHEIGHT, as 424x240")
    return int(width), int(height)


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longvid" / "clips"
