"""Encoded prompts on disk, so that a film rendered again never loads its text encoder.

``$XDG_CACHE_HOME/longvid/text/``, or ``~/.cache`` where that is not set: one safetensors file a prompt, named
by what its numbers depend on. A file that is torn or was changed counts as missing, and a disk that refuses
costs only the time to encode again. The least recently used go when all are over CACHE_BYTES.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from longvid.errors import RenderError
from longvid.files import replacing

CACHE_BYTES = 1_000_000_000
"""Some 200 prompts of 300 tokens, some thousands of the usual length."""

_REFUSED = (OSError, RenderError, RuntimeError)  # the last where there is no home folder


def path() -> Path:
    """The folder; it need not be there."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longvid" / "text"


def key(encoder: str, precision: str, max_length: int, text: str) -> str:
    """SHA-256, in hex, over all that a prompt's embedding depends on.

    ``encoder``: fingerprint of the text encoder's weights. ``text``: the prompt as the encoder gets it.
    """
    said = json.dumps([encoder, precision, max_length, text])
    return hashlib.sha256(said.encode()).hexdigest()


def read(key: str) -> Tensor | None:
    """The embedding [n d] in fp32 that was written under this key, or None."""
    with suppress(*_REFUSED, SafetensorError, KeyError, TypeError):
        file = path() / f"{key}.safetensors"
        with safe_open(file, "pt") as content:
            embedding: Tensor = content.get_tensor("embedding")
            seal = content.metadata()["seal"]
        if seal == _seal(key, embedding):
            os.utime(file)
            return embedding
    return None


def write(key: str, embedding: Tensor) -> None:
    """Keep an embedding [n d] in fp32, its valid tokens only; whole or not at all."""
    embedding = embedding.to(torch.float32).contiguous()
    with suppress(*_REFUSED):
        path().mkdir(parents=True, exist_ok=True)
        with replacing(path() / f"{key}.safetensors", commit=False) as partial:
            save_file({"embedding": embedding}, partial, {"seal": _seal(key, embedding)})
        _prune()


def _seal(key: str, embedding: Tensor) -> str:
    digest = hashlib.sha256(json.dumps([key, list(embedding.shape), str(embedding.dtype)]).encode())
    digest.update(embedding.numpy().tobytes())
    return digest.hexdigest()


def _prune() -> None:
    """Remove the least recently used files until the rest fits; what a kill left half-written is one too."""
    files = {file: file.stat() for file in path().iterdir()}
    total = sum(stat.st_size for stat in files.values())
    for file in sorted(files, key=lambda file: files[file].st_mtime_ns):
        if total <= CACHE_BYTES:
            return
        file.unlink(missing_ok=True)
        total -= files[file].st_size
