"""Sizes of Open-Sora's networks, read from the ``config.json`` files as they are published. Torch-free.

The published files name few sizes: what they leave out is what the published weights have. Folders with
other sizes (small random ones, for tests and benchmarks) name them under the keys read here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longvid.errors import UserError

TRANSFORMER_TYPE = "STDiT3"
TEMPORAL_TYPE = "VAE_Temporal_SD"

T5_SIZES = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
}
"""T5 v1.1-XXL's; a ``config.json`` may name others."""


@dataclass(frozen=True)
class TransformerSize:
    """STDiT3: width ``hidden_size``, ``depth`` pairs of a spatial and a temporal block, ``num_heads`` heads.

    ``caption_channels``: width of the text encoder's embeddings. ``model_max_length``: text tokens at most.
    ``input_sq_size``: side in pixels of the square that positions are scaled to.
    """

    hidden_size: int = 1152
    depth: int = 28
    num_heads: int = 16
    in_channels: int = 4
    caption_channels: int = 4096
    model_max_length: int = 300
    mlp_ratio: int = 4
    input_sq_size: int = 512


@dataclass(frozen=True)
class TemporalSize:
    """The temporal autoencoder: ``filters`` channels times ``channel_multipliers`` at its levels.

    ``temporal_downsample[j]``: whether time is halved after level j; the last level has none.
    """

    in_out_channels: int = 4
    latent_embed_dim: int = 4
    embed_dim: int = 4
    filters: int = 128
    num_res_blocks: int = 4
    channel_multipliers: tuple[int, ...] = (1, 2, 2, 4)
    temporal_downsample: tuple[bool, ...] = (False, True, True)
    num_groups: int = 32


@dataclass(frozen=True)
class SpatialSize:
    """The spatial autoencoder, diffusers' AutoencoderKL, as it was trained for SDXL."""

    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    latent_channels: int = 4


@dataclass(frozen=True)
class VAESize:
    """Both autoencoders. ``micro_frame_size``: frames the temporal one takes at once; ``micro_batch_size``:
    frames the spatial one takes at once."""

    spatial: SpatialSize = SpatialSize()
    temporal: TemporalSize = TemporalSize()
    micro_frame_size: int = 17
    micro_batch_size: int = 4


def transformer_size(config: Path) -> TransformerSize:
    """The sizes in a transformer's ``config.json``. Raises UserError where it is none of STDiT3's."""
    said = read(config)
    if said.get("model_type", TRANSFORMER_TYPE) != TRANSFORMER_TYPE:
        raise UserError(f"{config}: model_type is {said['model_type']!r}, not {TRANSFORMER_TYPE!r}")
    for key, only in (("qk_norm", True), ("pred_sigma", True), ("patch_size", [1, 2, 2])):
        if said.get(key, only) != only:
            raise UserError(f"{config}: {key} is {said[key]!r}; Open-Sora v1.2 has {only!r}")
    size = TransformerSize(**_fields(TransformerSize, said, config))
    if size.hidden_size % (4 * size.num_heads):
        raise UserError(
            f"{config}: hidden_size {size.hidden_size} is no multiple of 4 x num_heads {size.num_heads}"
        )
    return size


def vae_size(config: Path) -> VAESize:
    """The sizes in the video autoencoder's ``config.json``. Raises UserError where it is another's."""
    said = read(config)
    temporal, spatial = said.get("vae_temporal", {}), said.get("vae_2d", {})
    if not isinstance(temporal, dict) or not isinstance(spatial, dict):
        raise UserError(f"{config}: vae_temporal and vae_2d must be objects")
    if temporal.get("type", TEMPORAL_TYPE) != TEMPORAL_TYPE:
        raise UserError(f"{config}: vae_temporal.type is {temporal['type']!r}, not {TEMPORAL_TYPE!r}")
    return VAESize(
        SpatialSize(**_fields(SpatialSize, spatial, config)),
        TemporalSize(**_fields(TemporalSize, temporal, config)),
        **_fields(VAESize, {**said, "micro_batch_size": spatial.get("micro_batch_size", 4)}, config),
    )


def read(config: Path) -> dict[str, Any]:
    """A ``config.json``. Raises UserError where it cannot be read or is no object."""
    try:
        said = json.loads(config.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{config}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{config}: is no JSON: {error}") from error
    if not isinstance(said, dict):
        raise UserError(f"{config}: is no JSON object")
    return said


def _fields(size: type[Any], said: Mapping[str, Any], config: Path) -> dict[str, Any]:
    """The sizes that ``said`` names, each of its field's kind and positive."""
    found = {}
    for name, default in size.__dict__.items():
        if name not in size.__dataclass_fields__ or name not in said:
            continue
        value = said[name]
        if isinstance(default, tuple):
            kind = type(default[0])
            fits = isinstance(value, list) and value and all(type(item) is kind for item in value)
            value = tuple(value) if fits else value
        else:
            if type(value) is float and value.is_integer():  # as transformers writes `"mlp_ratio": 4.0`
                value = int(value)
            fits = type(value) is int and value > 0
        if not fits:
            raise UserError(f"{config}: {name} is {value!r}; the published one is {default!r}")
        found[name] = value
    return found
