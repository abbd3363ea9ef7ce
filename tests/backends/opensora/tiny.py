"""A tiny random Open-Sora in the published layout: every part of a model's folder, a megabyte in all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from longvid.backends.opensora.config import transformer_size, vae_size
from longvid.backends.opensora.stdit3 import STDiT3
from longvid.backends.opensora.vae import VideoAutoencoder
from tests.backends.opensora.tiny_t5 import write_tiny_t5

TEXT_WIDTH = 24
TRANSFORMER: dict[str, Any] = {
    "model_type": "STDiT3",
    "hidden_size": 48,
    "depth": 2,
    "num_heads": 4,
    "caption_channels": TEXT_WIDTH,
    "model_max_length": 64,
}
VAE: dict[str, Any] = {
    "micro_frame_size": 17,
    "vae_2d": {
        "micro_batch_size": 4,
        "block_out_channels": [8, 8, 16, 16],
        "layers_per_block": 1,
        "norm_num_groups": 4,
    },
    "vae_temporal": {"type": "VAE_Temporal_SD", "filters": 4, "num_res_blocks": 2, "num_groups": 2},
    "shift": [-0.1, 0.34, 0.27, 0.98],
    "scale": [3.85, 2.32, 2.33, 3.06],
}


def write_tiny_opensora(folder: Path, seed: int = 0) -> Path:
    """``folder``, with longvid.json, transformer/, vae/ and text_encoder/ of random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "longvid.json").write_text('{"backend": "opensora-v1.2"}')
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        write_part(folder / "transformer", TRANSFORMER)
        write_part(folder / "vae", VAE)
    write_tiny_t5(folder / "text_encoder", d_model=TEXT_WIDTH)
    return folder


def write_part(folder: Path, config: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    network: nn.Module
    if "hidden_size" in config:
        network = STDiT3(transformer_size(folder / "config.json"))
    else:
        network = VideoAutoencoder(vae_size(folder / "config.json"))
        network.scale.copy_(torch.tensor(config["scale"]).view(1, -1, 1, 1, 1))
        network.shift.copy_(torch.tensor(config["shift"]).view(1, -1, 1, 1, 1))
    save_file(network.state_dict(), folder / "model.safetensors")
