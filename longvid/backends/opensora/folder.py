"""Open-Sora's folder as it is published: transformer/, and vae/ and text_encoder/ where they are its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from longvid import downloads
from longvid.backends import random_weights
from longvid.backends.opensora import weights
from longvid.backends.opensora.config import TRANSFORMER_TYPE
from longvid.backends.opensora.published import TEXT_ENCODER, TRANSFORMER, VAE
from longvid.backends.opensora.stdit3 import STDiT3
from longvid.files import place, write, write_backend, write_tensors, written_over

if TYPE_CHECKING:
    from longvid.backends.opensora import OpenSora


def save(backend: OpenSora, folder: Path, changed: Mapping[str, Tensor]) -> None:
    """Write ``folder``: the model with the transformer's weights that have ``changed``, by name.

    Numbers are written as they come, in whatever dtype. The autoencoder and the text encoder are linked, or
    copied, from a folder of one's own; the fetched ones stay where they are, and are found there. Raises
    ValueError for a tensor that the transformer has no place for, and RenderError where the disk refuses;
    files appear whole, and the last one makes the folder a model's.
    """
    (folder / TRANSFORMER).mkdir(parents=True, exist_ok=True)
    tensors = written_over(_stored(backend, changed), changed)
    write_tensors(folder / TRANSFORMER / "model.safetensors", tensors, {"format": "pt"})
    config = backend.part(TRANSFORMER) / "config.json"
    if config.is_file():
        place(config, folder / TRANSFORMER / config.name)
    else:
        said = {"model_type": TRANSFORMER_TYPE, **asdict(backend.transformer_size())}
        write(folder / TRANSFORMER / config.name, (json.dumps(said, indent=2) + "\n").encode())
    for part in (VAE, TEXT_ENCODER):
        own = backend.part(part)
        if own.is_dir() and own != downloads.folder(backend.name) / part:
            (folder / part).mkdir(exist_ok=True)
            for file in sorted(own.iterdir()):
                if file.is_file():
                    place(file, folder / part / file.name)
    write_backend(folder, backend.name)


def _stored(backend: OpenSora, changed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The transformer's tensors as they are: only in their shapes where they have ``changed``."""
    size = backend.transformer_size()
    with torch.device("meta"):
        network = STDiT3(size)
    wanted = network.state_dict()
    missing = wanted.keys() - changed.keys()
    if backend.random:
        random_weights.fill(network, torch.device("cpu"))
        return {name: network.state_dict()[name] if name in missing else wanted[name] for name in wanted}
    checkpoint = weights.open_checkpoint(backend.part(TRANSFORMER))
    only = {name: stored for name, stored in checkpoint.tensors.items() if name in missing}
    return {**wanted, **dict(weights.read(replace(checkpoint, tensors=only)))}
