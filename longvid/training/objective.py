"""What a network is taught: windows of sequences, at the levels that sampling meets, under their captions.

Every draw comes from (seed, step, sample), where samples are numbered over a step's whole batch: neither a
restart nor the way in which the batch is shared among processes and micro-batches changes what is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from longvid.backends import Film, Geometry, Trainee
from longvid.errors import UserError
from longvid.noise import noise
from longvid.training.loss import window_loss
from longvid.training.sequences import Sequences
from longvid.training.windows import SHARES, Kind, Window, draw_times, draw_window

WINDOW, SAMPLE = 0, 1
"""Of a step, what a generator draws for; the sample's number follows."""


@dataclass(frozen=True)
class Batch:
    """Samples of one window: latents ``clean`` and ``noise`` [b c f h w], ``times`` [b f], which of them are
    ``noisy`` [b f], and a Text a sample."""

    clean: Tensor
    noise: Tensor
    times: Tensor
    noisy: Tensor
    texts: tuple[Any, ...]


@dataclass(frozen=True)
class Objective:
    """``window`` is K and ``steps`` S of the films to come; ``shares``: of the kinds of window; ``fixed``:
    every step's window, where it is not to be drawn."""

    film: Film
    geometry: Geometry
    window: int
    steps: int
    device: torch.device
    shares: Mapping[Kind, float] = field(default_factory=lambda: SHARES)
    fixed: Window | None = None

    def identity(self) -> dict[str, Any]:
        """What of it the weights come of, besides the film."""
        return {"window": self.window, "sampling_steps": self.steps, "shares": dict(self.shares)}

    def draw_window(self, data: Sequences, seed: int, step: int) -> Window:
        """What all samples of a step share. Raises UserError where no sequence is long enough."""
        if not data.chunks:
            raise UserError("there is no sequence to train on")
        if self.fixed is not None:
            return self.fixed
        rng = np.random.default_rng((seed, step, WINDOW))
        return draw_window(rng, self.window, self.shares, max(data.chunks))

    def draw(
        self, data: Sequences, window: Window, seed: int, step: int, samples: Sequence[int], dropout: float
    ) -> Batch:
        """Some of a step's samples, by their numbers. All places where the window fits are equally likely;
        ``dropout`` is how often the null prompt stands for a sample's own."""
        places = np.cumsum([max(0, chunks - window.chunks + 1) for chunks in data.chunks])
        clean, noises, times, noisy, texts = [], [], [], [], []
        for sample in samples:
            rng = np.random.default_rng((seed, step, SAMPLE, sample))
            place = int(rng.integers(places[-1]))
            sequence = int(np.searchsorted(places, place, side="right"))
            first = place - int(places[sequence - 1] if sequence else 0)
            excerpt = data.excerpt(sequence, first, window.chunks)
            t, counts = draw_times(
                rng, window, 1, self.window, self.geometry.chunk_latents, self.steps, self.film.schedule
            )
            text = self.film.text(excerpt.prompts, {}, excerpt.mix)
            clean.append(excerpt.latents)
            noises.append(noise(seed, sample, step, excerpt.latents.shape))
            times.append(t)
            noisy.append(counts)
            texts.append(text.null() if rng.random() < dropout else text)

        def put(tensor: Tensor) -> Tensor:
            return tensor.to(self.device, non_blocking=True)

        return Batch(
            put(torch.stack(clean)),
            put(torch.stack(noises)),
            put(torch.cat(times)),
            put(torch.cat(noisy)),
            tuple(texts),
        )

    def losses(self, trainee: Trainee, network: nn.Module, batch: Batch) -> Tensor:
        """The loss [b] of each sample; ``network`` is the trainee's, as it is wrapped by now."""

        def predict(x: Tensor, t: Tensor) -> Tensor:
            return trainee.predict(network, x, t, batch.texts)

        return window_loss(predict, self.film.process, batch.clean, batch.noise, batch.times, batch.noisy)


def checks(window: int, longest: int) -> dict[str, Window]:
    """The windows that held-out sequences are measured in: a film's middle, its start, and a whole clip."""
    noisy = min(window, longest)
    return {
        "steady": Window("progressive", 0, min(window, max(1, longest - 1)), longest > 1),
        "start": Window("progressive", window - 1, 1, False),
        "uniform": Window("uniform", 0, noisy, False),
    }
