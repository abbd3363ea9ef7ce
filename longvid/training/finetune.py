"""From a folder of captioned clips to a model of one's own, in order: look through, encode, train, write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longvid import __version__
from longvid.backends import Backend, Dtype, Film, FilmSpec, Runtime
from longvid.devices import choose_device, choose_dtype, device_name
from longvid.errors import RenderError
from longvid.methods import check_steps
from longvid.training import captions, card, checkpoints, curve, lora, metrics, prepared, trainer
from longvid.training.corpus import corpus, examined
from longvid.training.objective import Objective
from longvid.training.passages import Format, Selection, select
from longvid.training.prepared import Encoded, Prepared
from longvid.training.recipe import Recipe
from longvid.training.trainer import Stepped

PREPARED, METRICS, CHECKPOINTS = "prepared.json", "metrics.jsonl", "checkpoints"


@dataclass(frozen=True)
class Asked:
    """What `longvid finetune` was asked for. ``out``: the model's folder; what the training itself needs lies
    in its ``training``. ``lora_rank``: None trains the weights themselves; with ``merge`` a LoRA is added to
    them in the end. ``sampling_steps`` and ``window``: S and K of the films to come."""

    data: Path
    out: Path
    model: str
    recipe: Recipe
    size: tuple[int, int]
    fps: Fraction
    window: int
    sampling_steps: int
    cache: Path
    lora_rank: int | None = None
    merge: bool = False
    held_out: Fraction = Fraction(1, 20)
    workers: int = 2
    device: str = "auto"
    dtype: Dtype = "auto"

    @property
    def training(self) -> Path:
        return self.out / "training"


@dataclass(frozen=True)
class Looked:
    """So many of ``total`` clips are looked through."""

    done: int
    total: int


@dataclass(frozen=True)
class Written:
    """The model is in its folder; ``held_out``: its loss before and after, where something was held out."""

    folder: Path
    held_out: tuple[float, float] | None


Event = Looked | Encoded | trainer.Event | Written


def choose(asked: Asked, backend: Backend) -> Iterator[Looked | Selection]:
    """Look through the clips; the last thing yielded is what of them would be trained on.

    Raises UserError for a folder of which nothing can be used, and for a window that cannot be.
    """
    check_steps(asked.sampling_steps, asked.window)
    listed = captions.listing(asked.data)
    found = []
    yield Looked(0, len(listed.clips))
    for result in examined(listed, asked.cache, asked.workers):
        found.append(result)
        yield Looked(len(found), len(listed.clips))
    format = Format(backend.geometry, asked.size, asked.fps, asked.window + 1)
    yield select(corpus(listed, found), format, asked.held_out)


def finetune(
    asked: Asked, backend: Backend, selected: Selection | None, stopping: Callable[[], bool]
) -> Iterator[Event]:
    """Encode what is ``selected`` (in the process that does so; None in the others), train, and write the
    model. It goes on from the last checkpoint in ``asked.training``.

    Raises UserError and RenderError as the hops do; what was trained so far is in a checkpoint.
    """
    chosen = choose_device(asked.device)
    dtype = choose_dtype(asked.dtype, chosen)
    half: trainer.Precision = "bf16" if dtype == torch.bfloat16 else "no"
    accelerator = trainer.accelerator(half, asked.device)
    where: torch.device = accelerator.device  # of several cards each process has its own
    runtime = Runtime(where, dtype)
    film = backend.for_film(FilmSpec(asked.size, asked.fps, asked.window, {}), runtime)
    if selected is not None:
        yield from prepared.encoded(selected, film, runtime, asked.cache, asked.workers)
        asked.training.mkdir(parents=True, exist_ok=True)
        prepared.collect(selected, film, runtime, asked.cache).save(asked.training / PREPARED)
    accelerator.wait_for_everyone()
    data = Prepared.load(asked.training / PREPARED)
    trainee = film.trainee()
    if asked.lora_rank is not None:
        lora.adapt(
            trainee.network, trainee.lora_targets, asked.lora_rank, base=asked.model, seed=asked.recipe.seed
        )
    objective = Objective(film, backend.geometry, asked.window, asked.sampling_steps, where)
    begun: trainer.Began | None = None
    last: Stepped | None = None
    happening = trainer.train(
        trainee,
        objective,
        data.training,
        data.held_out,
        asked.recipe,
        accelerator,
        asked.training / CHECKPOINTS,
        identity={"model": film.fingerprint, "lora_rank": asked.lora_rank},
        stopping=stopping,
    )
    for event in happening:
        if isinstance(event, trainer.Began):
            begun = event
            if accelerator.is_main_process:
                metrics.keep(asked.training / METRICS, event.step)
        if isinstance(event, Stepped):
            last = event
            if accelerator.is_main_process:
                metrics.append(asked.training / METRICS, event)
        yield event
    if stopping() or not accelerator.is_main_process:
        return
    assert begun is not None
    best = checkpoints.best(asked.training / CHECKPOINTS)
    if best is None:
        raise RenderError(f"{asked.training}: has no whole checkpoint")
    average = best.tensors("average")
    write_model(asked, film, trainee, average)
    before, after = best.state["held_out_before"], best.state["held_out"]
    losses = (sum(before.values()) / len(before), sum(after.values()) / len(after)) if after else None
    write_card(asked, backend, data, selected, begun, last, losses, device_name(where))
    yield Written(asked.out, losses)


def write_model(asked: Asked, film: Film, trainee: Any, average: dict[str, Tensor]) -> None:
    """The averaged weights of the best checkpoint: the model's folder, or a LoRA alone."""
    if asked.lora_rank is None:
        trainee.save(asked.out, average)
    elif asked.merge:
        trainee.save(asked.out, lora.merged(trainee.network, average))
    else:
        lora.save(asked.out, trainee.network, average)


def write_card(
    asked: Asked,
    backend: Backend,
    data: Prepared,
    selected: Selection | None,
    began: trainer.Began,
    last: Stepped | None,
    held_out: tuple[float, float] | None,
    device: str,
) -> None:
    """The model's card and its loss curve, in its folder."""
    total = began.parameters
    clips = () if selected is None else selected.corpus.examples
    facts = card.Facts(
        name=asked.out.name,
        backend=backend.name,
        base=asked.model,
        licence=backend.licence,
        part="denoiser",
        data=card.Data(
            clips=len(clips),
            left_out=0 if selected is None else len(selected.problems),
            sequences=len(data.training.chunks) + len(data.held_out.chunks),
            held_out=len(data.held_out.chunks),
            seconds=sum((example.seconds for example in clips), Fraction()),
            size=asked.size,
            fps=asked.fps,
        ),
        trained=total,
        parameters=total,
        steps=asked.recipe.steps,
        batch=asked.recipe.batch,
        learning_rate=asked.recipe.lr,
        seed=asked.recipe.seed,
        seconds=last.elapsed_seconds if last else 0.0,
        device=device,
        processes=began.processes,
        longvid=__version__,
        lora_rank=asked.lora_rank,
        skipped_steps=last.skipped if last else 0,
        held_out=held_out,
    )
    card.write_card(asked.out, facts)
    curve.draw(curve.read_metrics(asked.training / METRICS), asked.out.name, asked.out / card.CURVE)
