"""Something small to learn, for the training loop: `python -m tests.training.lessons FOLDER JSON`.

The clips of two captions are of two colours; the tiny backend's network learns which, in a few steps.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState

from longvid.backends import Film
from longvid.training.denoising import Denoising
from longvid.training.distributed import Precision, accelerator
from longvid.training.recipe import Recipe
from longvid.training.sequences import InMemory
from longvid.training.trainer import Event, train
from tests.tiny import RUNTIME, SPEC, TinyBackend, hashed

CAPTIONS = ("a red boat", "a blue sea")
CHUNKS = (6, 5, 3, 2)
RECIPE = Recipe(
    steps=30,
    batch=4,
    micro_batch=2,
    lr=0.02,
    warmup_steps=3,
    average=0.9,
    checkpoint_steps=15,
    held_out_samples=5,
)


def film(device: torch.device = RUNTIME.device) -> Film:
    return TinyBackend().for_film(SPEC, replace(RUNTIME, device=device))


def clips(film: Film, name: str, chunks: tuple[int, ...] = CHUNKS) -> InMemory:
    """Two sequences of each caption, each of its colour."""
    backend = TinyBackend()
    c, latents = backend.geometry.channels, backend.geometry.chunk_latents
    sequences = []
    for i, count in enumerate(chunks):
        colour = 0.8 * hashed(CAPTIONS[i % 2], c, 1, 1, 1).tanh()
        sequences.append(colour + 0.1 * hashed(f"{name}/{i}", c, count * latents, 4, 6))
    captions = tuple((i % 2,) * count for i, count in enumerate(chunks))
    return InMemory(tuple(sequences), captions, film.text_encoder()(CAPTIONS), latents)


def denoising(tiny: Film, data: InMemory | None = None, device: torch.device = RUNTIME.device) -> Denoising:
    """What the tiny network is taught."""
    geometry = TinyBackend().geometry
    return Denoising(
        tiny.trainee(),
        tiny,
        geometry,
        data or clips(film(), "training"),
        clips(film(), "held out"),
        geometry.window_units,
        geometry.steps,
        device,
    )


def lesson(
    folder: Path,
    recipe: Recipe = RECIPE,
    *,
    data: InMemory | None = None,
    objective: Denoising | None = None,
    stopping: Callable[[], bool] = bool,
    precision: Precision = "no",
    device: str = "cpu",
) -> Iterator[Event]:
    """The events of training the tiny network."""
    AcceleratorState._reset_state(reset_partial_state=False)
    accelerated = accelerator(precision, device)
    where = accelerated.device
    return train(
        objective or denoising(film(where), data, where),
        recipe,
        accelerated,
        folder,
        identity={"model": "tiny"},
        stopping=stopping,
    )


def main(folder: str, changed: str) -> None:
    options: dict[str, Any] = json.loads(changed)
    torch.set_num_threads(1)
    for event in lesson(Path(folder), Recipe(**{**RECIPE.__dict__, **options})):
        told = json.dumps({"event": type(event).__name__, "step": event.step})
        os.write(1, f"{told}\n".encode())  # In one piece: other processes tell theirs in between.
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
