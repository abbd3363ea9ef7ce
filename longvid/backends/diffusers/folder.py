"""A finetuned model as a folder in diffusers' layout; what is not the network's is linked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from longvid import downloads
from longvid.backends import checkpoints
from longvid.backends.diffusers import loading
from longvid.backends.diffusers.published import DIFFUSERS_WEIGHTS
from longvid.files import place, write, write_backend, write_tensors, written_over

if TYPE_CHECKING:
    from longvid.backends.diffusers import Diffusers

INDEX = "model_index.json"


def save(backend: Diffusers, folder: Path, changed: Mapping[str, Tensor]) -> None:
    """Write ``folder``: the model with its network's weights that have ``changed``, by name.

    Numbers are written as they come, in whatever dtype. The other parts are linked, or copied, from a folder
    of one's own; the fetched ones stay where they are, and are found there. Raises ValueError for a tensor
    that the network has no place for, and RenderError where the disk refuses; files appear whole, and the
    last one makes the folder a model's.
    """
    network = backend.model.network
    (folder / network).mkdir(parents=True, exist_ok=True)
    tensors = written_over(_stored(backend, changed), changed)
    write_tensors(folder / network / f"{DIFFUSERS_WEIGHTS}.safetensors", tensors, {"format": "pt"})
    said = json.dumps(backend.config(network), indent=2) + "\n"
    write(folder / network / "config.json", said.encode())
    for part in sorted(download.folder for download in backend.downloads):
        own = backend.part(part)
        if part != network and own.is_dir() and own != downloads.folder(backend.name) / part:
            (folder / part).mkdir(exist_ok=True)
            for file in sorted(own.iterdir()):
                if file.is_file():
                    place(file, folder / part / file.name)
    if (backend.folder / INDEX).is_file():
        place(backend.folder / INDEX, folder / INDEX)
    write_backend(folder, backend.name)


def _stored(backend: Diffusers, changed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's tensors as they are: only in their shapes where they have ``changed``."""
    part = backend.model.network
    config = backend.config(part)
    if backend.random:
        return loading.random(config, torch.float32, torch.device("cpu")).state_dict()
    shapes = loading.outline(config).state_dict()
    stored = loading.checkpoint(backend.part(part), config)
    missing = {name: stored.tensors[name] for name in shapes.keys() - changed.keys()}
    return {**shapes, **dict(checkpoints.read(replace(stored, tensors=missing)))}
