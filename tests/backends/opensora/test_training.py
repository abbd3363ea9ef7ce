"""Losses recorded from the public training code, from the same draws."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from longvid.backends.flow_shift import shift
from longvid.backends.opensora.film import PROCESS
from longvid.backends.opensora.schedule import shift_ratio
from longvid.training import windows
from longvid.training.loss import window_loss
from tests.backends.opensora.cases import Case
from tests.backends.opensora.reading import network, predict
from tests.backends.opensora.test_schedule import reference_latents

KIND = "training"


@torch.inference_mode()
def test_loss(case: Case) -> None:
    recorded, config, info = case.tensors(), case.config, case.about.get("info", {})
    clean, noise, scheduler = recorded["in/x"], recorded["draw/noise"], config["scheduler"]
    b, c, latents, _, _ = clean.shape

    def times(levels: Tensor, chunk: int, context: int) -> Tensor:
        """Times [b f] of levels [b k], each sample's by its own picture."""
        return torch.cat(
            [
                windows.latent_times(row[None], context, schedule(config, recorded, sample))
                for sample, row in enumerate(levels.repeat_interleave(chunk, 1))
            ]
        )

    if config["pa_vdm"]:
        chunk, steps = scheduler["latent_chunk_size"], scheduler["num_sampling_steps"]
        context = chunk if scheduler.get("keep_x0") else 0
        if scheduler.get("noise_pattern") == "linear":
            chunk = 1  # There each latent has a level of its own.
        units = (latents - context) // chunk
        window = config.get("stages_fixed_with_num_frames", latents - context) // chunk
        levels = drawn_levels(info, recorded, units, window, steps // window, chunk).expand(b, -1)
        if "draw/shift" in recorded:
            levels = windows.jitter(levels, recorded["draw/shift"], steps, scheduler["linear_shift_scale"])
        t = times(levels, chunk, context)
        noisy = (torch.arange(latents) >= context).expand(b, -1)
        noise = torch.cat([torch.zeros_like(clean[:, :, :context]), noise], 2)
        assert torch.allclose(1000 * t, recorded["t"], rtol=0, atol=1e-3)
    else:
        context = 0
        noisy = recorded.get("in/x_mask", torch.ones(b, latents, dtype=torch.bool))
        t = times(recorded["draw/t"][:, None], latents, 0)
        assert torch.allclose(1000 * t[:, 0], recorded["t"], rtol=0, atol=1e-3)
        t = t * noisy

    def predicted(x: Tensor, t: Tensor) -> Tensor:
        assert torch.allclose(x, recorded["x_t"], rtol=0, atol=1e-5)
        return predict(network(case), x, 1000 * t, recorded)[:, :c]

    target = PROCESS.target(clean, noise, t[:, None, :, None, None])
    assert torch.allclose(target[:, :, context:], recorded["target"], rtol=0, atol=1e-6)
    losses = window_loss(predicted, PROCESS, clean, noise, t, noisy[..., None, None])
    assert torch.allclose(losses, recorded["loss"], rtol=1e-5, atol=0)


def drawn_levels(
    info: dict[str, Any], recorded: dict[str, Tensor], units: int, window: int, stride: int, chunk: int
) -> Tensor:
    """Levels [k] of the stage, and of the end of the window, that were drawn.

    Where it is not said which, they are those of one of the stages and ends all the same.
    """
    ends, stages = [0, window - units], range(stride)
    if "stage" in info:
        ends, stages = [window - units if info.get("initialization") else 0], [info["stage"]]
    found = [
        windows.window_levels(first, units, stage / stride, window) for first in ends for stage in stages
    ]
    if "t_stage" in recorded:
        found = [
            levels
            for levels in found
            if torch.allclose(1000 * levels.repeat_interleave(chunk), recorded["t_stage"], rtol=0, atol=1e-3)
        ]
    assert found
    return found[0]


def schedule(config: dict[str, Any], recorded: dict[str, Tensor], sample: int) -> Callable[[Tensor], Tensor]:
    if not config["scheduler"].get("use_timestep_transform"):
        return torch.clone
    picture = (recorded[f"in/{side}"][sample].item() for side in ("height", "width"))
    frames = int(recorded["in/num_frames"][sample])
    return partial(shift, ratio=shift_ratio(*picture, reference_latents(frames)))
