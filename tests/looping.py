"""What the tests of the loop share: small films of the tiny backend, and of fields with known integrals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from longvid.backends import Process
from longvid.denoise import Finished, WindowState, denoise, fresh
from longvid.guidance import Predict, classifier_free
from longvid.methods import WindowStep
from longvid.noise import ENTRY, noise, per_unit
from longvid.processes import RectifiedFlow, Solver, euler
from tests.tiny import RUNTIME, SPEC, TinyBackend

SHAPE = (3, 2, 4, 6)
CPU = torch.device("cpu")
States = Iterator[tuple[WindowState, list[Finished]]]


def linear(level: Tensor) -> Tensor:
    return level


def warped(level: Tensor) -> Tensor:
    return 3 * level / (1 + 2 * level)


def run(
    steps: Iterable[WindowStep],
    predict: Predict,
    *,
    levels: int,
    state: WindowState | None = None,
    solver: Solver = euler,
    schedule: Callable[[Tensor], Tensor] = linear,
    process: Process | None = None,
    seeds: Sequence[int] = (0,) * 40,
) -> States:
    return denoise(
        steps,
        state or fresh(SHAPE, CPU),
        predict=predict,
        schedule=schedule,
        process=process or RectifiedFlow(),
        solver=solver,
        total_levels=levels,
        noise=per_unit(seeds, SHAPE),
    )


def finished_of(states: States) -> list[Tensor]:
    return [unit.latents for _, finished in states for unit in finished]


def entering(unit: int, seed: int = 0) -> Tensor:
    return noise(seed, unit, ENTRY, SHAPE)[None]


def tiny_predict(
    mix: Sequence[Sequence[float]], prompts: Sequence[str] = ("a red boat", "a storm")
) -> Predict:
    film = TinyBackend().for_film(SPEC, RUNTIME)
    text = film.text(film.text_encoder()(prompts), {}, torch.tensor(mix, dtype=torch.float32))
    return classifier_free(film.denoiser(), text, [2.0] * len(mix))


def growing(x: Tensor, t: Tensor, units: tuple[int, ...]) -> Tensor:
    """The field dx/dt = x, in which units know nothing of each other."""
    return x
