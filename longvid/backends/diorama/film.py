"""diorama loaded for one film: text, denoiser and codec behind the Protocols."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import repeat
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from longvid.backends import Carry, Prompts, Runtime
from longvid.backends.diorama import FILES
from longvid.backends.diorama.codec import LATENT_FRAMES, Codec, ease
from longvid.backends.diorama.denoiser import Denoiser, DenoiserSize
from longvid.backends.diorama.text import AttributeEncoder, tokenize
from longvid.errors import UserError
from longvid.guidance import PromptText
from longvid.processes import RectifiedFlow


@dataclass(frozen=True)
class DioramaTextEncoder:
    network: AttributeEncoder

    @torch.inference_mode()
    def __call__(self, prompts: Sequence[str]) -> Prompts:
        tokens = torch.cat([self.network(tokenize([prompt])) for prompt in prompts])
        return Prompts(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))

    def negative(self, prompt: str) -> Prompts:
        return self([prompt])

    def unread(self, prompt: str) -> str:
        return ""


@dataclass(frozen=True)
class DioramaDenoiser:
    network: Denoiser
    dtype: torch.dtype

    def __call__(self, x: Tensor, t: Tensor, text: PromptText) -> Tensor:
        unit_latents = x.shape[2] // len(text.mix)
        mix = repeat(text.mix, "k p -> b (k l) p", b=len(x), l=unit_latents)
        tokens = text.prompts.embeddings.expand(len(x), -1, -1, -1)
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
            velocity: Tensor = self.network(x, t, tokens, mix)
        return velocity


@dataclass(frozen=True)
class DioramaCodec:
    network: Codec
    dtype: torch.dtype

    @torch.inference_mode()
    def encode(self, video: Tensor) -> Tensor:
        with torch.autocast(video.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.network.encode(video)

    def encode_picture(self, picture: Tensor) -> Tensor:
        return self.encode(repeat(picture, "b c h w -> b c f h w", f=LATENT_FRAMES))

    @torch.inference_mode()
    def decode(self, chunk: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        with torch.autocast(chunk.device.type, self.dtype, enabled=self.dtype != torch.float32):
            frames = self.network.decode(chunk, carry.get("latent"))
        return ease(frames, carry.get("frame")), {"latent": chunk[:, :, -1:], "frame": frames[:, :, -1:]}

    def flush(self, carry: Carry) -> Tensor | None:
        return None


@dataclass(frozen=True)
class DioramaFilm:
    weights: Path
    runtime: Runtime
    process: RectifiedFlow
    fingerprint: str

    @staticmethod
    def load(weights: Path, runtime: Runtime) -> DioramaFilm:
        digest = hashlib.sha256()
        for name in FILES:
            if not (weights / name).is_file():
                raise UserError(f"{weights}: no {name} there; a diorama folder holds {', '.join(FILES)}")
            digest.update(hashlib.sha256((weights / name).read_bytes()).digest())
        return DioramaFilm(weights, runtime, RectifiedFlow(), digest.hexdigest())

    def schedule(self, level: Tensor) -> Tensor:
        return level

    def text_encoder(self) -> DioramaTextEncoder:
        network = AttributeEncoder()
        network.load_state_dict(load_file(self.weights / "text.safetensors"))
        return DioramaTextEncoder(network.eval())

    def text(self, prompts: Prompts, negatives: Mapping[int, Prompts], mix: Tensor) -> PromptText:
        nulls = self.text_encoder()([""] * len(prompts.embeddings))
        return PromptText.of(prompts, nulls, negatives, mix).to(self.runtime.device)

    def denoiser(self) -> DioramaDenoiser:
        network = empty_denoiser(self.weights)
        network.load_state_dict(load_file(self.weights / "denoiser.safetensors"))
        if self.runtime.compile:
            for block in network.blocks:
                block.compile()
        return DioramaDenoiser(network.to(self.runtime.device).eval(), self.runtime.dtype)

    def codec(self) -> DioramaCodec:
        network = Codec()
        network.load_state_dict(load_file(self.weights / "codec.safetensors"))
        return DioramaCodec(network.to(self.runtime.device).eval(), self.runtime.dtype)


def empty_denoiser(weights: Path) -> Denoiser:
    """The network of the size that its weights' header says, untrained."""
    with safe_open(weights / "denoiser.safetensors", "pt") as file:
        return Denoiser(DenoiserSize.from_metadata(file.metadata()))


def check_weights(weights: Path) -> list[str]:
    """What is wrong with a folder of weights, a line for each tensor."""
    problems = []
    networks: tuple[Callable[[], nn.Module], ...] = (Codec, AttributeEncoder, lambda: empty_denoiser(weights))
    for name, network in zip(FILES, networks, strict=True):
        with torch.device("meta"):
            wanted = {key: list(value.shape) for key, value in network().state_dict().items()}
        with safe_open(weights / name, "pt") as file:
            found = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118  no mapping
        problems += [f"{name}: {key} is missing" for key in wanted.keys() - found.keys()]
        problems += [f"{name}: {key} is unexpected" for key in found.keys() - wanted.keys()]
        problems += [
            f"{name}: {key} has shape {found[key]}, not {wanted[key]}"
            for key in wanted.keys() & found.keys()
            if found[key] != wanted[key]
        ]
    return sorted(problems)
