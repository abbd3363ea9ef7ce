"""What a family of models supplies: a few functions over the networks of diffusers, no class of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from longvid.backends import FilmSpec, Process, Prompts, TextEncoder, VideoCodec

Config = Mapping[str, Any]
"""What a part's ``config.json`` says, or its scheduler's ``scheduler_config.json``."""


class Predict(Protocol):
    def __call__(self, network: nn.Module, x: Tensor, t: Tensor, prompts: Prompts, spec: FilmSpec) -> Tensor:
        """The network's prediction [b c f h w] for latents x [b c f h w] at times t [b f] in [0, 1].

        ``prompts``: one a sample, or one for all: [b n d] or [1 n d], on the device, in the network's dtype,
        as x is. ``t`` is in float32. The network is called once, through its forward: it may be wrapped.
        """
        ...


@dataclass(frozen=True)
class Family:
    """How one kind of model is made a film of.

    ``process``, ``schedule``: from the scheduler's configuration; a schedule takes levels in [0, 1], the
    model's flow shift (None where it has none) and the film's spec. ``codec``: over the loaded autoencoder.
    ``text_encoder``: over the loaded network, the folder ``tokenizer`` and the network's device.
    ``tokens``: the longest prompt's. ``blocks``: the network's repeated parts. ``lora_targets``: see
    `Trainee`. ``reads``: the blocks whose ``attn2`` hears the prompt (`attention.FrameAttention`); None for a
    network that takes one text a sample (`guidance.per_prompt`). ``prepare``: called once with the network,
    weights loaded or not. ``original``: what parts of layers' names are in the model's original code, for
    which LoRAs are published too: the first that a name has counts.
    """

    process: Callable[[Config], Process]
    schedule: Callable[[Tensor, float | None, FilmSpec], Tensor]
    text_encoder: Callable[[nn.Module, Path, torch.device], TextEncoder]
    tokens: int
    codec: Callable[[nn.Module], VideoCodec]
    predict: Predict
    blocks: Callable[[nn.Module], Sequence[nn.Module]]
    lora_targets: tuple[str, ...]
    reads: Callable[[nn.Module], Sequence[nn.Module]] | None = None
    prepare: Callable[[nn.Module], None] = lambda network: None
    original: Mapping[str, str] = field(default_factory=dict)
