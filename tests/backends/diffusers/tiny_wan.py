"""A tiny random Wan 2.2 TI2V, made by the libraries' own classes and saved in its published layout."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel

from tests.backends.diffusers.tiny import TEXT_WIDTH, WAN_VAE, tiny_umt5, write_layout

WAN_2_2_VAE = WAN_VAE | {
    "decoder_base_dim": 4,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
    "temperal_downsample": [False, True, True],
}


def write_tiny_wan(folder: Path, seed: int = 0) -> Path:
    """``folder`` with two blocks for pictures whose sides are multiples of 16 pixels, and longvid.json."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = {
            "transformer": WanTransformer3DModel(
                num_attention_heads=2,
                attention_head_dim=12,
                in_channels=4,
                out_channels=4,
                text_dim=TEXT_WIDTH,
                freq_dim=32,
                ffn_dim=32,
                num_layers=2,
                rope_max_seq_len=64,
            ),
            "vae": AutoencoderKLWan(**WAN_2_2_VAE),
            "text_encoder": tiny_umt5(),
        }
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=5.0
    )
    return write_layout(folder, "wan-2.2-5b", parts, scheduler)
