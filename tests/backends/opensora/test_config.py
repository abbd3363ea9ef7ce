"""Sizes from ``config.json``, as it is published and as it should not be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from longvid.backends.opensora.config import TransformerSize, VAESize, transformer_size, vae_size
from longvid.errors import UserError

TRANSFORMER = {
    "model_type": "STDiT3",
    "depth": 28,
    "hidden_size": 1152,
    "num_heads": 16,
    "in_channels": 4,
    "patch_size": [1, 2, 2],
    "mlp_ratio": 4.0,
    "caption_channels": 4096,
    "model_max_length": 300,
    "qk_norm": True,
    "pred_sigma": True,
    "input_sq_size": 512,
    "input_size": [None, None, None],
    "class_dropout_prob": 0.1,
}
VAE = {
    "micro_frame_size": 17,
    "cal_loss": False,
    "vae_2d": {"type": "VideoAutoencoderKL", "micro_batch_size": 4},
    "vae_temporal": {"type": "VAE_Temporal_SD", "from_pretrained": None},
    "shift": [-0.1, 0.34, 0.27, 0.98],
    "scale": [3.85, 2.32, 2.33, 3.06],
}


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_the_published_sizes(tmp_path: Path) -> None:
    assert transformer_size(write(tmp_path / "config.json", TRANSFORMER)) == TransformerSize()
    assert vae_size(write(tmp_path / "config.json", VAE)) == VAESize()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model_type", "DiT", "model_type is 'DiT', not 'STDiT3'"),
        ("qk_norm", False, "qk_norm is False; Open-Sora v1.2 has True"),
        ("patch_size", [2, 2, 2], "patch_size is [2, 2, 2]; Open-Sora v1.2 has [1, 2, 2]"),
        ("mlp_ratio", 4.5, "mlp_ratio is 4.5; the published one is 4"),
        ("depth", 0, "depth is 0; the published one is 28"),
        ("depth", True, "depth is True; the published one is 28"),
        ("num_heads", 5, "hidden_size 1152 is no multiple of 4 x num_heads 5"),
    ],
)
def test_a_transformer_of_another_kind_is_named(tmp_path: Path, key: str, value: Any, message: str) -> None:
    config = write(tmp_path / "config.json", TRANSFORMER | {key: value})
    with pytest.raises(UserError) as error:
        transformer_size(config)
    assert str(error.value) == f"{config}: {message}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is no JSON object"),
        ("{", "is no JSON: "),
        ('{"vae_2d": 3}', "vae_temporal and vae_2d must be objects"),
        ('{"vae_temporal": {"type": "VAE"}}', "vae_temporal.type is 'VAE', not 'VAE_Temporal_SD'"),
        (
            '{"vae_temporal": {"channel_multipliers": 2}}',
            "channel_multipliers is 2; the published one is (1, 2",
        ),
    ],
)
def test_an_autoencoder_of_another_kind_is_named(tmp_path: Path, content: str, message: str) -> None:
    config = tmp_path / "config.json"
    config.write_text(content)
    with pytest.raises(UserError) as error:
        vae_size(config)
    assert str(error.value).startswith(f"{config}: {message}")
