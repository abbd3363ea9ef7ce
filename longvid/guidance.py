"""From a Denoiser to what the loop calls: classifier-free guidance, and networks with one text a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from longvid.backends import Denoiser, Prompts, Text


class Predict(Protocol):
    def __call__(self, x: Tensor, t: Tensor, units: tuple[int, ...]) -> Tensor:
        """The prediction [b c f h w] in fp32 for these units' latents x [b c f h w] at times t [b f]."""
        ...


def classifier_free(denoiser: Denoiser, text: Text, scales: Sequence[float]) -> Predict:
    """Classifier-free guidance (Ho & Salimans 2022), null + scale (conditional - null), a scale a unit.

    ``text`` and ``scales`` cover all units of the film. A window in which every unit has scale 1 costs one
    call of the network, any other window two: one after the other, since a batch of two takes twice the
    memory.
    """

    def predict(x: Tensor, t: Tensor, units: tuple[int, ...]) -> Tensor:
        window_text = text.for_units(units)
        conditional = denoiser(x, t, window_text).float()
        if all(scales[unit] == 1 for unit in units):
            return conditional
        null = denoiser(x, t, window_text.null()).float()
        scale = per_frame(torch.tensor([scales[unit] for unit in units]), x)
        # Selected, not computed: null + (conditional - null) is not conditional in floating point.
        return torch.where(scale == 1, conditional, null + scale * (conditional - null))

    return predict


def starting_from(predict: Predict, pictures: Mapping[int, Tensor]) -> Predict:
    """Runs that extend a single latent (paper sections 3.2 and 3.4): a picture's, by each run's first unit.

    ``pictures``: latents [b c 1 h w]. One stands clean in front of the window, at time 0 and under the first
    unit's prompt, until that unit is clean and takes over as context; what is predicted for it is dropped.
    The units then come to ``predict`` once for each of their latents, so that one latent more is one unit
    more: no network has to know.
    """

    def predicted(x: Tensor, t: Tensor, units: tuple[int, ...]) -> Tensor:
        first = units[0]
        # The time is asked for last, and only while there is a picture: a card's is waited for.
        if first not in pictures or t[0, 0] == 0:
            return predict(x, t, units)
        picture = pictures[first].to(x).expand(len(x), -1, -1, -1, -1)
        each_latent = (first, *(unit for unit in units for _ in range(x.shape[2] // len(units))))
        extended = torch.cat([picture, x], dim=2)
        times = torch.cat([torch.zeros_like(t[:, :1]), t], dim=1)
        return predict(extended, times, each_latent)[:, :, 1:]

    return predicted


def per_prompt(denoiser: Denoiser) -> Denoiser:
    """A Denoiser for a network that takes one text a sample (joint attention, pooled text, ...).

    The network sees the whole window once for each distinct prompt in it, and each unit takes its own
    prompt's prediction, or its mix of them in a blend. ``denoiser`` gets texts of one prompt only
    (`Text.single_prompts`). More than one evaluation is needed only in windows that straddle a switch of
    prompts.
    """

    def predict(x: Tensor, t: Tensor, text: Text) -> Tensor:
        prediction = torch.zeros_like(x)
        for prompt, shares in text.single_prompts():
            share = per_frame(torch.tensor(shares), x)
            prediction = torch.where(share > 0, prediction + share * denoiser(x, t, prompt), prediction)
        return prediction

    return predict


def per_frame(values: Tensor, x: Tensor) -> Tensor:
    """One number a unit [k], as a tensor [1 1 f 1 1] over the latents x [b c f h w] of these units.

    From the CPU to a card without waiting for what the card is at."""
    frames = values.repeat_interleave(x.shape[2] // len(values)).view(1, 1, -1, 1, 1)
    return frames.to(x.device, non_blocking=True)


@dataclass(frozen=True)
class PromptText:
    """A Text for any network: the window's prompts, what stands for each without it, and the units' mix.

    ``prompts`` and ``nulls`` hold p rows each, ``mix`` [k p] each unit's shares.
    """

    prompts: Prompts
    nulls: Prompts
    mix: Tensor

    @staticmethod
    def of(prompts: Prompts, nulls: Prompts, negatives: Mapping[int, Prompts], mix: Tensor) -> PromptText:
        """As `Film.text` has them: ``nulls`` hold p rows, each replaced by that prompt's negative if any."""
        if negatives:
            embeddings, mask = nulls.embeddings.clone(), nulls.mask.clone()
            for row, negative in negatives.items():
                embeddings[row], mask[row] = negative.embeddings[0], negative.mask[0]
            nulls = Prompts(embeddings, mask)
        return PromptText(prompts, nulls, mix)

    def for_units(self, units: Sequence[int]) -> PromptText:
        mix = self.mix[list(units)]
        used = mix.any(0)
        return PromptText(_rows(self.prompts, used), _rows(self.nulls, used), mix[:, used])

    def to(self, device: torch.device) -> PromptText:
        def moved(prompts: Prompts) -> Prompts:
            return Prompts(prompts.embeddings.to(device), prompts.mask.to(device))

        return PromptText(moved(self.prompts), moved(self.nulls), self.mix.to(device))

    def null(self) -> PromptText:
        return replace(self, prompts=self.nulls)

    def single_prompts(self) -> list[tuple[PromptText, list[float]]]:
        whole = torch.ones(len(self.mix), 1, device=self.mix.device)
        return [
            (PromptText(_rows(self.prompts, [p]), _rows(self.nulls, [p]), whole), self.mix[:, p].tolist())
            for p in range(self.mix.shape[1])
        ]


def _rows(prompts: Prompts, rows: Tensor | list[int]) -> Prompts:
    return Prompts(prompts.embeddings[rows], prompts.mask[rows])
