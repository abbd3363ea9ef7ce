"""CLIP and VideoMAE with a few random weights, saved as the published ones are."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, VideoMAEConfig, VideoMAEModel

VOCABULARY = [
    "<|startoftext|>",
    "<|endoftext|>",
    *"abdeost",
    *(f"{letter}</w>" for letter in "abdeost"),
    "bo",
]


def save_clip(folder: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": len(VOCABULARY), "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1}
    vision = {"image_size": 32, "patch_size": 16}
    config = CLIPConfig(text_config={**sizes, **text}, vision_config={**sizes, **vision}, projection_dim=12)
    CLIPModel(config).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({token: place for place, token in enumerate(VOCABULARY)}))
    (folder / "merges.txt").write_text("#version: 0.2\nb o\n")


def save_videomae(folder: Path) -> None:
    torch.manual_seed(0)
    config = VideoMAEConfig(
        image_size=32,
        patch_size=16,
        num_frames=4,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    VideoMAEModel(config).save_pretrained(folder)
