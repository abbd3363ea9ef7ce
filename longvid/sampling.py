"""A film's window, from its plan and the loaded model: prompts encoded, guided, walked from a state on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from longvid.backends import Denoiser, Film, Geometry, Text
from longvid.denoise import Finished, WindowState, denoise
from longvid.document import show as display
from longvid.guidance import classifier_free, starting_from
from longvid.noise import per_unit
from longvid.plan import RenderPlan
from longvid.processes import SOLVERS


def windows(
    planned: RenderPlan,
    geometry: Geometry,
    film: Film,
    text: Text,
    pictures: Mapping[int, Tensor],
    state: WindowState,
    denoiser: Denoiser | None = None,
) -> Iterator[tuple[WindowState, list[Finished]]]:
    """The denoising loop from this state on, each run from its picture [1 c 1 h w], if it has one.

    ``denoiser``: in place of the film's own, as while a network is in training.
    """
    walk = planned.walk
    guided = classifier_free(denoiser or film.denoiser(), text, [unit.guidance for unit in planned.units])

    def predict(x: Tensor, t: Tensor, units: tuple[int, ...]) -> Tensor:
        return guided(x, t, tuple(map(walk.chunk, units)))

    # Units may be there that only fill the window at the film's end: they have a noise of their own.
    seeds = [planned.units[walk.chunk(unit)].seed for unit in range(walk.units)]
    in_front = {chunk * walk.parts: picture for chunk, picture in pictures.items()}
    for behind, finished in denoise(
        walk,
        state,
        predict=starting_from(predict, in_front),
        schedule=film.schedule,
        process=film.process,
        solver=SOLVERS[planned.solver],
        total_levels=planned.steps,
        noise=per_unit(seeds, unit_shape(planned, geometry)),
        parts=walk.parts,
    ):
        for clean in finished:  # which may be noised again, as context: that is no beginning
            in_front.pop(clean.unit * walk.parts, None)
        yield behind, finished


def unit_shape(planned: RenderPlan, geometry: Geometry) -> tuple[int, int, int, int]:
    """(c, l, h, w) of one unit."""
    width, height = (side // geometry.pixel_stride for side in planned.size)
    return (geometry.channels, planned.walk.unit_latents, height, width)


def encode_prompts(film: Film, planned: RenderPlan) -> tuple[Text, list[str]]:
    """All prompts encoded, and a line for each whose end is too long to be read.

    The encoder lives only here, so its memory is free again afterwards.
    """
    encoder = film.text_encoder()
    ends = ((prompt, encoder.unread(prompt)) for prompt in planned.prompts)
    too_long = [
        f"prompt {display(prompt)} is too long for {planned.model}, its end is not read: {display(end)}"
        for prompt, end in ends
        if end
    ]
    prompts = encoder(planned.prompts)
    negatives = {row: encoder.negative(text) for row, text in enumerate(planned.negatives) if text}
    mix = torch.zeros(len(planned.units), len(planned.prompts))
    for unit in planned.units:
        for prompt, weight in unit.mix:
            mix[unit.index, prompt] = weight
    return film.text(prompts, negatives, mix), too_long
