"""A tiny random SkyReels-V2 (transformer and Wan VAE of diffusers) as a backend: a network that is not ours.

It takes a time per latent frame, and one text a sample, so it is evaluated once a prompt; its VAE is causal,
so a run's first chunk is shorter, and the carry holds the features that its convolutions remember.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import torch
from diffusers.models import AutoencoderKLWan, SkyReelsV2Transformer3DModel
from torch import Tensor

from longvid.backends import (
    RESIDENT,
    Carry,
    CodecPart,
    Denoiser,
    FilmSpec,
    Geometry,
    Prompts,
    Rung,
    Runtime,
)
from longvid.downloads import Download
from longvid.errors import UserError
from longvid.guidance import PromptText, per_prompt
from longvid.processes import RectifiedFlow
from tests.tiny import hashed

TOKENS, TEXT_WIDTH = 8, 16


GEOMETRY = Geometry(
    chunk_latents=2,
    chunk_frames=8,
    first_chunk_frames=5,
    channels=4,
    pixel_stride=8,
    window_units=3,
    steps=9,
    guidance=6.0,
    sizes=((48, 32),),
    any_size=True,
    fps=Fraction(24),
    fps_min=Fraction(24),
    fps_max=Fraction(24),
    output_width_px=48,
)


@dataclass(frozen=True)
class SkyReels:
    name: str = "tiny-skyreels-v2"
    geometry: Geometry = GEOMETRY
    licence: str = "none: its weights are random"
    folder: Path = Path(__file__).parent
    downloads: tuple[Download, ...] = ()

    def check_options(self, options: Mapping[str, Any]) -> None:
        for key in options:
            raise UserError(f"model_options.{key}: unknown; {self.name} has no options")

    def unknown_words(self, prompt: str) -> list[str]:
        return []

    def missing_files(self) -> list[str]:
        return []

    def check_weights(self) -> list[str]:
        return []

    def with_random_weights(self) -> SkyReels:
        return self

    def lora_layers(self) -> dict[str, tuple[int, int]]:
        return {}

    def rungs(self, spec: FilmSpec, value_bytes: int) -> list[Rung]:
        return [Rung(RESIDENT, None, "everything stays in memory")]

    def for_film(self, spec: FilmSpec, runtime: Runtime) -> SkyReelsFilm:
        return SkyReelsFilm(runtime.device, runtime.dtype)


@dataclass(frozen=True)
class SkyReelsFilm:
    device: torch.device
    dtype: torch.dtype
    process: RectifiedFlow = field(default_factory=RectifiedFlow)
    fingerprint: str = "0" * 64

    def schedule(self, level: Tensor) -> Tensor:
        return 5 * level / (1 + 4 * level)

    def text_encoder(self) -> HashEncoder:
        return HashEncoder()

    def text(self, prompts: Prompts, negatives: Mapping[int, Prompts], mix: Tensor) -> PromptText:
        nulls = HashEncoder()([""] * len(prompts.mask))
        return PromptText.of(prompts, nulls, negatives, mix)

    def denoiser(self) -> Denoiser:
        transformer = self._transformer

        def predict(x: Tensor, t: Tensor, text: PromptText) -> Tensor:
            (prediction,) = transformer(
                hidden_states=x.to(self.dtype),
                timestep=1000 * t,
                encoder_hidden_states=text.prompts.embeddings.to(self.dtype).expand(len(x), -1, -1),
                enable_diffusion_forcing=True,
                return_dict=False,
            )
            return prediction

        return per_prompt(predict)

    def codec(self) -> WanCodec:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            vae = AutoencoderKLWan(base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
        return WanCodec(vae.eval().requires_grad_(False).to(self.device))

    def trainee(self, fresh: int | None = None) -> NoReturn:
        raise UserError("this network is random, and stays so")

    def codec_trainee(self, part: CodecPart, fresh: int | None = None) -> NoReturn:
        raise UserError("this codec is random, and stays so")

    @cached_property
    def _transformer(self) -> SkyReelsV2Transformer3DModel:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            transformer = SkyReelsV2Transformer3DModel(
                num_attention_heads=2,
                attention_head_dim=12,
                in_channels=4,
                out_channels=4,
                text_dim=TEXT_WIDTH,
                freq_dim=32,
                ffn_dim=32,
                num_layers=2,
                rope_max_seq_len=32,
            )
        return transformer.eval().requires_grad_(False).to(self.device, self.dtype)


@dataclass(frozen=True)
class HashEncoder:
    def __call__(self, prompts: Sequence[str]) -> Prompts:
        embeddings = torch.zeros(len(prompts), TOKENS, TEXT_WIDTH)
        mask = torch.zeros(len(prompts), TOKENS, dtype=torch.bool)
        for p, prompt in enumerate(prompts):
            for n, word in enumerate(prompt.split()[:TOKENS]):
                embeddings[p, n], mask[p, n] = hashed(word, TEXT_WIDTH), True
        return Prompts(embeddings, mask)

    def negative(self, prompt: str) -> Prompts:
        return self([prompt])

    def unread(self, prompt: str) -> str:
        return ""


@dataclass(frozen=True)
class WanCodec:
    vae: AutoencoderKLWan

    def encode(self, video: Tensor) -> Tensor:
        return self.vae.encode(video).latent_dist.mode()

    def encode_picture(self, picture: Tensor) -> Tensor:
        return self.encode(picture[:, :, None])

    def decode(self, chunk: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        vae = self.vae
        vae.clear_cache()
        for slot, features in carry.items():
            # An upsampler that has met only one latent remembers a word: here a tensor of no elements.
            vae._feat_map[int(slot)] = features if features.numel() else "Rep"
        latents = vae.post_quant_conv(chunk)
        frames = []
        for i in range(chunk.shape[2]):
            vae._conv_idx = [0]
            first = i == 0 and not carry
            frames.append(
                vae.decoder(
                    latents[:, :, i : i + 1],
                    feat_cache=vae._feat_map,
                    feat_idx=vae._conv_idx,
                    first_chunk=first,
                )
            )
        carry = {
            str(slot): torch.zeros(0) if features == "Rep" else features
            for slot, features in enumerate(vae._feat_map)
            if features is not None
        }
        vae.clear_cache()
        return torch.cat(frames, dim=2).clamp(-1, 1), carry

    def flush(self, carry: Carry) -> Tensor | None:
        return None
