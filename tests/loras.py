"""LoRAs written by hand, for any model: every number known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from longvid.lora import CONFIG, WEIGHTS
from tests.tiny import hashed

PEFT = "base_model.model."


def pair(layer: str, outputs: int, inputs: int, rank: int = 2, name: str = "") -> dict[str, Tensor]:
    """A [r i] and B [o r] of a layer, by their names in a network: other ones for another ``name``."""
    return {
        f"{layer}.lora_A.weight": hashed(f"{name}/{layer}/A", rank, inputs) / inputs**0.5,
        f"{layer}.lora_B.weight": hashed(f"{name}/{layer}/B", outputs, rank) / 2,
    }


def write_lora(
    folder: Path, sizes: Mapping[str, tuple[int, int]], rank: int = 2, name: str = "", **config: Any
) -> Path:
    """A LoRA of these layers, (outputs, inputs), in peft's layout; alpha is 1 unless ``config`` says it."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [pair(layer, *size, rank, name) for layer, size in sizes.items()]
    save_file({f"{PEFT}{key}": value for part in parts for key, value in part.items()}, folder / WEIGHTS)
    said = {"peft_type": "LORA", "r": rank, "lora_alpha": 1, **config}
    (folder / CONFIG).write_text(json.dumps(said))
    return folder
