"""The autoencoders of Wan 2.1 and 2.2 as a fold: decoded latent by latent, as diffusers decodes a whole film.

A run's first latent is one frame, every other one four; so the first chunk of n latents is 1 + 4 (n - 1)
frames. What the decoder's causal convolutions remember is gigabytes at full size, and follows from the
latents that it has seen last: these are the carry. Whoever goes on from a saved one decodes them once more,
and has the same features, to the bit where a kernel computes the same twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, unpatchify
from torch import Tensor, nn

from longvid.backends import Carry

SEEN = "latents"
"""The carry's one tensor: the last latents [b c f h w], as the network has them."""


@dataclass
class Memory:
    """What a decoder remembers behind the latents ``seen``: by convolution, as diffusers keeps it."""

    seen: Tensor | None = None
    features: list[Any] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class WanCodec:
    """``vae``: diffusers' AutoencoderKLWan, whose decoder is handed its memory; this holds for the versions
    that `longvid[models]` names. One decodes at a time.

    ``mean`` and ``std`` [1 c 1 1 1] are the latents' over the training set: the network sees them as 0 and 1.
    ``reach``: as many latents decide what the decoder remembers.
    """

    vae: Any
    mean: Tensor
    std: Tensor
    reach: int
    memory: Memory = field(default_factory=Memory)

    @staticmethod
    def of(vae: nn.Module) -> WanCodec:
        loaded: Any = vae
        mean, std = (
            torch.tensor(numbers, device=loaded.device, dtype=torch.float32).view(1, -1, 1, 1, 1)
            for numbers in (loaded.config.latents_mean, loaded.config.latents_std)
        )
        return WanCodec(loaded, mean, std, reach(loaded.decoder))

    def encode(self, video: Tensor) -> Tensor:
        """Latents [b c f h w] in fp32 of 1 + 4 (f - 1) frames [b 3 f h w] in [-1, 1]: the means."""
        latents: Tensor = self.vae.encode(video.to(self.vae.dtype)).latent_dist.mode()
        return (latents.float() - self.mean) / self.std

    def encode_picture(self, picture: Tensor) -> Tensor:
        return self.encode(picture[:, :, None])

    def decode(self, chunk: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        """Frames in fp32 of latents [b c l h w]; ``carry``: SEEN, at most ``reach`` of them."""
        seen = carry.get(SEEN)
        if seen is None:
            seen = chunk[:, :, :0]
        features = self._recall(seen.to(chunk))
        frames = self._decode(chunk, features)
        seen = torch.cat([seen.to(chunk), chunk], dim=2)[:, :, -self.reach :].clone()
        self.memory.seen, self.memory.features = seen, features
        return frames, {SEEN: seen}

    def flush(self, carry: Carry) -> Tensor | None:
        return None

    def _recall(self, seen: Tensor) -> list[Any]:
        """The decoder's memory behind these latents, made anew where the last chunk left another one."""
        known, remembered = self.memory.seen, self.memory.features
        self.memory.seen, self.memory.features = None, []  # what is stopped in the middle fits no latents
        if seen.shape[2] and known is not None and _same(known, seen):
            return remembered
        del remembered
        features: list[Any] = [None] * self.vae._cached_conv_counts["decoder"]
        if seen.shape[2]:
            self._decode(seen, features)
        return features

    def _decode(self, latents: Tensor, features: list[Any]) -> Tensor:
        """Frames of latents, by a decoder whose ``features`` change with each."""
        vae = self.vae
        scaled = (latents * self.std + self.mean).to(vae.dtype)
        shown = []
        for one in scaled.split(1, dim=2):  # all of it, since kernels depend on how many come at once
            first = features[0] is None
            latent = vae.post_quant_conv(one)
            shown.append(vae.decoder(latent, feat_cache=features, feat_idx=[0], first_chunk=first))
        frames = torch.cat(shown, dim=2)
        if vae.config.patch_size is not None:
            # diffusers leaves it untyped.
            frames = unpatchify(frames, patch_size=vae.config.patch_size)  # type: ignore[no-untyped-call]
        return frames.float().clamp(-1, 1)


def reach(decoder: nn.Module) -> int:
    """How many latents back a decoder's features look: two steps a convolution in time, each at its rate."""
    steps, rate = Fraction(0), 1
    for name, module in decoder.named_modules():  # in the order in which they compute
        if isinstance(module, WanCausalConv3d) and module.kernel_size[0] > 1:
            steps += Fraction(module.kernel_size[0] - 1, rate)
            if name.endswith("time_conv"):
                rate *= 2
    return math.ceil(steps) + 1


def _same(known: Tensor, seen: Tensor) -> bool:
    # The tensor itself, mostly: a saved one is another.
    itself = known.data_ptr() == seen.data_ptr() and known.shape == seen.shape
    return itself or torch.equal(known, seen)
