"""SkyReels-V2 in the published layout, read by the real loading code, against the library's own pipeline."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
)
from transformers import AutoTokenizer, UMT5EncoderModel

from longvid.backends import FilmSpec
from longvid.backends.contract import check_backend
from longvid.backends.diffusers import Diffusers, skyreels_1_3b
from longvid.backends.diffusers.film import DiffusersFilm
from longvid.backends.diffusers.memory import HOLDINGS
from longvid.backends.network_contract import random_window
from longvid.guidance import classifier_free
from tests.backends.diffusers.tiny import write_tiny_skyreels
from tests.tiny import RUNTIME

PROMPTS = ("a red boat on a calm sea", "a city street at night")
STEPS, GUIDANCE = 6, 5.0


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Diffusers:
    return skyreels_1_3b(write_tiny_skyreels(tmp_path_factory.mktemp("skyreels")))


def load(
    backend: Diffusers, rung: str = "resident", dtype: torch.dtype = torch.float32, **spec: Any
) -> DiffusersFilm:
    asked = replace(FilmSpec((48, 32), Fraction(24), 4, {}), **spec)
    return backend.for_film(asked, replace(RUNTIME, rung=rung, dtype=dtype))


def predicted(film: DiffusersFilm, units: int = 3) -> torch.Tensor:
    """A window that flows from one prompt into another."""
    x, t = random_window(film.backend.geometry, film.spec.size, "cpu", units)
    shares = torch.linspace(0, 1, units)
    text = film.text(film.text_encoder()(PROMPTS), {}, torch.stack([1 - shares, shares], dim=1))
    with torch.inference_mode():
        return film.denoiser()(x, t, text)


def test_it_is_a_backend(backend: Diffusers) -> None:
    check_backend(backend, size=(48, 32))


def test_a_whole_clip_is_the_pipeline_s(backend: Diffusers) -> None:
    """All latents at one time, no window: the network, the guidance, rate and prompts are the same."""
    folder, latents = backend.folder, 5
    pipeline = SkyReelsV2DiffusionForcingPipeline(
        # Of first order and without a corrector, which is Euler's step.
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=8.0,
            solver_order=1,
            disable_corrector=list(range(STEPS)),
        ),
        vae=AutoencoderKLWan.from_pretrained(folder / "vae"),
        text_encoder=UMT5EncoderModel.from_pretrained(folder / "text_encoder"),
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        transformer=SkyReelsV2Transformer3DModel.from_pretrained(folder / "transformer"),
    )
    pipeline.set_progress_bar_config(disable=True)
    start = torch.randn(1, 4, latents, 4, 6, generator=torch.Generator().manual_seed(0))
    expected = pipeline(
        PROMPTS[0],
        negative_prompt=PROMPTS[1],
        width=48,
        height=32,
        num_frames=4 * (latents - 1) + 1,
        base_num_frames=4 * (latents - 1) + 1,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=torch.Generator().manual_seed(0),  # `latents` are not read as the pipeline says
        output_type="latent",
    ).frames

    ours = load(backend)
    encoder = ours.text_encoder()
    with torch.inference_mode():
        text = ours.text(encoder(PROMPTS[:1]), {0: encoder.negative(PROMPTS[1])}, torch.ones(1, 1))
        predict = classifier_free(ours.denoiser(), text, [GUIDANCE])
        x = start
        scheduler = pipeline.scheduler
        for told, (t, t_next) in zip(scheduler.timesteps, pairwise(scheduler.sigmas), strict=True):
            # The pipeline tells the network its times in whole thousandths.
            prediction = predict(x, (told / 1000).expand(1, latents), (0,))
            x = ours.process.step(x, ours.process.slope(x, prediction, t), t, t_next)
    assert (expected - start).std() > 0.1
    torch.testing.assert_close(x, expected, atol=1e-4, rtol=1e-4)


def test_the_schedule_is_the_published_one(backend: Diffusers) -> None:
    scheduler = UniPCMultistepScheduler.from_pretrained(backend.folder / "scheduler")
    scheduler.set_timesteps(32)
    times = load(backend).schedule(torch.arange(32, -1, -1) / 32)
    torch.testing.assert_close(times, scheduler.sigmas, atol=6e-3, rtol=0)
    assert load(backend, options={"flow_shift": 5}).schedule(torch.tensor(0.5)) == pytest.approx(5 / 6)


@pytest.mark.parametrize("rung", [held.name for held in HOLDINGS[1:]])
def test_a_rung_changes_no_bit(backend: Diffusers, rung: str) -> None:
    assert torch.equal(predicted(load(backend, rung)), predicted(load(backend)))


def test_bfloat16_is_near(backend: Diffusers) -> None:
    found, expected = predicted(load(backend, dtype=torch.bfloat16)), predicted(load(backend))
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().max() < 0.03 * expected.abs().max()


def test_sides_that_are_no_whole_tokens(backend: Diffusers) -> None:
    """Latents of 5 x 3 cells: 40 x 24 pixels; the last row and column stand in for what is missing."""
    prediction = predicted(load(backend, size=(40, 24)))
    assert prediction.shape == (1, 4, 15, 3, 5)
    assert torch.equal(prediction, predicted(load(backend, size=(40, 24))))


def test_the_rate_is_told(backend: Diffusers) -> None:
    at_16, at_24, at_30 = (predicted(load(backend, fps=Fraction(fps))) for fps in (16, 24, 30))
    assert torch.equal(at_24, at_30) and not torch.equal(at_16, at_24)


def test_the_model_without_a_file(
    backend: Diffusers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the folder's sizes; without a folder, of the published ones."""
    random = load(backend.with_random_weights())
    prediction = predicted(random)
    assert prediction.isfinite().all() and 0.3 < prediction.std() < 3
    assert torch.equal(prediction, predicted(load(backend.with_random_weights())))
    assert random.fingerprint != load(backend).fingerprint
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert skyreels_1_3b(None).with_random_weights().geometry.channels == 16
    # By diffusers' names, and all but two by those of the original code.
    assert len(skyreels_1_3b(None).lora_layers()) == 2 * (30 * 10 + 8) - 2
