"""What a model of diffusers takes of a card's memory, by the ways to hold it. Torch-free.

Estimates: weights are counted, and what is alive beside them follows from the film's size, by numbers that
tests trace at the published sizes and hold to 1 to 1.3 times what they find. What CUDA and its libraries take
beside the tensors is assumed here, and was not measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longvid.backends import RESIDENT, FilmSpec, Rung
from longvid.backends.diffusers.published import (
    DIFFUSERS_WEIGHTS,
    TEXT_ENCODER,
    TRANSFORMERS_WEIGHTS,
    VAE,
    WHOLE_OR_SHARDS,
    FamilyName,
)

if TYPE_CHECKING:
    from longvid.backends.diffusers import Diffusers

CONTEXT_BYTES = 800_000_000
"""Assumed: a CUDA context with its kernels, and the workspaces of cuBLAS and cuDNN."""
SLACK = 1.15
"""Assumed: what the allocator holds for each byte of the tensors that come and go."""
VAE_BYTES = 4
"""Of a number in the autoencoder: it computes in float32."""

MAX_HEADER_BYTES = 100_000_000
"""Of a safetensors file, as the format has it."""


@dataclass(frozen=True)
class Holding:
    """How a rung holds the networks.

    ``text_on_card``: the text encoder computes on the card, before the others come there. ``beside``: the
    autoencoder decodes while the network denoises; else they take turns. ``blocks_stay``: the network's
    blocks lie on the card; else they come one at a time.
    """

    name: str
    says: str
    text_on_card: bool = False
    beside: bool = False
    blocks_stay: bool = False


HOLDINGS = (
    Holding(
        RESIDENT,
        "the text encoder on the card first, then the network beside the VAE",
        text_on_card=True,
        beside=True,
        blocks_stay=True,
    ),
    Holding(
        "in-turns",
        "the text encoder first, then the network; the VAE decodes between two steps",
        text_on_card=True,
        blocks_stay=True,
    ),
    Holding(
        "streamed",
        "the text encoder first; the network's blocks come one at a time, the VAE between two steps",
        text_on_card=True,
    ),
    Holding(
        "text-off",
        "the text encoder on the CPU; the network's blocks come one at a time, the VAE between two steps",
    ),
)
"""The fastest first; each does what those before it do about memory."""


@dataclass(frozen=True)
class Decoding:
    """What a chunk's decoding takes at the published sizes: bytes a pixel of the picture that are alive where
    most are, and of what is remembered between two chunks; the finished frames are among the first."""

    alive: int
    remembered: int


DECODING: Mapping[FamilyName, Decoding] = {
    "skyreels": Decoding(20_600, 9_460),
    "wan": Decoding(22_800, 7_140),
    "ltx": Decoding(11_000, 200),
    "unet": Decoding(3_300, 0),
}


def holding(rung: str) -> Holding:
    """Raises ValueError for the name of no rung."""
    for held in HOLDINGS:
        if held.name == rung:
            return held
    raise ValueError(f"no rung {rung!r}; there is {', '.join(held.name for held in HOLDINGS)}")


def rungs(backend: Diffusers, spec: FilmSpec, value_bytes: int) -> list[Rung]:
    """The ways to hold a film's networks, with an estimate of each; those that would save nothing left out.

    ``value_bytes``: of a number in the network and in the text encoder.
    """
    text = 0 if backend.random else SLACK * value_bytes * values(backend, TEXT_ENCODER)
    network = value_bytes * values(backend, backend.model.network)
    denoising = SLACK * denoising_bytes(backend, spec, value_bytes)
    vae = VAE_BYTES * values(backend, VAE)
    decoding, remembered = (SLACK * count for count in decoding_bytes(backend, spec))
    found, least = [], math.inf
    for held in HOLDINGS:
        working = denoising + decoding if held.beside else max(denoising, decoding)
        weights = network if held.blocks_stay else network * streamed_share(backend)
        film = weights + vae + remembered + working
        peak = CONTEXT_BYTES + int(max(text if held.text_on_card else 0, film))
        if peak < least:
            found.append(Rung(held.name, peak, held.says, decodes_beside=held.beside))
            least = peak
    return found


def denoising_bytes(backend: Diffusers, spec: FilmSpec, value_bytes: int) -> int:
    """Tensors that are alive in a step of a full window with its clean chunk, weights aside."""
    geometry = backend.geometry
    config = backend.config(backend.model.network)
    columns, rows = (side // geometry.pixel_stride for side in spec.size)
    frames = (spec.window + 1) * geometry.chunk_latents
    match backend.model.family:
        case "unet":
            # Behind the last enlargement, where all of it has the first level's width.
            return frames * rows * columns * value_bytes * 35 * _first(config, "block_out_channels", 320)
        case "ltx":
            width = _first(config, "num_attention_heads", 32) * _first(config, "attention_head_dim", 64)
            return frames * rows * columns * width * (28 * value_bytes + 5)
        case "skyreels" | "wan":
            # The modulation of every token, as it comes and in float32, beside an MLP or a norm.
            width = int(config["num_attention_heads"]) * int(config["attention_head_dim"])
            inside = (6 + 5.2 + 2 * int(config["ffn_dim"]) / width) * value_bytes + 24
            tokens = frames * -(-rows // 2) * -(-columns // 2)
            return int(1.05 * tokens * width * max(inside, 64.3))


def decoding_bytes(backend: Diffusers, spec: FilmSpec) -> tuple[int, int]:
    """Tensors that are made and alive while a chunk is decoded, and what is remembered of the one before."""
    decoding, pixels = DECODING[backend.model.family], spec.size[0] * spec.size[1]
    return pixels * decoding.alive, pixels * decoding.remembered


def streamed_share(backend: Diffusers) -> float:
    """Of the network's weights, those on the card at once where blocks come one at a time: a block, the next
    one, and what is no block. (A UNet's largest block is a third of it.)"""
    layers = backend.config(backend.model.network).get("num_layers")
    return min(1.0, 3 / int(layers) + 0.03) if layers else 0.75


def values(backend: Diffusers, part: str) -> int:
    """How many numbers a part's weights are: from the headers of its files, or as published."""
    folder = backend.part(part)
    stem = TRANSFORMERS_WEIGHTS if part == TEXT_ENCODER else DIFFUSERS_WEIGHTS
    parts = [] if backend.random else sorted(folder.glob(stem + WHOLE_OR_SHARDS))  # no copy in another dtype
    files = [file for file in parts if file.suffix == ".safetensors"]
    try:
        return sum(map(_values, files)) or backend.model.values[part]
    except (OSError, ValueError, TypeError, KeyError):  # damaged, as `longvid models check` tells
        return backend.model.values[part]


def _values(file: Path) -> int:
    """From a safetensors header: eight bytes of its length, then JSON."""
    with open(file, "rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(min(length, MAX_HEADER_BYTES)))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def _first(config: Mapping[str, Any], key: str, published: int) -> int:
    """A size of a configuration, the first one of several; diffusers leaves out what is its default."""
    said = config.get(key, published)
    return int(said[0] if isinstance(said, list) else said)
