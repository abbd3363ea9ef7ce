"""LTX-Video on tiny random weights, which the real loading code reads, against the library's own pipeline."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)
from transformers import AutoTokenizer, T5EncoderModel

from longvid.backends import FilmSpec
from longvid.backends.contract import check_backend
from longvid.backends.diffusers import Diffusers, ltx_video
from longvid.backends.diffusers.film import DiffusersFilm
from longvid.guidance import classifier_free
from longvid.noise import noise
from tests.backends.diffusers.tiny_ltx import CHANNELS, write_tiny_ltx
from tests.tiny import RUNTIME

SIZE = (64, 32)
PROMPT = "a red boat on a calm sea"


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Diffusers:
    return ltx_video(write_tiny_ltx(tmp_path_factory.mktemp("ltx")))


@pytest.fixture(scope="module")
def pipeline(backend: Diffusers) -> LTXPipeline:
    """The published pipeline over the same folder."""
    folder = backend.folder
    pipeline = LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
        vae=AutoencoderKLLTXVideo.from_pretrained(folder / "vae"),
        text_encoder=T5EncoderModel.from_pretrained(folder / "text_encoder"),
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        transformer=LTXVideoTransformer3DModel.from_pretrained(folder / "transformer"),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def film(backend: Diffusers, fps: int = 24) -> DiffusersFilm:
    return backend.for_film(FilmSpec(SIZE, Fraction(fps), backend.geometry.window_units, {}), RUNTIME)


def test_it_is_a_backend(backend: Diffusers) -> None:
    check_backend(backend, size=SIZE)


@torch.inference_mode()
def test_prompts_are_encoded_as_the_pipeline_does(backend: Diffusers, pipeline: LTXPipeline) -> None:
    encoder = film(backend).text_encoder()
    for prompt in (PROMPT, "", "  two &amp; spaces "):
        found = encoder([prompt])
        embeddings, mask = pipeline._get_t5_prompt_embeds(prompt, device=torch.device("cpu"))
        assert torch.equal(found.embeddings, embeddings)
        assert torch.equal(found.mask, mask)
        assert torch.equal(encoder.negative(prompt).embeddings, embeddings)


def test_a_prompts_end_that_is_not_read(backend: Diffusers) -> None:
    encoder = film(backend).text_encoder()
    assert encoder.unread("a boat") == ""
    # 127 words, or their parts, and the end mark fill it.
    assert encoder.unread(" ".join(["boat"] * 127)) == ""
    assert encoder.unread(" ".join(["boat"] * 127 + ["sea"])).strip() == "sea"


@pytest.mark.parametrize("fps", [24, 12])
def test_a_whole_clip_is_the_pipelines(backend: Diffusers, pipeline: LTXPipeline, fps: int) -> None:
    """All latents at one time, no window: every step, its time, the guidance and the prompt are the same."""
    geometry, ours = backend.geometry, film(backend, fps)
    latents = geometry.window_units * geometry.chunk_latents
    start = noise(0, 0, 0, (1, CHANNELS, latents, SIZE[1] // 32, SIZE[0] // 32))
    expected = pipeline(
        PROMPT,
        negative_prompt="",
        width=SIZE[0],
        height=SIZE[1],
        num_frames=8 * (latents - 1) + 1,
        frame_rate=fps,
        num_inference_steps=geometry.steps,
        guidance_scale=geometry.guidance,
        latents=pipeline._pack_latents(start),
        output_type="latent",
    ).frames
    expected = pipeline._unpack_latents(expected, latents, SIZE[1] // 32, SIZE[0] // 32)

    units = tuple(range(geometry.window_units))
    with torch.inference_mode():
        text = ours.text(ours.text_encoder()([PROMPT]), {}, torch.ones(len(units), 1))
        predict = classifier_free(ours.denoiser(), text, [geometry.guidance] * len(units))
        x = start
        times = ours.schedule(torch.arange(geometry.steps, -1, -1) / geometry.steps)
        for t, t_next in pairwise(times):
            prediction = predict(x, t.expand(1, latents), units)
            x = ours.process.step(x, ours.process.slope(x, prediction, t), t, t_next)
    assert (expected - start).std() > 0.1
    torch.testing.assert_close(x, expected, atol=1e-4, rtol=1e-4)


def test_the_schedule_is_stretched_to_its_last_step(backend: Diffusers) -> None:
    times = film(backend).schedule(torch.tensor([0, 0.0125, 0.025, 0.5, 1]))
    assert times[0] == 0 and times[4] == 1
    assert times[1:3].tolist() == pytest.approx([0.05, 0.1])
    wide = backend.for_film(FilmSpec((704, 480), Fraction(24), 4, {}), RUNTIME)
    assert wide.schedule(torch.tensor(0.5)) > times[3] > 0.5, "a larger picture stays noisy for longer"
