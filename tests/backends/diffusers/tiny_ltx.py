"""A tiny random LTX-Video, made by the libraries' own classes and saved in its published layout."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXVideoTransformer3DModel
from transformers import T5Config, T5EncoderModel

from tests.backends.diffusers.tiny import TEXT_WIDTH, louder, write_layout

CHANNELS = 8


def write_tiny_ltx(folder: Path, seed: int = 0) -> Path:
    """``folder`` with two blocks for pictures whose sides are multiples of 32 pixels, and longvid.json."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vae = AutoencoderKLLTXVideo(
            latent_channels=CHANNELS,
            block_out_channels=(4, 4, 8, 8),
            decoder_block_out_channels=(4, 4, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1, 1),
        )
        vae.latents_mean.normal_()
        vae.latents_std.uniform_(0.5, 2)
        parts = {
            "transformer": LTXVideoTransformer3DModel(
                in_channels=CHANNELS,
                out_channels=CHANNELS,
                num_attention_heads=2,
                attention_head_dim=8,
                cross_attention_dim=16,
                num_layers=2,
                caption_channels=TEXT_WIDTH,
            ),
            "vae": vae,
            "text_encoder": louder(
                T5EncoderModel(
                    T5Config(
                        vocab_size=160,
                        d_model=TEXT_WIDTH,
                        d_kv=4,
                        d_ff=32,
                        num_layers=1,
                        num_heads=2,
                        feed_forward_proj="gated-gelu",
                    )
                )
            ),
        }
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.95,
        max_shift=2.05,
        base_image_seq_len=1024,
        max_image_seq_len=4096,
        shift_terminal=0.1,
    )
    return write_layout(folder, "ltx-video", parts, scheduler)
