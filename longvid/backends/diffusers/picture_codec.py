"""Stable Diffusion's AutoencoderKL as a VideoCodec: one latent a frame, each a picture of its own.

As ModelScope's text-to-video has it (Wang et al. 2023, section 3.1): nothing of a frame reaches another, so
there is no carry, and a chunk decodes to the bits that it has in a whole film.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longvid.backends import Carry


@dataclass(frozen=True, eq=False)
class PictureCodec:
    """``vae``: diffusers' AutoencoderKL. Pictures go through it one at a time: kernels depend on the batch,
    and memory stays that of one."""

    vae: Any

    def encode(self, video: Tensor) -> Tensor:
        """Latents [b c f h w] in fp32 of frames [b 3 f h w] in [-1, 1]: the posterior's means."""
        return torch.cat([self.encode_picture(picture) for picture in video.unbind(2)], dim=2)

    def encode_picture(self, picture: Tensor) -> Tensor:
        vae = self.vae
        mean = vae.encode(picture.to(vae.dtype)).latent_dist.mode()
        latent: Tensor = mean.float() * vae.config.scaling_factor
        return latent[:, :, None]

    def decode(self, chunk: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        """Frames [b 3 l h w] in fp32, in [-1, 1], of latents [b c l h w]."""
        vae = self.vae
        latents = (chunk / vae.config.scaling_factor).to(vae.dtype)
        pictures = [vae.decode(latent).sample.float() for latent in latents.unbind(2)]
        return torch.stack(pictures, dim=2).clamp(-1, 1), {}

    def flush(self, carry: Carry) -> Tensor | None:
        return None
