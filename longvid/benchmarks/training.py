"""A step of training, beside the bare network's forward and backward pass on the same batch."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from einops import rearrange

from longvid.backends import Prompts, Runtime
from longvid.benchmarks import PROMPTS, Setup
from longvid.benchmarks.steps import now
from longvid.devices import device_name
from longvid.noise import noise
from longvid.training import metrics
from longvid.training.denoising import Batch, Denoising, Task
from longvid.training.distributed import accelerator
from longvid.training.recipe import Recipe
from longvid.training.sequences import InMemory
from longvid.training.trainer import Began, Stepped, train
from longvid.training.windows import Window

STEPS, BATCH, MICRO_BATCH = 20, 4, 1
WARM_STEPS = 2
"""Steps that are not counted: memory is asked for, kernels are chosen."""
LEAST_STEPS = 3


@dataclass(frozen=True)
class TrainingRun:
    """On full windows of ``latents``, the clean chunk included. ``seconds``: the best time of a step with all
    that belongs to it; ``bare_seconds``: of the network's passes alone, on the same batch. They took turns,
    ``steps`` times each."""

    latents: int
    steps: int
    batch: int
    micro_batch: int
    seconds: float
    bare_seconds: float
    parameters: int
    size: tuple[int, int]
    precision: str
    device: str
    card: bool
    threads: int

    @property
    def ratio(self) -> float:
        return self.seconds / self.bare_seconds


def measure_training(
    setup: Setup,
    budget_seconds: float,
    steps: int = STEPS,
    batch: int = BATCH,
    micro_batch: int = MICRO_BATCH,
) -> TrainingRun:
    """Train on random latents for ``steps`` steps; for fewer, at least three, where the budget ends before.

    A step is all that `train` does for one: drawing, loss, both passes, clipping, AdamW, the average, and the
    line of metrics.
    """
    deadline = time.monotonic() + budget_seconds
    device, dtype = setup.begin()
    backend = setup.backend()
    geometry = backend.geometry
    planned = setup.plan(1)
    film = backend.for_film(planned.spec, Runtime(device, torch.float32))
    width, height = (side // geometry.pixel_stride for side in planned.size)
    chunks = planned.window + 1
    shape = (geometry.channels, chunks * geometry.chunk_latents, height, width)
    encoded = film.text_encoder()(PROMPTS)
    data = InMemory(
        tuple(noise(0, i, 0, shape) for i in range(len(PROMPTS))),
        tuple((i,) * chunks for i in range(len(PROMPTS))),
        Prompts(encoded.embeddings.cpu().clone(), encoded.mask.cpu().clone()),
        geometry.chunk_latents,
    )
    nothing = InMemory((), (), data.prompts, geometry.chunk_latents)
    counted = steps + WARM_STEPS
    # One more, which is never taken: behind the last one a checkpoint is written.
    recipe = Recipe(counted + 1, batch, micro_batch, checkpoint_steps=counted + 1)
    window = Window("progressive", 0, planned.window, context=True)
    objective = Denoising(
        film.trainee(), film, geometry, data, nothing, planned.window, planned.steps, device, fixed=window
    )
    precise = dtype is not torch.bfloat16
    bare = film.trainee()
    pairs: list[tuple[float, float]] = []
    with TemporaryDirectory() as folder:
        loop = train(
            objective,
            recipe,
            accelerator("no" if precise else "bf16", device.type),
            Path(folder),
        )
        began = next(loop)
        assert isinstance(began, Began)
        for step in range(counted):
            started = now(device)
            stepped = next(loop)
            assert isinstance(stepped, Stepped)
            metrics.append(Path(folder) / "metrics.jsonl", stepped)
            whole = now(device) - started

            batches = [
                objective.draw(Task(window), recipe.seed, step, samples) for samples in recipe.share(1)[0]
            ]
            noisy = [(noised(objective, drawn), drawn) for drawn in batches]
            bare.network.zero_grad()
            started = now(device)
            for x, drawn in noisy:
                with torch.autocast(device.type, torch.bfloat16, enabled=not precise):
                    predicted = bare.predict(bare.network, x, drawn.times, drawn.texts)
                predicted.float().mean().backward()
            pairs.append((whole, now(device) - started))
            if len(pairs) >= WARM_STEPS + LEAST_STEPS and time.monotonic() > deadline:
                break
    pairs = pairs[WARM_STEPS:]
    return TrainingRun(
        latents=window.chunks * geometry.chunk_latents,
        steps=len(pairs),
        batch=batch,
        micro_batch=micro_batch,
        seconds=min(whole for whole, _ in pairs),
        bare_seconds=min(alone for _, alone in pairs),
        parameters=began.parameters,
        size=planned.size,
        precision="float32" if precise else "bfloat16",
        device=device_name(device),
        card=device.type == "cuda",
        threads=torch.get_num_threads(),
    )


def noised(objective: Denoising, drawn: Batch) -> torch.Tensor:
    """What the network is shown of a batch."""
    times = rearrange(drawn.times, "b f -> b 1 f 1 1")
    return objective.film.process.add_noise(drawn.clean, drawn.noise, times)
