"""SkyReels-V2 with diffusion forcing (Chen et al. 2025): a time for each latent, as it was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longvid.backends import FilmSpec, Prompts
from longvid.backends.diffusers.family import Config, Family
from longvid.backends.diffusers.text import UMT5Encoder, tokenizer
from longvid.backends.diffusers.wan_codec import WanCodec
from longvid.backends.flow_shift import shift
from longvid.processes import RectifiedFlow

TOKENS = 512
"""Of the longest prompt, as the published pipeline has it."""
PATCH = 2
"""Latent rows and columns of a token."""
SLOW_FPS = 16
"""The one rate that the network tells from all others, which are 24 to it."""

ORIGINAL = {
    "attn1.to_out.0": "self_attn.o",
    "attn1.to_": "self_attn.",
    "attn2.to_out.0": "cross_attn.o",
    "attn2.to_": "cross_attn.",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "proj_out": "head.head",
}
"""Layers of Wan in diffusers, and as its own code and that of SkyReels-V2 name them."""


def predict(network: nn.Module, x: Tensor, t: Tensor, prompts: Prompts, spec: FilmSpec) -> Tensor:
    """The velocity noise - clean [b c f h w] (`Predict`)."""
    rows, columns = x.shape[3:]
    prediction: Tensor
    (prediction,) = network(
        hidden_states=in_whole_patches(x, PATCH),
        timestep=1000 * t,
        encoder_hidden_states=prompts.embeddings.expand(len(x), -1, -1),
        enable_diffusion_forcing=True,
        fps=[0 if spec.fps == SLOW_FPS else 1],
        return_dict=False,
    )
    return prediction[..., :rows, :columns]


def in_whole_patches(x: Tensor, patch: int) -> Tensor:
    """Latents [b c f h w] with their last rows and columns repeated up to a multiple of ``patch``."""
    for dim in (3, 4):
        last = x.narrow(dim, x.shape[dim] - 1, 1)
        x = torch.cat([x, *[last] * (-x.shape[dim] % patch)], dim=dim)
    return x


def shifted(level: Tensor, flow_shift: float | None, spec: FilmSpec) -> Tensor:
    """Time t of a level: more steps are spent where there is more noise."""
    return level if flow_shift is None else shift(level, flow_shift)


def process(scheduler: Config) -> RectifiedFlow:
    return RectifiedFlow("noise - clean")


def text_encoder(network: nn.Module, folder: Path, device: torch.device) -> UMT5Encoder:
    return UMT5Encoder(network, tokenizer(folder), TOKENS, device)


def blocks(network: nn.Module) -> tuple[nn.Module, ...]:
    transformer: Any = network
    return tuple(transformer.blocks)


FAMILY = Family(
    process=process,
    schedule=shifted,
    text_encoder=text_encoder,
    tokens=TOKENS,
    codec=WanCodec.of,
    predict=predict,
    blocks=blocks,
    lora_targets=("to_q", "to_k", "to_v", "0", "proj", "2"),  # to_out.0, ffn.net.0.proj, ffn.net.2
    reads=blocks,
    original=ORIGINAL,
)
