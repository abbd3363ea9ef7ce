"""LTX-Video's autoencoder as a fold: its decoder looks both ways in time, so windows of two chunks overlap.

A film's first latent is one frame, each other one eight frames more. The encoder is causal; the decoder is
not: it repeats a window's first and last latent beyond its ends, and what it shows near an end is not what it
would show in the middle of a film. So every chunk is decoded twice, as a window's second half and as the next
one's first, and over the chunk's length the one picture fades into the other.

How near this comes to a decode of the whole film at once hangs on how far the decoder's weights look. With
random weights, at the published depth and with chunks of five latents, its PSNR is 35 dB, where chunks on
their own have 25 dB; of the published weights it is not measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from longvid.backends import Carry


@dataclass(frozen=True, eq=False)
class LTXCodec:
    """``vae``: diffusers' AutoencoderKLLTXVideo; ``mean`` and ``std`` [1 c 1 1 1] are its latents' over the
    training set: the network sees them as 0 and 1.

    The carry holds the last chunk [b c l h w], and its frames [b 3 f h w] but the first, in half precision: a
    thirtieth of a level of an 8-bit picture. A run's first chunk gives one frame, its flush what is left.
    """

    vae: Any
    mean: Tensor
    std: Tensor

    @staticmethod
    def of(vae: nn.Module) -> LTXCodec:
        loaded: Any = vae
        mean, std = (each.float().view(1, -1, 1, 1, 1) for each in (loaded.latents_mean, loaded.latents_std))
        return LTXCodec(loaded, mean, std / loaded.config.scaling_factor)

    def encode(self, video: Tensor) -> Tensor:
        """The posterior's means [b c f h w] in fp32, of 1 + 8 (f - 1) frames [b 3 f h w] in [-1, 1]."""
        latents: Tensor = self.vae.encode(video.to(self.vae.dtype)).latent_dist.mode()
        return (latents.float() - self.mean) / self.std

    def encode_picture(self, picture: Tensor) -> Tensor:
        return self.encode(picture[:, :, None])

    def decode(self, chunk: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        if carry:
            window = torch.cat([carry["latents"], chunk], dim=2)
            # Its first frame belongs to a latent that is shown already, but for one frame alone.
            frames = fade(carry["frames"].float(), self.decode_alone(window)[:, :, 1:])
        else:
            frames = self.decode_alone(chunk)
        shown = frames.shape[2] - self.vae.temporal_compression_ratio * (chunk.shape[2] - 1)
        held = frames[:, :, shown:].to(torch.float16)
        return frames[:, :, :shown], {"latents": chunk.clone(), "frames": held}

    def flush(self, carry: Carry) -> Tensor | None:
        held = carry["frames"].float()
        return held if held.shape[2] else None

    def decode_alone(self, latents: Tensor) -> Tensor:
        """The library's frames [b 3 f h w] of latents with nothing before or behind them, in [-1, 1].

        Where the decoder asks for a time and for noise (from version 0.9.1 on) it is time 0, and always the
        same noise.
        """
        vae = self.vae
        latents = (latents * self.std + self.mean).to(vae.dtype)
        time = latents.new_zeros(len(latents)) if vae.config.timestep_conditioning else None
        with torch.random.fork_rng([vae.device] if vae.device.type == "cuda" else []):
            torch.manual_seed(0)
            frames: Tensor = vae.decode(latents, time).sample
        return frames.float().clamp(-1, 1)


def fade(before: Tensor, after: Tensor) -> Tensor:
    """``after`` [b 3 f h w], its first frames coming out of ``before``, linearly over the length of that."""
    frames = before.shape[2]
    share = (torch.arange(1, frames + 1, device=after.device) / (frames + 1)).view(1, 1, -1, 1, 1)
    return torch.cat([torch.lerp(before, after[:, :, :frames], share), after[:, :, frames:]], dim=2)
