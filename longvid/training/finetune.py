"""From captioned clips to a model of one's own, in order: look through, encode, train, write."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from longvid import datasets
from longvid.backends import Backend, Film, FilmSpec, Runtime
from longvid.devices import choose_device, choose_dtype, device_name, keep_memory
from longvid.methods import check_steps
from longvid.plan import RenderPlan
from longvid.training import (
    captions,
    dataset,
    footage,
    lora,
    metrics,
    passages,
    prepared,
    rehearsal,
    results,
    trainer,
)
from longvid.training.asked import Asked as Asked
from longvid.training.boards import board
from longvid.training.cache import Encoded
from longvid.training.corpus import corpus, examined
from longvid.training.denoising import Denoising
from longvid.training.distributed import Precision, accelerator, shards
from longvid.training.material import Format, Material, distinct_captions
from longvid.training.optimizers import check_device
from longvid.training.reconstruction import Reconstruction
from longvid.training.rehearsal import Rehearsal, rehearse
from longvid.training.results import Written as Written

if TYPE_CHECKING:
    from accelerate import Accelerator  # type: ignore[import-untyped]  # it has no stubs


@dataclass(frozen=True)
class Looked:
    """So many of ``total`` clips are looked through."""

    done: int
    total: int


@dataclass(frozen=True)
class Began:
    """Everything is loaded and encoded, and the ``training`` begins or goes on."""

    training: trainer.Began
    device: str
    dtype: torch.dtype


Event = Looked | Encoded | Began | trainer.Event | rehearsal.Event | Written


def choose(asked: Asked, backend: Backend) -> Iterator[Looked | Material]:
    """Look through the clips; the last thing yielded is what of them would be trained on.

    Raises UserError for a folder of which nothing can be used, an unknown dataset, and a window or a sample
    film that cannot be.
    """
    check_steps(asked.sampling_steps, asked.window)
    check_device(asked.recipe.optimizer, choose_device(asked.device))
    if asked.sample is not None:
        plan_sample(asked, backend)
    format = Format(backend.geometry, asked.size, asked.fps, asked.window + 1)
    if datasets.is_name(asked.data):
        yield dataset.select(asked.data, format, asked.clips, asked.recipe.seed, asked.held_out)
        return
    listed = captions.listing(Path(asked.data))
    found = []
    yield Looked(0, len(listed.clips))
    for result in examined(listed, asked.cache, asked.workers):
        found.append(result)
        yield Looked(len(found), len(listed.clips))
    yield passages.select(corpus(listed, found), format, asked.held_out)


def finetune(
    asked: Asked, backend: Backend, material: Material | None, stopping: Callable[[], bool]
) -> Iterator[Event]:
    """Encode the ``material`` (in the process that does so; None in the others), train, and write the model.
    It goes on from the last checkpoint in ``asked.training``.

    Raises UserError and RenderError as the hops do; what was trained so far is in a checkpoint.
    """
    dtype = choose_dtype(asked.dtype, choose_device(asked.device))
    half: Precision = "bf16" if dtype == torch.bfloat16 else "no"
    accelerated = accelerator(half, asked.device)
    # Of several cards each process has its own.
    runtime = Runtime(accelerated.device, dtype)
    if runtime.device.type == "cpu":
        keep_memory()
    film = backend.for_film(FilmSpec(asked.size, asked.fps, asked.window, {}), runtime)
    if material is not None:
        with closing(encode(asked, backend, film, runtime, material)) as encoding:
            for done in encoding:
                yield done
                # Of several processes the others wait for what is encoded.
                if stopping() and accelerated.num_processes == 1:
                    return
    accelerated.wait_for_everyone()
    sampled = load_rehearsal(asked, backend, film, runtime, accelerated)
    objective = load(asked, backend, film, runtime.device)
    happening = trainer.train(
        objective,
        asked.recipe,
        accelerated,
        asked.checkpoints,
        identity={
            "model": film.fingerprint,
            "trained": asked.part,
            "from_scratch": asked.from_scratch,
            "lora_rank": asked.lora_rank,
        },
        stopping=stopping,
    )
    began = next(happening)
    assert isinstance(began, trainer.Began)
    yield Began(began, device_name(runtime.device), dtype)
    yield from recorded(asked, happening, began, accelerated, sampled, objective, stopping)
    if material is not None and not stopping():
        yield results.write(asked, backend, film, runtime, objective.trainee, material, began)
    # Together, and before the interpreter goes: else threads that listen to the others may crash it.
    accelerated.wait_for_everyone()
    accelerated.end_training()


def encode(
    asked: Asked, backend: Backend, film: Film, runtime: Runtime, material: Material
) -> Generator[Encoded, None, None]:
    """Put into the cache what training reads, and where it is into the model's folder."""
    if asked.part == "denoiser":
        yield from prepared.encoded(material, film, runtime, asked.cache, asked.workers)
        asked.training.mkdir(parents=True, exist_ok=True)
        prepared.collect(material, film, runtime, asked.cache).save(asked.prepared)
    else:
        yield from footage.kept(material, asked.cache, asked.workers)
        asked.training.mkdir(parents=True, exist_ok=True)
        footage.collect(material, asked.cache).save(asked.prepared)
    if asked.recipe.sample_steps and asked.sample is None:
        said = distinct_captions(material.items)
        rehearsal.write_prompts(asked.samples, said, backend.geometry, asked.window)


def load(asked: Asked, backend: Backend, film: Film, device: torch.device) -> Denoising | Reconstruction:
    """The network, and what it is taught."""
    if asked.part != "denoiser":
        shown, codec = footage.load(asked.prepared), film.codec_trainee(asked.part, asked.fresh)
        return Reconstruction(codec, backend.geometry, shown.training, shown.held_out, asked.part, device)
    data, denoiser = prepared.load(asked.prepared), film.trainee(asked.fresh)
    if asked.lora_rank is not None:
        targets, seed = denoiser.lora_targets, asked.recipe.seed
        lora.adapt(denoiser.network, targets, asked.lora_rank, base=asked.model, seed=seed)
    return Denoising(
        denoiser,
        film,
        backend.geometry,
        data.training,
        data.held_out,
        asked.window,
        asked.sampling_steps,
        device,
        dropout=asked.dropout,
        short_steps=asked.short_steps,
    )


def plan_sample(asked: Asked, backend: Backend) -> RenderPlan:
    """The sample film. Raises UserError for a timeline that is none."""
    file = asked.sample or asked.samples / rehearsal.PROMPTS
    return rehearsal.plan_sample(file, backend, asked.size, asked.fps, asked.window, asked.sampling_steps)


def load_rehearsal(
    asked: Asked, backend: Backend, film: Film, runtime: Runtime, accelerated: Accelerator
) -> Rehearsal | None:
    """The sample film, made ready before the network is in memory; by the main process only, unless the
    network will be with all of them."""
    if not asked.recipe.sample_steps:
        return None
    if not (accelerated.is_main_process or shards(asked.recipe.shard, accelerated)):
        return None
    return Rehearsal.of(plan_sample(asked, backend), backend.geometry, film, runtime)


def recorded(
    asked: Asked,
    happening: Iterator[trainer.Event],
    began: trainer.Began,
    accelerated: Accelerator,
    sampled: Rehearsal | None,
    objective: Denoising | Reconstruction,
    stopping: Callable[[], bool],
) -> Iterator[trainer.Event | rehearsal.Event]:
    """What happens in training, its figures on disk, and the sample films in between."""
    main = accelerated.is_main_process
    # Where all take part, none may leave the others alone.
    leaving = bool if shards(asked.recipe.shard, accelerated) else stopping
    if main:
        metrics.keep(asked.metrics, began.step)
    with board(asked.board, began.step) if main else nullcontext() as shown:
        if shown is not None and not began.step:
            shown.write(0, {"held_out": metrics.mean(began.held_out)})
        for event in happening:
            if isinstance(event, trainer.Averaged):
                if sampled is not None and isinstance(objective, Denoising):
                    path = asked.samples / f"{event.step:06d}.mp4" if main else None
                    yield from rehearse(sampled, objective.trainee, path, leaving)
                continue
            if isinstance(event, trainer.Stepped) and shown is not None:
                metrics.append(asked.metrics, event)
                shown.write_step(event)
            yield event
