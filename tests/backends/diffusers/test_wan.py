"""Wan 2.2 on tiny random weights, which the real loading code reads, against the library's own pipeline."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from transformers import AutoTokenizer, UMT5EncoderModel

from longvid.backends import FilmSpec
from longvid.backends.contract import check_backend
from longvid.backends.diffusers import Diffusers, wan_2_2_5b
from longvid.guidance import classifier_free
from longvid.noise import noise
from tests.backends.diffusers.tiny_wan import write_tiny_wan
from tests.tiny import RUNTIME

PROMPT, NEGATIVE = "a red boat on a calm sea", "a dog"
STEPS, GUIDANCE = 6, 5.0


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Diffusers:
    return wan_2_2_5b(write_tiny_wan(tmp_path_factory.mktemp("wan")))


@pytest.fixture(scope="module")
def pipeline(backend: Diffusers) -> WanPipeline:
    """The published pipeline over the same folder, but with Euler's steps."""
    folder = backend.folder
    pipeline = WanPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        vae=AutoencoderKLWan.from_pretrained(folder / "vae"),
        text_encoder=UMT5EncoderModel.from_pretrained(folder / "text_encoder"),
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        transformer=WanTransformer3DModel.from_pretrained(folder / "transformer"),
        expand_timesteps=True,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_it_is_a_backend(backend: Diffusers) -> None:
    check_backend(backend, size=(48, 32))


def test_a_whole_clip_is_the_pipelines(backend: Diffusers, pipeline: WanPipeline) -> None:
    """All latents at one time, no window: the network, the guidance and both prompts are the same."""
    geometry = backend.geometry
    latents = geometry.window_units * geometry.chunk_latents
    start = noise(0, 0, 0, (1, geometry.channels, latents, 4, 6))
    expected = pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        width=96,
        height=64,
        num_frames=4 * (latents - 1) + 1,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        latents=start,
        output_type="latent",
    ).frames

    ours = backend.for_film(FilmSpec((96, 64), Fraction(24), geometry.window_units, {}), RUNTIME)
    units = tuple(range(geometry.window_units))
    encoder = ours.text_encoder()
    with torch.inference_mode():
        text = ours.text(encoder([PROMPT]), {0: encoder.negative(NEGATIVE)}, torch.ones(len(units), 1))
        predict = classifier_free(ours.denoiser(), text, [GUIDANCE] * len(units))
        x = start
        for t, t_next in pairwise(pipeline.scheduler.sigmas):
            prediction = predict(x, t.expand(1, latents), units)
            x = ours.process.step(x, ours.process.slope(x, prediction, t), t, t_next)
    assert (expected - start).std() > 0.1
    torch.testing.assert_close(x, expected, atol=1e-4, rtol=1e-4)


def test_the_schedule_is_the_published_one(backend: Diffusers) -> None:
    """Wan's scheduler counts its steps a little otherwise: its last level is 1/1000, not 0."""
    from diffusers import UniPCMultistepScheduler

    ours = backend.for_film(FilmSpec((96, 64), Fraction(24), 5, {}), RUNTIME)
    scheduler = UniPCMultistepScheduler.from_pretrained(backend.folder / "scheduler")
    scheduler.set_timesteps(50)
    times = ours.schedule(torch.arange(50, -1, -1) / 50)
    torch.testing.assert_close(times, scheduler.sigmas, atol=6e-3, rtol=0)
    assert backend.flow_shift({}) == 5


@torch.inference_mode()
def test_a_picture_of_half_a_patch(backend: Diffusers) -> None:
    """Sides that are no multiple of a patch's pixels: what is filled up is cut off again."""
    geometry = backend.geometry
    ours = backend.for_film(FilmSpec((48, 80), Fraction(24), 5, {}), RUNTIME)
    text = ours.text(ours.text_encoder()([PROMPT]), {}, torch.ones(1, 1))
    x = noise(0, 0, 0, (1, geometry.channels, 5, 5, 3))
    t = torch.linspace(0.1, 0.9, 5)[None]
    denoiser = ours.denoiser()
    filled = torch.cat([x, x[..., -1:]], dim=4)
    filled = torch.cat([filled, filled[..., -1:, :]], dim=3)
    torch.testing.assert_close(denoiser(x, t, text), denoiser(filled, t, text)[..., :5, :3])
