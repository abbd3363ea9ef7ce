"""ModelScope's text-to-video (Wang et al. 2023, arXiv 2308.06571): diffusers' UNet3DConditionModel.

It was trained with one time a clip. Its residual blocks add the time's embedding to each frame on its own
though, so a time a frame needs no weight that is not there: hooks hand every frame its own embedding. It
predicts noise under a DDPM's schedule, so it is sampled by DDIM.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from longvid.backends import FilmSpec, Prompts
from longvid.backends.diffusers.family import Config, Family
from longvid.backends.diffusers.picture_codec import PictureCodec
from longvid.backends.diffusers.text import CLIPEncoder, tokenizer
from longvid.errors import UserError
from longvid.processes import DDIM

TIMESTEPS = 1000
"""Entries of the noise table that it was trained with."""
TOKENS = 77
"""Of every prompt: as many as CLIP has places for."""


def process(scheduler: Config) -> DDIM:
    """DDIM over the table of a ``scheduler_config.json``. Raises UserError for one that is not read here."""
    steps = scheduler.get("num_train_timesteps", TIMESTEPS)
    kind = scheduler.get("beta_schedule", "linear")
    predicts = scheduler.get("prediction_type", "epsilon")
    start, end = scheduler.get("beta_start", 0.0001), scheduler.get("beta_end", 0.02)
    if steps != TIMESTEPS or predicts != "epsilon":
        raise UserError(
            f"scheduler_config.json: {steps} steps and prediction_type {predicts!r} are not supported; "
            f"{TIMESTEPS} and 'epsilon' are"
        )
    match kind:
        case "scaled_linear":
            betas = torch.linspace(start**0.5, end**0.5, steps) ** 2
        case "linear":
            betas = torch.linspace(start, end, steps)
        case _:
            raise UserError(
                f"scheduler_config.json: beta_schedule {kind!r} is not supported; linear, scaled_linear are"
            )
    return DDIM((1 - betas).cumprod(0), "noise")


def schedule(level: Tensor, flow_shift: float | None, spec: FilmSpec) -> Tensor:
    """Levels are times: evenly spaced over the table ("trailing", Lin et al. 2024, table 2)."""
    return level


def prepare(network: nn.Module) -> None:
    """Let a UNet3DConditionModel take a time a frame, as ``timestep_cond`` [b f], rows of its noise table.

    The network itself passes this argument on to its time embedding, and repeats what comes of it for every
    frame: each row of [(b f) d] stands f times there, of which a residual block takes one. Its dropout is
    left out, so that what is trained is what predicts.
    """
    unet: Any = network
    waves = unet.time_proj

    def by_frame(embedding: nn.Module, args: tuple[Tensor, Tensor | None]) -> tuple[Tensor, ...] | None:
        of_samples, of_frames = args
        return None if of_frames is None else (waves(of_frames.flatten()).to(of_samples.dtype),)

    def own_row(block: nn.Module, args: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        frames, embeddings = args
        return frames, embeddings[:: len(embeddings) // len(frames)]

    unet.time_embedding.register_forward_pre_hook(by_frame)
    for module in network.modules():
        if isinstance(module, ResnetBlock2D):
            module.register_forward_pre_hook(own_row)
        elif isinstance(module, nn.Dropout):
            module.p = 0.0


def predict(network: nn.Module, x: Tensor, t: Tensor, prompts: Prompts, spec: FilmSpec) -> Tensor:
    """The noise [b c f h w] in x. A prompt's padding counts as its words do, as in the published model."""
    rows = (t * TIMESTEPS - 1).clamp(min=0)
    predicted: tuple[Tensor] = network(
        x,
        timestep=rows[:, 0],
        timestep_cond=rows,
        encoder_hidden_states=prompts.embeddings.expand(len(x), -1, -1),
        return_dict=False,
    )
    return predicted[0]


def blocks(network: nn.Module) -> list[BasicTransformerBlock]:
    """Its transformer blocks, in space and in time: of one class, and where most memory of a step goes."""
    return [module for module in network.modules() if isinstance(module, BasicTransformerBlock)]


def reads(network: nn.Module) -> list[BasicTransformerBlock]:
    """The blocks that hear the prompt: those in space. In time, both attentions are a frame's to others."""
    seconds: list[tuple[BasicTransformerBlock, Any]] = [(block, block.attn2) for block in blocks(network)]
    return [block for block, attention in seconds if attention.is_cross_attention]


def text_encoder(network: nn.Module, folder: Path, device: torch.device) -> CLIPEncoder:
    return CLIPEncoder(network, tokenizer(folder), TOKENS, device)


FAMILY = Family(
    process=process,
    schedule=schedule,
    text_encoder=text_encoder,
    tokens=TOKENS,
    codec=PictureCodec,
    predict=predict,
    blocks=blocks,
    lora_targets=("to_q", "to_k", "to_v", "0", "proj", "2"),  # to_out.0, ff.net.0.proj, ff.net.2
    reads=reads,
    prepare=prepare,
)
