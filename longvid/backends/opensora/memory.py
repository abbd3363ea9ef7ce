"""What Open-Sora takes of a card's memory, by the ways to hold it. Torch-free.

Estimates: weights to a percent, and the tensors that are alive where most are, counted from the networks'
sizes. Tests trace the networks at their published sizes and hold the counts to 1 to 1.3 times what they find.
What CUDA and its libraries take beside the tensors is assumed here, and was not measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from longvid.backends import RESIDENT, FilmSpec, Rung
from longvid.backends.opensora import prompts, sizes
from longvid.backends.opensora.config import (
    T5_SIZES,
    SpatialSize,
    TemporalSize,
    TransformerSize,
    VAESize,
    read,
)
from longvid.backends.opensora.published import TEXT_ENCODER

if TYPE_CHECKING:
    from longvid.backends.opensora import OpenSora

CONTEXT_BYTES = 800_000_000
"""Assumed: a CUDA context with its kernels, and the workspaces of cuBLAS and cuDNN."""
SLACK = 1.15
"""Assumed: what the allocator holds for each byte of the tensors that come and go."""
PROMPTS = 2
"""Assumed in a window at once, as where one shot flows into the next; each at full length."""
TILE_CELLS = 32
"""Side of a decoder's tile in latent cells: 256 pixels."""

T5_LINEAR_BYTES = {"auto": 4, "cpu": 4, "8bit": 1, "4bit": 0.5625}
"""Of one number in its linear layers; NF4 keeps a scale in fp32 for every 64."""


@dataclass(frozen=True)
class Holding:
    """How a rung holds the networks.

    ``says``: of transformer and autoencoder, one clause for a person. ``text_on_card``: T5 computes on the
    card, before the others come there. ``vae_stays``: the autoencoder lies on the card and decodes beside the
    denoising; else its weights come for each chunk, and it decodes frame by frame. ``blocks_stay``: so do the
    transformer's blocks; else they come a pair at a time. ``tile_cells``: side of the decoder's tiles, None
    for whole pictures.
    """

    name: str
    says: str
    text_on_card: bool = False
    vae_stays: bool = False
    blocks_stay: bool = False
    tile_cells: int | None = None


HOLDINGS = (
    Holding(
        RESIDENT,
        "the transformer and the VAE too",
        text_on_card=True,
        vae_stays=True,
        blocks_stay=True,
    ),
    Holding("t5-off", "the transformer and the VAE on the card", vae_stays=True, blocks_stay=True),
    Holding("vae-off", "the VAE comes to the card for each chunk", blocks_stay=True),
    Holding("streamed", "the VAE comes to the card for each chunk, the transformer's blocks for each step"),
    Holding(
        "tiled",
        f"weights come as if streamed, the VAE decodes in tiles of {TILE_CELLS * sizes.PIXEL_STRIDE} pixels",
        tile_cells=TILE_CELLS,
    ),
)
"""The fastest first; each does what those before it do about memory."""


def holding(rung: str) -> Holding:
    """Raises ValueError for the name of no rung."""
    for held in HOLDINGS:
        if held.name == rung:
            return held
    raise ValueError(f"no rung {rung!r}; there is {', '.join(held.name for held in HOLDINGS)}")


def text_on_card(held: Holding, choice: prompts.TextEncoderChoice) -> bool:
    """Whether T5 computes on the card. With rounded weights always: its numbers are others elsewhere."""
    return choice in ("8bit", "4bit") or (choice == "auto" and held.text_on_card)


def rungs(backend: OpenSora, spec: FilmSpec, value_bytes: int) -> list[Rung]:
    """The ways to hold a film's networks, with an estimate of each; those that would change nothing left out.

    ``value_bytes`` is taken as the autoencoder's too. It is but in float16: there the autoencoder computes in
    float32 (`vae.decoding_dtype`), and takes twice of what is said here.
    """
    sized = backend.with_random_weights()  # which may lack its files: then the published ones are meant
    transformer, vae = sized.transformer_size(), sized.vae_size()
    choice = prompts.read_options(spec.options).text_encoder
    text = 0
    if not backend.random:
        text = text_bytes(backend.part(TEXT_ENCODER) / "config.json", choice, transformer)
    keys = keys_bytes(transformer, value_bytes)
    denoising = SLACK * denoising_bytes(transformer, spec, value_bytes)
    found: list[Rung] = []
    for held in HOLDINGS:
        if held.name == "t5-off" and choice != "auto":
            continue
        if held.tile_cells is not None and max(spec.size) <= held.tile_cells * sizes.PIXEL_STRIDE:
            continue
        beside = held.vae_stays
        frames = vae.micro_batch_size if beside else 1
        decoding = vae_values(vae) * value_bytes + SLACK * decoding_bytes(
            vae, spec, value_bytes, frames, held.tile_cells
        )
        working = denoising + decoding if beside else max(denoising, decoding)
        film = transformer_bytes(transformer, value_bytes, held.blocks_stay) + keys + working
        on_card = text_on_card(held, choice)
        peak = CONTEXT_BYTES + int(max(text if on_card else 0, film))
        says = f"T5 on the {'card' if on_card else 'CPU'}, {held.says}"
        found.append(Rung(held.name, peak, says, held.tile_cells is None, decodes_beside=beside))
    return found


# The text encoder


def text_bytes(config: Path, choice: prompts.TextEncoderChoice, transformer: TransformerSize) -> int:
    """T5 with the longest prompt going through it; its attention writes out all scores, in fp32."""
    said = read(config) if config.is_file() else {}
    size = {name: int(said.get(name, published)) for name, published in T5_SIZES.items()}
    width, inner, wide = size["d_model"], size["num_heads"] * size["d_kv"], size["d_ff"]
    linear = size["num_layers"] * (4 * inner + 3 * wide) * width
    words = size["vocab_size"] * width
    tokens = transformer.model_max_length
    passing = 4 * 4 * tokens * (size["num_heads"] * tokens + wide)
    weights = T5_LINEAR_BYTES[choice] * linear + (2 if choice in ("8bit", "4bit") else 4) * words
    return int(weights + SLACK * passing)


# The transformer


def transformer_bytes(size: TransformerSize, value_bytes: int, blocks_stay: bool) -> int:
    """The network's weights on the card; without its blocks, room for two pairs of them.

    What makes times and positions stays in fp32 (`stdit3.cast`). Streamed blocks leave behind what makes the
    keys and values of prompts.
    """
    width = size.hidden_size
    captions = (size.caption_channels + width) * width
    scalars = 2 * (256 + width) * width + 6 * width * width
    null = size.model_max_length * size.caption_channels
    block = (3 + 1 + 1 + 2 + 1 + 2 * size.mlp_ratio) * width**2
    blocks = 2 * size.depth * block if blocks_stay else 4 * (block - 2 * width**2)
    return value_bytes * (blocks + captions) + 4 * (scalars + null)


def keys_bytes(size: TransformerSize, value_bytes: int) -> int:
    """Every block's keys and values of PROMPTS prompts and of what stands for them without guidance."""
    return 2 * PROMPTS * 2 * size.depth * size.model_max_length * 2 * size.hidden_size * value_bytes


def denoising_bytes(size: TransformerSize, spec: FilmSpec, value_bytes: int) -> int:
    """Tensors that are alive in a step of a full window with its clean chunk, weights and keys aside.

    Most are alive in an MLP (the residual stream, what goes in, both sides of the GELU), or where queries and
    keys are turned, in fp32.
    """
    columns, rows = (-(-side // (2 * sizes.PIXEL_STRIDE)) for side in spec.size)
    tokens = (spec.window + 1) * sizes.CHUNK_LATENTS * rows * columns
    inside = (4 + 2 * size.mlp_ratio) * value_bytes
    turning = 8 * value_bytes + 3 * 4
    return int(1.1 * max(inside, turning) * tokens * size.hidden_size)


# The autoencoder


def vae_values(size: VAESize) -> int:
    """Numbers in both autoencoders, but for norms and biases."""
    return _temporal_values(size.temporal) + _spatial_values(size.spatial)


def _temporal_values(size: TemporalSize) -> int:
    widths = [size.filters * multiplier for multiplier in size.channel_multipliers]
    deep = size.num_res_blocks
    middles = 2 * deep * _residual(widths[-1], widths[-1], 27)
    levels = sum(
        _residual(before, after, 27) + (deep - 1) * _residual(after, after, 27)
        for before, after in (
            *pairwise([size.filters, *widths]),
            *pairwise([widths[-1], *reversed(widths)]),
        )
    )
    # The encoder halves time with as many channels, the decoder doubles it with twice as many.
    times = sum(
        27 * (before**2 + 2 * after**2)
        for (before, after), halves in zip(pairwise(widths), size.temporal_downsample, strict=True)
        if halves
    )
    return middles + levels + times


def _spatial_values(size: SpatialSize) -> int:
    widths = size.block_out_channels
    last, deep = widths[-1], size.layers_per_block
    encoder = sum(
        _residual(before, after, 9) + (deep - 1) * _residual(after, after, 9) + 9 * after**2
        for before, after in pairwise([widths[0], *widths])
    )
    decoder = sum(
        _residual(before, after, 9) + deep * _residual(after, after, 9) + 9 * after**2
        for before, after in pairwise([last, *reversed(widths)])
    )
    middles = 2 * (2 * _residual(last, last, 9) + 4 * last**2)
    return encoder + decoder + middles - 9 * (last**2 + widths[0] ** 2)  # the last levels keep their size


def _residual(channels: int, out_channels: int, kernel: int) -> int:
    skip = channels * out_channels if channels != out_channels else 0
    return kernel * (channels + out_channels) * out_channels + skip


def decoding_bytes(
    size: VAESize, spec: FilmSpec, value_bytes: int, frames: int, tile_cells: int | None
) -> int:
    """Tensors that are alive while a chunk is decoded, ``frames`` at once by the spatial autoencoder.

    Most are alive behind its last enlargement (what comes out of it, normed, activated), or in the temporal
    one, which has the whole chunk in six tensors at its widest. The finished frames lie beside.
    """
    columns, rows = (side // sizes.PIXEL_STRIDE for side in spec.size)
    finished = 3 * sizes.CHUNK_FRAMES * rows * columns * sizes.PIXEL_STRIDE**2 * 4
    seen = rows * columns
    if tile_cells is not None:
        seen = min(rows, tile_cells) * min(columns, tile_cells)
    spatial = 3 * frames * size.spatial.block_out_channels[1] * seen * sizes.PIXEL_STRIDE**2 * value_bytes
    temporal = size.temporal
    widths = [temporal.filters * multiplier for multiplier in temporal.channel_multipliers]
    widest = max(
        max(widths[level : level + 2]) * 2 ** sum(temporal.temporal_downsample[level:])
        for level in range(len(widths))
    )
    whole = 6.2 * widest * sizes.CHUNK_LATENTS * rows * columns * value_bytes
    return int(1.05 * max(spatial + 2 * finished, whole))
