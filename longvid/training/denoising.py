"""The denoiser's lesson: windows of sequences, at the levels that sampling meets, under their captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from longvid.backends import Film, Geometry, Trainee
from longvid.errors import UserError
from longvid.noise import noise
from longvid.training.loss import window_loss
from longvid.training.sequences import Sequences
from longvid.training.windows import SHARES, Kind, Window, draw_times, draw_window, latent_times

TASK, SAMPLE = 0, 1
"""Of a step, what a generator draws for; the sample's number follows."""
DROPOUT = 0.1
EARLY = 0.95
"""The level at which prompts count most: the picture is not there yet, and has to come of them."""
Place = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Task:
    """A ``window``; its noisy latents all at one ``level``, where that is not drawn; under their own caption,
    another sequence's, or none."""

    window: Window
    level: float | None = None
    caption: Literal["own", "another", "none"] = "own"


@dataclass(frozen=True)
class Batch:
    """Samples of one window: latents ``clean`` and ``noise`` [b c f h w], ``times`` [b f], how much each cell
    counts in the loss, ``weights`` [b f h w] (0: clean context), and a Text a sample."""

    clean: Tensor
    noise: Tensor
    times: Tensor
    weights: Tensor
    texts: tuple[Any, ...]


@dataclass(frozen=True)
class Denoising:
    """``window`` is K and ``steps`` S of the films to come; ``shares``: of the kinds of window; ``dropout``:
    how often the null prompt stands for a sample's own.

    The first ``short_steps`` steps are on one or two chunks without context, which teach a network that knows
    nothing how a picture forms from its prompt. ``fixed``: every step's window, where it is not to be drawn.
    """

    trainee: Trainee
    film: Film
    geometry: Geometry
    training: Sequences
    held_out: Sequences
    window: int
    steps: int
    device: torch.device
    dropout: float = DROPOUT
    shares: Mapping[Kind, float] = field(default_factory=lambda: SHARES)
    short_steps: int = 0
    fixed: Window | None = None
    _places: dict[tuple[bool, int, bool], Place] = field(default_factory=dict, repr=False, compare=False)

    @property
    def network(self) -> nn.Module:
        return self.trainee.network

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return self.trainee.blocks

    def identity(self) -> dict[str, Any]:
        return {
            "window": self.window,
            "sampling_steps": self.steps,
            "shares": dict(self.shares),
            "dropout": self.dropout,
            "short_steps": self.short_steps,
        }

    @property
    def checks(self) -> dict[str, Task]:
        """A film's middle, its start, a whole clip; and a start at its noisiest under its own caption,
        another one and none: where the first is no better than the others, prompts are not heard."""
        if not self.held_out.chunks:
            return {}
        longest = max(self.held_out.chunks)
        start = Window("uniform", 0, min(2, longest), False)
        return {
            "steady": Task(
                Window("progressive", 0, min(self.window, max(1, longest - 1)), context=longest > 1)
            ),
            "start": Task(Window("progressive", self.window - 1, 1, False)),
            "uniform": Task(Window("uniform", 0, min(self.window, longest), False)),
            "text": Task(start, EARLY),
            "text_another": Task(start, EARLY, "another"),
            "text_none": Task(start, EARLY, "none"),
        }

    def draw_task(self, seed: int, step: int) -> Task:
        """A window that some sequence has room for."""
        if not self.training.chunks:
            raise UserError("there is no sequence to train on")
        if self.fixed is not None:
            return Task(self.fixed)
        longest = max(self.training.chunks)
        rng = np.random.default_rng((seed, step, TASK))
        if step < self.short_steps:
            return Task(Window("uniform", 0, min(longest, 1 + int(rng.random() < 0.3)), False))
        return Task(draw_window(rng, self.window, self.shares, longest))

    def multiple(self, task: Task) -> int:
        """Every step has about as many latents."""
        return max(1, (self.window + 1) // task.window.chunks)

    def draw(self, task: Task, seed: int, step: int, samples: Sequence[int], held_out: bool = False) -> Batch:
        """All places where the window fits are equally likely, but that a window without context does not
        begin where a film could not. What is held out keeps its captions."""
        data, window = self.held_out if held_out else self.training, task.window
        clean, noises, times, weights, texts = [], [], [], [], []
        for sample in samples:
            rng = np.random.default_rng((seed, step, SAMPLE, sample))
            excerpt = data.excerpt(*self._place(rng, held_out, window), window.chunks)
            t, counts = draw_times(
                rng, window, 1, self.window, self.geometry.chunk_latents, self.steps, self.film.schedule
            )
            if task.level is not None:
                level = torch.full((1, window.noisy * self.geometry.chunk_latents), task.level)
                t = latent_times(level, t.shape[1] - level.shape[1], self.film.schedule)
            told = excerpt
            if task.caption == "another":
                told = data.excerpt(*self._place(rng, held_out, window), window.chunks)
            text = self.film.text(told.prompts, {}, told.mix)
            dropped = not held_out and rng.random() < self.dropout
            shape = (len(t[0]), *excerpt.latents.shape[2:])
            cells = torch.ones(shape) if excerpt.weights is None else excerpt.weights
            clean.append(excerpt.latents)
            noises.append(noise(seed, sample, step, excerpt.latents.shape))
            times.append(t)
            weights.append(cells * counts[0, :, None, None])
            texts.append(text.null() if dropped or task.caption == "none" else text)

        def put(tensor: Tensor) -> Tensor:
            return tensor.to(self.device, non_blocking=True)

        return Batch(
            put(torch.stack(clean)),
            put(torch.stack(noises)),
            put(torch.cat(times)),
            put(torch.stack(weights)),
            tuple(texts),
        )

    def losses(self, network: nn.Module, batch: Batch) -> Tensor:
        def predict(x: Tensor, t: Tensor) -> Tensor:
            return self.trainee.predict(network, x, t, batch.texts)

        return window_loss(predict, self.film.process, batch.clean, batch.noise, batch.times, batch.weights)

    def _place(self, rng: np.random.Generator, held_out: bool, window: Window) -> tuple[int, int]:
        """(sequence, its first chunk) of a sample."""
        key = (held_out, window.chunks, window.context)
        if key not in self._places:
            data = self.held_out if held_out else self.training
            found = [
                (sequence, first)
                for sequence, chunks in enumerate(data.chunks)
                for first, begins in enumerate(data.begins(sequence)[: max(0, chunks - window.chunks + 1)])
                if begins or window.context
            ]
            if not found:
                raise UserError(f"no sequence has a place where {window.chunks} chunks could begin a film")
            sequences, firsts = np.array(found).T
            self._places[key] = sequences, firsts
        sequences, firsts = self._places[key]
        place = int(rng.integers(len(sequences)))
        return int(sequences[place]), int(firsts[place])
