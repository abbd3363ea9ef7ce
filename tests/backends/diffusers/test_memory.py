"""What memory is estimated, against what the networks allocate when they run without a number."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longvid.backends import FilmSpec, Prompts
from longvid.backends.diffusers import (
    Diffusers,
    loading,
    ltx_video,
    memory,
    modelscope_1_7b,
    skyreels_1_3b,
    skyreels_14b,
    wan_2_2_5b,
)
from longvid.backends.diffusers.film import family
from longvid.backends.diffusers.published import TEXT_ENCODER, VAE, WAN_VAE
from tests.backends.diffusers.tiny import write_tiny_skyreels
from tests.backends.opensora.test_memory import DTYPES, Alive

MODELS = {
    model(Path()).name: model
    for model in (skyreels_1_3b, skyreels_14b, wan_2_2_5b, ltx_video, modelscope_1_7b)
}


@pytest.fixture(params=MODELS)
def published(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Diffusers:
    """A model of the published sizes, none of whose weights is here."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return MODELS[request.param](None)


@pytest.fixture
def _a_card_s_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card's kernels never write the scores out; the meta device would."""

    def attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **plain: Any) -> Tensor:
        kernel: Callable[..., tuple[Tensor, ...]] = torch.ops.aten._scaled_dot_product_efficient_attention
        return kernel(query, key, value, None, False)[0]

    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)


def without_numbers(model: Diffusers, part: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A part of the published sizes on the meta device, where tensors have sizes only; of fewer layers, as
    each has let its tensors go when the next one computes."""
    config = dict(model.config(part))
    kind = getattr(diffusers, config.pop("_class_name"))
    if "num_layers" in config:
        config["num_layers"] = 2
    with torch.device("meta"):
        network: nn.Module = kind.from_config(config).eval()
    kept = network._keep_in_fp32_modules or ()
    for name, parameter in network.named_parameters():
        if not set(kept) & set(name.split(".")):
            parameter.data = parameter.data.to(dtype)
    return network


def test_values_are_counted(published: Diffusers) -> None:
    for part in (published.model.network, VAE, TEXT_ENCODER):
        network = loading.outline(published.config(part))
        assert memory.values(published, part) == sum(p.numel() for p in network.parameters())


@pytest.mark.usefixtures("_a_card_s_attention")
def test_a_step(published: Diffusers) -> None:
    for value_bytes in (2,) if published.model.family == "unet" else (2, 4):
        holds_to_a_step(published, value_bytes)


def holds_to_a_step(published: Diffusers, value_bytes: int) -> None:
    functions, geometry, dtype = family(published.model.family), published.geometry, DTYPES[value_bytes]
    spec = FilmSpec(geometry.sizes[0], geometry.fps, 2, {})
    network = without_numbers(published, published.model.network, dtype)
    functions.prepare(network)
    config = published.config(TEXT_ENCODER)
    width = config.get("d_model") or config["hidden_size"]
    columns, rows = (side // geometry.pixel_stride for side in spec.size)
    with torch.device("meta"), torch.inference_mode():
        x = torch.empty(1, geometry.channels, 3 * geometry.chunk_latents, rows, columns, dtype=dtype)
        tokens = functions.tokens
        prompts = Prompts(
            torch.empty(1, tokens, width, dtype=dtype), torch.empty(1, tokens, dtype=torch.bool)
        )
        with Alive() as step:
            functions.predict(network, x, torch.empty(1, x.shape[2]), prompts, spec)
    assert 1 <= memory.denoising_bytes(published, spec, value_bytes) / step.peak <= 1.3


@pytest.mark.usefixtures("_a_card_s_attention")
def test_a_chunk_that_is_decoded(published: Diffusers) -> None:
    if published.model.configs[VAE] is WAN_VAE and published.name != "skyreels-v2-1.3b":
        return  # the same autoencoder
    geometry = published.geometry
    spec = FilmSpec((512, 320), geometry.fps, 2, {})
    autoencoder = without_numbers(published, VAE)
    with torch.device("meta"), torch.inference_mode():
        codec = family(published.model.family).codec(autoencoder)
        sides = spec.size[1] // geometry.pixel_stride, spec.size[0] // geometry.pixel_stride
        chunk = torch.empty(1, geometry.channels, geometry.chunk_latents, *sides)
        with Alive() as first:
            carry = codec.decode(chunk, {})[1]
        remembered = first.bytes
        with Alive() as decoding:
            codec.decode(chunk, carry)
    estimate = memory.decoding_bytes(published, spec)
    assert 1 <= sum(estimate) / (decoding.peak + remembered) <= 1.3
    assert estimate[1] == pytest.approx(remembered, rel=0.05, abs=200 * 512 * 320)


@pytest.mark.parametrize("value_bytes", [2, 4])
def test_each_rung_takes_less_than_the_one_before(published: Diffusers, value_bytes: int) -> None:
    geometry = published.geometry
    order = [held.name for held in memory.HOLDINGS]
    for size in geometry.sizes:
        ladder = published.rungs(FilmSpec(size, geometry.fps, geometry.window_units, {}), value_bytes)
        names = [rung.name for rung in ladder]
        assert names[0] == "resident" and len(names) >= 2
        assert names == [name for name in order if name in names]
        assert all(below.peak_bytes < above.peak_bytes for above, below in pairwise(ladder))
        assert [rung.decodes_beside for rung in ladder] == [name == "resident" for name in names]


def test_values_of_a_folder_are_its_files(tmp_path: Path) -> None:
    tiny = skyreels_1_3b(write_tiny_skyreels(tmp_path / "tiny"))
    network = loading.outline(tiny.config("transformer"))
    assert memory.values(tiny, "transformer") == sum(p.numel() for p in network.parameters())
    weights = tmp_path / "tiny/transformer/diffusion_pytorch_model.safetensors"
    shutil.copy(weights, weights.with_suffix(".fp16.safetensors"))  # which is not read
    assert memory.values(tiny, "transformer") == sum(p.numel() for p in network.parameters())
    (tmp_path / "tiny/vae/diffusion_pytorch_model.safetensors").write_bytes(b"broken")
    assert memory.values(tiny, VAE) == tiny.model.values[VAE]
    with pytest.raises(ValueError, match="no rung 'tiled'; there is resident, in-turns"):
        memory.holding("tiled")
    assert tiny.rungs(FilmSpec((48, 32), Fraction(24), 4, {}), 4)[0].peak_bytes > 0
