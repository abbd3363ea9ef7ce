"""LTX-Video (Lightricks 2024, arXiv 2501.00103): a small rectified-flow transformer with a time per token.

It was trained with one noise level a clip, but for a clean or slightly noised first frame where it goes on
from a picture; so tokens of different times are nothing new to it, levels that rise through a window are. Its
rotary positions are in seconds from the window's first latent, which in training was a single frame.
"""

from __future__ import annotations

from math import exp
from pathlib import Path
from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from longvid.backends import FilmSpec, Prompts
from longvid.backends.diffusers.family import Config, Family
from longvid.backends.diffusers.ltx_codec import LTXCodec
from longvid.backends.diffusers.published import LTX_VIDEO
from longvid.backends.diffusers.text import T5Encoder, tokenizer
from longvid.backends.flow_shift import shift
from longvid.processes import RectifiedFlow

GEOMETRY = LTX_VIDEO.geometry
LATENT_FRAMES = GEOMETRY.chunk_frames // GEOMETRY.chunk_latents

TOKENS = 128
"""Of the longest prompt, as the published pipeline has it."""
CLIP_TOKENS = (1024, 4096)
LOG_SHIFTS = (0.95, 2.05)
"""Between clips of so many tokens the logarithm of the flow shift goes from the one to the other, and on."""
LAST_TIME = 0.1
"""Of the published schedule's last step."""


def process(scheduler: Config) -> RectifiedFlow:
    return RectifiedFlow("noise - clean")


def schedule(level: Tensor, flow_shift: float | None, spec: FilmSpec) -> Tensor:
    """The published schedule for a clip as long as the window, stretched so that its last step is at 0.1.

    Its shift follows from the clip's size. It is published for a number of steps, here the model's own: with
    others, times lie on the same curve.
    """
    width, height = (side // GEOMETRY.pixel_stride for side in spec.size)
    tokens = spec.window * GEOMETRY.chunk_latents * width * height
    slope = (LOG_SHIFTS[1] - LOG_SHIFTS[0]) / (CLIP_TOKENS[1] - CLIP_TOKENS[0])
    ratio = exp(LOG_SHIFTS[0] + slope * (tokens - CLIP_TOKENS[0]))
    last_level = 1 / GEOMETRY.steps
    stretch = (1 - LAST_TIME) / (1 - shift(torch.tensor(last_level), ratio))
    stretched = 1 - stretch * (1 - shift(level, ratio))
    return torch.where(level < last_level, LAST_TIME / last_level * level, stretched)


def predict(network: nn.Module, x: Tensor, t: Tensor, prompts: Prompts, spec: FilmSpec) -> Tensor:
    """The velocity noise - clean [b c f h w] (`Predict`)."""
    samples, _, frames, height, width = x.shape
    tokens: Tensor
    (tokens,) = network(
        hidden_states=rearrange(x, "b c f h w -> b (f h w) c"),
        timestep=1000 * repeat(t, "b f -> b (f n)", n=height * width),
        encoder_hidden_states=prompts.embeddings.expand(samples, -1, -1),
        encoder_attention_mask=prompts.mask.expand(samples, -1),
        num_frames=frames,
        height=height,
        width=width,
        # A latent's seconds and pixels, which positions are in.
        rope_interpolation_scale=(LATENT_FRAMES / float(spec.fps), *[GEOMETRY.pixel_stride] * 2),
        return_dict=False,
    )
    return rearrange(tokens, "b (f h w) c -> b c f h w", h=height, w=width)


def text_encoder(network: nn.Module, folder: Path, device: torch.device) -> T5Encoder:
    return T5Encoder(network, tokenizer(folder), TOKENS, device)


def blocks(network: nn.Module) -> tuple[nn.Module, ...]:
    transformer: Any = network
    return tuple(transformer.transformer_blocks)


FAMILY = Family(
    process=process,
    schedule=schedule,
    text_encoder=text_encoder,
    tokens=TOKENS,
    codec=LTXCodec.of,
    predict=predict,
    blocks=blocks,
    lora_targets=("to_q", "to_k", "to_v", "0", "proj", "2"),  # to_out.0, ff.net.0.proj, ff.net.2
    reads=blocks,
    original={"proj_in": "patchify_proj", "time_embed": "adaln_single"},
)
