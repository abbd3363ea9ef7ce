"""Losses recorded from the public training code, from the same draws."""

from __future__ import annotations

import torch
from torch import Tensor

from longvid.backends.opensora.schedule import shift, shift_ratio
from longvid.training import loss
from tests.backends.opensora.cases import Case
from tests.backends.opensora.reading import network, velocity
from tests.backends.opensora.test_schedule import reference_latents

KIND = "training"


def test_loss(case: Case) -> None:
    recorded, config, info = case.tensors(), case.config, case.about["info"]
    scheduler = config["scheduler"]
    clean, noise = recorded["in/x"], recorded["draw/noise"]
    latents = clean.shape[2]

    def schedule(level: Tensor) -> Tensor:
        if not scheduler.get("use_timestep_transform"):
            return level
        pixels = (float(recorded[f"in/{side}"][0]) for side in ("height", "width"))
        return shift(level, shift_ratio(*pixels, reference_latents(int(recorded["in/num_frames"][0]))))

    if config["pa_vdm"]:
        chunk, steps = scheduler["latent_chunk_size"], scheduler["num_sampling_steps"]
        context = chunk if scheduler.get("keep_x0") else 0
        units, window = (latents - context) // chunk, config["stages_fixed_with_num_frames"] // chunk
        first = window - units if info.get("initialization") else 0
        stage = info.get("stage", 0) / (steps // window)
        levels = loss.window_levels(first, units, stage, window)[None]
        if "t_stage" in recorded:
            before = 1000 * levels.repeat_interleave(chunk, 1)[0]
            assert torch.allclose(before, recorded["t_stage"], rtol=0, atol=1e-3)
        if "draw/shift" in recorded:
            levels = loss.jitter(levels, recorded["draw/shift"], steps, scheduler["linear_shift_scale"])
        levels = levels.expand(len(clean), -1)
        t = loss.latent_times(levels, chunk, context, schedule)
        noisy = torch.arange(latents).expand(len(clean), -1) >= context
        noise = torch.cat([torch.zeros_like(clean[:, :, :context]), noise], 2)
        assert torch.allclose(1000 * t, recorded["t"], rtol=0, atol=1e-3)
    else:
        context = 0
        noisy = recorded.get("in/x_mask", torch.ones(len(clean), latents, dtype=torch.bool))
        level = loss.latent_times(recorded["draw/t"][:, None], latents, 0, schedule)
        assert torch.allclose(1000 * level[:, 0], recorded["t"], rtol=0, atol=1e-3)
        t = level * noisy

    sample = loss.noised(clean, noise, t)
    assert torch.allclose(sample.x_t, recorded["x_t"], rtol=0, atol=1e-5)
    assert torch.allclose(sample.target[:, :, context:], recorded["target"], rtol=0, atol=1e-6)
    stdit3 = network(case.beside(config["model"]), config["model_config"])
    predicted = velocity(stdit3, sample.x_t, 1000 * t, recorded, recorded["in/y"])
    losses = loss.flow_loss(predicted, sample.target, noisy)
    assert torch.allclose(losses, recorded["loss"], rtol=1e-5, atol=0)
