"""Wan 2.2 TI2V-5B (Wan team 2025, arXiv 2503.20314): a time for each token.

It was trained with one noise level a clip, in front of which a picture's latent may stand clean; so tokens of
different times are nothing new to it, levels that rise through a window are. All but the network's call is as
SkyReels-V2 has it, which was made from Wan 2.1.
"""

from __future__ import annotations

from dataclasses import replace

from einops import repeat
from torch import Tensor, nn

from longvid.backends import FilmSpec, Prompts
from longvid.backends.diffusers import skyreels
from longvid.backends.diffusers.skyreels import PATCH, in_whole_patches


def predict(network: nn.Module, x: Tensor, t: Tensor, prompts: Prompts, spec: FilmSpec) -> Tensor:
    """The velocity noise - clean [b c f h w] (`Predict`)."""
    rows, columns = x.shape[3:]
    whole = in_whole_patches(x, PATCH)
    tokens = whole.shape[3] // PATCH * (whole.shape[4] // PATCH)
    prediction: Tensor
    (prediction,) = network(
        hidden_states=whole,
        timestep=1000 * repeat(t, "b f -> b (f n)", n=tokens),
        encoder_hidden_states=prompts.embeddings.expand(len(x), -1, -1),
        return_dict=False,
    )
    return prediction[..., :rows, :columns]


FAMILY = replace(skyreels.FAMILY, predict=predict)
