"""What `longvid models pull opensora-v1.2` fetches: Open-Sora v1.2's own weights and its text encoder's.

Two of the commits are not ``main``. The transformer's last commit changes no more than its configuration's
choice of kernels, so the one before it stands here, with the same weights. The text encoder's ``main`` holds
pickles; its ``refs/pr/3`` holds the same tensors as safetensors.
"""

from __future__ import annotations

from longvid.downloads import Download

TRANSFORMER = "transformer"
VAE = "vae"
TEXT_ENCODER = "text_encoder"

LICENCE = "Apache-2.0"

DOWNLOADS = (
    Download(
        repo="hpcai-tech/OpenSora-STDiT-v3",
        revision="dccc046bf978d03e783508ed15bcea04c6f5b34c",
        files=("config.json", "model.safetensors"),
        folder=TRANSFORMER,
        licence=LICENCE,
        bytes=4_835_599_158,
    ),
    Download(
        repo="hpcai-tech/OpenSora-VAE-v1.2",
        revision="33d153e9b5a9f771a8a84f98bd3f46458a8ed0bf",
        files=("config.json", "model.safetensors"),
        folder=VAE,
        licence=LICENCE,
        bytes=1_573_431_221,
    ),
    Download(
        repo="DeepFloyd/t5-v1_1-xxl",
        revision="23ed28cddf2348992461bcda9922f53e8c8d4d59",
        files=(
            "config.json",
            "spiece.model",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ),
        folder=TEXT_ENCODER,
        licence="Apache-2.0 as Google's T5 v1.1; this copy states none",
        bytes=19_050_000_000,
    ),
)
