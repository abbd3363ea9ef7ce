"""`longvid finetune`: a model learns one's own clips, and the levels that films go through."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from longvid.backends.diorama import NAME
from longvid.commands import options
from longvid.commands.render import signals
from longvid.errors import UserError
from longvid.training.asked import Asked
from longvid.training.recipe import Optimizer, Recipe

if TYPE_CHECKING:
    from longvid.backends import Backend
    from longvid.progress import Event, Show
    from longvid.training import finetune as training
    from longvid.training.material import Material
    from longvid.training.trainer import Stepped
    from longvid.training_events import TrainingBegan, TrainingStepped


Trained = Literal["denoiser", "codec", "decoder", "all"]
WITH_ALL = frozenset({"data", "output", "model", "train", "seed"})
"""Flags beside which a whole recipe has its own numbers for everything."""


def finetune(
    context: typer.Context,
    data: Annotated[
        str,
        typer.Argument(
            help="A folder of clips, each with a .txt beside it, or a metadata.csv or .jsonl of file_name "
            "and text. Or a dataset's name, such as diorama.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The model's folder; a run that was stopped goes on there.")
    ],
    model: Annotated[str, typer.Option(help="What is trained: a model's name, or a checkpoint's folder.")],
    train: Annotated[
        Trained,
        typer.Option(
            help="denoiser. codec: encoder and decoder; a denoiser has to be trained for it anew. decoder: "
            "alone; latents stay as they are. all: diorama, from nothing, by its own recipe."
        ),
    ] = "denoiser",
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Begin from nothing, not from the model's weights.")
    ] = False,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 1000,
    batch: Annotated[int, typer.Option(min=1, help="Samples a step, over all processes.")] = 4,
    micro_batch: Annotated[int, typer.Option(min=1, help="How many of them a process computes at once.")] = 1,
    lr: Annotated[float, typer.Option(min=0.0, help="Learning rate, at its highest.")] = 1e-4,
    warmup: Annotated[int, typer.Option(min=0, help="Steps over which the rate rises.")] = 50,
    cooldown: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the steps, the last, over which it falls to 0.")
    ] = 1.0,
    optimizer: Annotated[
        Optimizer,
        typer.Option(help="muon learns faster from scratch; adamw-8bit needs a card with bitsandbytes."),
    ] = "adamw",
    short_steps: Annotated[
        int, typer.Option(min=0, help="From scratch: first so many steps on one or two chunks.")
    ] = 0,
    dropout: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="How often a clip is shown without its caption.")
    ] = 0.1,
    lora_rank: Annotated[
        int | None, typer.Option(min=1, help="Train a LoRA of this rank, and leave the model as it is.")
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Add the LoRA to the model in the end.")] = False,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Less memory for a third more time (gradient checkpointing).")
    ] = False,
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
    clips: Annotated[
        int | None, typer.Option(min=1, help="How many clips a dataset makes; left out: as it likes.")
    ] = None,
    held_out: Annotated[
        float, typer.Option(min=0.0, max=0.5, help="Share of the scenes that are measured by, not learnt.")
    ] = 0.05,
    sample: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A timeline to make films of meanwhile, in OUTPUT/training/samples; left out: two captions.",
        ),
    ] = None,
    sample_every: Annotated[
        int | None,
        typer.Option(min=0, metavar="STEPS", help="Left out: with every checkpoint. 0: no such films."),
    ] = None,
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
    progress: options.Progress = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Teach a model one's own clips, at the levels of a film's window.

    It learns the rising noise levels of a film's window (paper, section 3.5). The folder then renders:
    `longvid render film.yaml --model FOLDER`, or with --lora where a LoRA was trained. Ctrl-C stops behind a
    checkpoint, and the same command goes on. `accelerate launch -m longvid finetune ...` shares the work
    among cards or machines.
    """
    from longvid import datasets, plugins
    from longvid.progress import showing

    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output}: is a file; name a folder")
    if train == "all":
        make_all(context, data, model, output, seed)
        return
    if merge and lora_rank is None:
        raise UserError("--merge: adds a LoRA to the model; give --lora-rank too")
    if lora_rank is not None and from_scratch:
        raise UserError("--from-scratch: a LoRA adapts weights that are there; leave out one of the two")
    if clips is not None and not datasets.is_name(data):
        raise UserError(f"--clips: is how many a dataset makes; {data} is a folder, and all of it is taken")
    if train != "denoiser":
        only = {
            "--lora-rank": lora_rank is not None,
            "--short-steps": short_steps > 0,
            "--sample": sample is not None,
            "--sample-every": bool(sample_every),
        }
        for flag in (flag for flag, given in only.items() if given):
            raise UserError(f"{flag}: is for the denoiser; with --train {train} leave it out")
        sample_every = 0
    backend = plugins.backend(model)
    geometry = backend.geometry
    recipe = Recipe(
        steps=steps,
        batch=batch,
        micro_batch=micro_batch,
        lr=lr,
        warmup_steps=warmup,
        cooldown=cooldown,
        optimizer=optimizer,
        recompute=recompute,
        shard=shard,
        seed=seed,
        checkpoint_steps=every,
        keep_last=keep,
        # A film costs as much as some of the steps in between, of whatever size the model is.
        sample_steps=every if sample_every is None else sample_every,
    )
    # Both are known before hours of encoding.
    if shard and optimizer == "muon":
        raise UserError("--optimizer muon: needs whole matrices; leave --shard out, or take adamw")
    try:
        recipe.share(int(os.environ.get("WORLD_SIZE", "1")))
    except UserError as error:
        raise UserError(f"--batch {batch} --micro-batch {micro_batch}: {error}") from error
    asked = Asked(
        data=data,
        out=output,
        model=model,
        recipe=recipe,
        size=geometry.sizes[0] if size is None else parse_size(size),
        fps=geometry.fps,
        window=window or geometry.window_units,
        sampling_steps=sampling_steps or geometry.steps,
        dropout=dropout,
        cache=cache or cache_folder(),
        part=train,
        from_scratch=from_scratch,
        lora_rank=lora_rank,
        merge=merge,
        short_steps=short_steps,
        clips=clips,
        held_out=Fraction(str(held_out)),
        sample=sample,
        workers=workers,
        device=device,
        dtype=dtype,
    )
    main = int(os.environ.get("RANK", "0")) == 0
    with showing(progress, quiet or not main) as show, signals(told=progress != "json") as received:
        material = look(asked, backend, show, lambda: bool(received)) if main else None
        done = False
        if not (dry_run or received):
            done = run(asked, backend, material, show, lambda: bool(received))
    if done:
        typer.echo(output)
    elif received:
        raise typer.Exit(128 + received[0])


def make_all(context: typer.Context, data: str, model: str, output: Path, seed: int) -> None:
    """Every part of diorama from nothing. Raises UserError for any other model, and for flags that its recipe
    leaves no room for."""
    if (data, model) != (NAME, NAME):
        raise UserError(
            f"--train all: makes {NAME} of its own world, {NAME} --model {NAME}; else name a part"
        )
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    for name in (name for name in given if name not in WITH_ALL):
        raise UserError(f"--{name.replace('_', '-')}: --train all has its own; leave it out, or train a part")
    from longvid.training.diorama import make

    make(output, seed)
    typer.echo(output)


def look(asked: Asked, backend: Backend, show: Show, stopping: Callable[[], bool]) -> Material | None:
    """What is trained on, told to the person; None where it was stopped before that was known.

    Raises UserError where there is nothing.
    """
    from longvid.progress import Loading, Noted

    show(Loading("loading PyTorch"))
    from longvid.training.finetune import Looked, choose
    from longvid.training.material import describe
    from longvid.training_events import Counted

    for found in choose(asked, backend):
        if stopping():
            break
        if isinstance(found, Looked):
            show(Counted("clips looked through", found.done, found.total))
            continue
        for said in describe(found, backend, "latents" if asked.part == "denoiser" else "pixels"):
            show(Noted(said))
        return found
    show(Noted("stopped; what is found out of the clips is kept"))
    return None


def run(
    asked: Asked, backend: Backend, material: Material | None, show: Show, stopping: Callable[[], bool]
) -> bool:
    """Train, and tell of it; whether the model was written."""
    from longvid.progress import Noted
    from longvid.training.finetune import finetune as happening
    from longvid.training_events import TrainingBegan, TrainingDone, TrainingStepped, TrainingStopped

    step: int | None = None
    written = False
    for event in told(asked, happening(asked, backend, material, stopping)):
        show(event)
        written = written or isinstance(event, TrainingDone)
        if isinstance(event, TrainingBegan | TrainingStepped):
            step = event.step
    # Only now, for behind its last event a training still waits for the other processes.
    if written:
        return True
    if step is None:
        show(Noted("stopped; what is encoded is kept, and the same command goes on"))
    else:
        show(TrainingStopped("stopped", step, asked.recipe.steps))
    return False


def told(asked: Asked, happening: Iterator[training.Event]) -> Iterator[Event]:
    """What happens, for a person."""
    from longvid.progress import Noted
    from longvid.training.cache import Encoded
    from longvid.training.finetune import Began
    from longvid.training.metrics import mean
    from longvid.training.rehearsal import Sampled, Sampling, Unsampled
    from longvid.training.results import Written
    from longvid.training.trainer import Saved, Stepped, Unsaved
    from longvid.training_events import CheckpointWritten, Counted, SampleWritten, TrainingDone

    began: Began | None = None
    first: Stepped | None = None
    held_out: float | None = None
    step = 0
    for event in happening:
        match event:
            case Encoded():
                if event.problem is not None:
                    yield Noted(str(event.problem), warning=True)
                yield Counted(f"encoding {event.what}s", event.done, event.total)
            case Began():
                began, step, held_out = event, event.training.step, mean(event.training.held_out)
                for path in event.training.broken:
                    yield Noted(f"{path}: is not whole, and is passed over", warning=True)
                yield beginning(asked, event)
            case Stepped():
                assert began is not None
                first = first or event
                step, held_out = event.step, mean(event.held_out) or held_out
                yield stepped(asked.recipe.steps, began.training.step, first, event, held_out)
            case Saved():
                yield CheckpointWritten(event.step, str(event.path))
            case Unsaved():
                yield Noted(f"checkpoint {event.step}: {event.reason}", warning=True)
            case Sampling() if event.step < event.evaluations:
                yield Counted("evaluations of the sample film", event.step, event.evaluations)
            case Sampled():
                yield SampleWritten(step, str(event.path))
            case Unsampled():
                yield Noted(f"no sample film {event.path}: {event.reason}", warning=True)
            case Written():
                yield TrainingDone(
                    str(event.folder), event.step, asked.recipe.steps, event.held_out, event.psnr
                )


def beginning(asked: Asked, event: training.Began) -> TrainingBegan:
    from longvid.training.metrics import mean
    from longvid.training_events import TrainingBegan

    return TrainingBegan(
        output=str(asked.out),
        model=asked.model,
        part=asked.part if asked.lora_rank is None else f"a LoRA of rank {asked.lora_rank}",
        device=event.device,
        dtype=str(event.dtype).removeprefix("torch."),
        processes=event.training.processes,
        parameters=event.training.parameters,
        step=event.training.step,
        steps=event.training.steps,
        held_out=mean(event.training.held_out),
    )


def stepped(
    steps: int, begun_at: int, first: Stepped, event: Stepped, held_out: float | None
) -> TrainingStepped:
    """How the training stands; its pace is that since this command began, measuring and saving included."""
    from longvid.training_events import TrainingStepped

    seconds = max(event.elapsed_seconds - first.elapsed_seconds + first.seconds, 1e-9)
    done = event.step - begun_at
    return TrainingStepped(
        step=event.step,
        steps=steps,
        loss=event.loss if math.isfinite(event.loss) else None,
        lr=event.lr,
        samples_per_second=done * event.samples / event.step / seconds,
        seconds=event.elapsed_seconds,
        seconds_left=(steps - event.step) * seconds / done,
        skipped=event.skipped,
        held_out=held_out,
        measured=bool(event.held_out) or event.step == steps,
    )


def parse_size(written: str) -> tuple[int, int]:
    """``424x240``. Raises UserError."""
    width, _, height = written.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise UserError(f"--size {written}: is no size; write WIDTHxHEIGHT, as 424x240")
    return int(width), int(height)


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longvid" / "clips"
