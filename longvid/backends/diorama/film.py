"""diorama loaded for one film: text, denoiser and codec behind the Protocols."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from einops import repeat
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from longvid.backends import Carry, CodecPart, Lora, Prompts, Runtime
from longvid.backends.checkpoints import header
from longvid.backends.diorama import FILES, NAME
from longvid.backends.diorama.captions import WORD_IDS, words
from longvid.backends.diorama.codec import LATENT_FRAMES, Before, Codec, ease
from longvid.backends.diorama.codec_trainee import DioramaCodecTrainee
from longvid.backends.diorama.denoiser import Denoiser, DenoiserSize
from longvid.backends.diorama.text import MAX_WORDS, AttributeEncoder, tokenize
from longvid.backends.diorama.trainee import DioramaTrainee
from longvid.errors import UserError
from longvid.guidance import PromptText
from longvid.lora import adapting, layers
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
        return " ".join([word for word in words(prompt) if word in WORD_IDS][MAX_WORDS:])


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
        before = Before(carry["frame"], carry["change"]) if carry else None
        eased, last = ease(frames, before)
        return eased, {"latent": chunk[:, :, -1:], **last._asdict()}

    def flush(self, carry: Carry) -> Tensor | None:
        return None


@dataclass(frozen=True)
class DioramaFilm:
    weights: Path
    runtime: Runtime
    process: RectifiedFlow
    fingerprint: str
    loras: tuple[Lora, ...] = ()

    @staticmethod
    def load(weights: Path, runtime: Runtime, loras: tuple[Lora, ...] = ()) -> DioramaFilm:
        digest = hashlib.sha256()
        for name in FILES:
            if not (weights / name).is_file():
                raise UserError(f"{weights}: no {name} there; a diorama folder holds {', '.join(FILES)}")
            digest.update(hashlib.sha256((weights / name).read_bytes()).digest())
        return DioramaFilm(weights, runtime, RectifiedFlow(), digest.hexdigest(), loras)

    def schedule(self, level: Tensor) -> Tensor:
        return level

    def text_encoder(self) -> DioramaTextEncoder:
        network = AttributeEncoder()
        fill(network, self.weights / "text.safetensors")
        return DioramaTextEncoder(network.eval())

    def text(self, prompts: Prompts, negatives: Mapping[int, Prompts], mix: Tensor) -> PromptText:
        count, null = len(prompts.mask), self.null
        nulls = Prompts(null.embeddings.expand(count, -1, -1), null.mask.expand(count, -1))
        return PromptText.of(prompts, nulls, negatives, mix).to(self.runtime.device)

    @cached_property
    def null(self) -> Prompts:
        """The null prompt, once: training asks for a text at every step."""
        return self.text_encoder()([""])

    def denoiser(self) -> DioramaDenoiser:
        network = self._network()
        if self.runtime.compile:
            for block in network.blocks:
                block.compile()
        return DioramaDenoiser(network.to(self.runtime.device).eval(), self.runtime.dtype)

    def trainee(self, fresh: int | None = None) -> DioramaTrainee:
        if fresh is None:
            network = self._network()
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(fresh)
                network = empty_denoiser(self.weights)
        return DioramaTrainee(self, network.to(self.runtime.device).train())

    def codec_trainee(self, part: CodecPart, fresh: int | None = None) -> DioramaCodecTrainee:
        network = self._codec()
        if fresh is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(fresh)
                untrained = Codec()
            if part == "decoder":
                network.decoder, network.before = untrained.decoder, untrained.before
            else:
                network = untrained
        network.encoder.requires_grad_(part == "codec")
        # As its gradients come, or DDP has to turn each of them.
        network.to(self.runtime.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return DioramaCodecTrainee(self, network.train())

    def _network(self) -> Denoiser:
        """The denoiser with its weights, and what LoRAs make of them."""
        network = empty_denoiser(self.weights)
        fill(network, self.weights / "denoiser.safetensors", adapting(self.loras, layers(network), NAME))
        return network

    def codec(self) -> DioramaCodec:
        return DioramaCodec(self._codec().to(self.runtime.device).eval(), self.runtime.dtype)

    def _codec(self) -> Codec:
        network = Codec()
        fill(network, self.weights / "codec.safetensors")
        return network


def fill(
    network: nn.Module, file: Path, adapted: Callable[[str, Tensor], Tensor] = lambda _, weight: weight
) -> None:
    """Give a network the weights of a file, each as it is ``adapted``. Raises UserError for another's."""
    try:
        network.load_state_dict({name: adapted(name, weight) for name, weight in load_file(file).items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        problems = [problem for problem in check_weights(file.parent) if problem.startswith(file.name)]
        reason = problems[0] if problems else f"{file.name} cannot be loaded ({error})"
        raise UserError(
            f"{file.parent}: {reason}; train it anew with this longvid, whose diorama may have changed"
        ) from error


def empty_denoiser(weights: Path) -> Denoiser:
    """The network of the size that its weights' header says, untrained. Raises UserError for none."""
    file = weights / "denoiser.safetensors"
    try:
        with safe_open(file, "pt") as opened:
            return Denoiser(DenoiserSize.from_metadata(opened.metadata()))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file}: does not begin with a denoiser's size ({error}); copy it again") from error


def linear_layers(weights: Path) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of the denoiser's linear layers by name."""
    with torch.device("meta"):
        return layers(empty_denoiser(weights))


def check_weights(weights: Path) -> list[str]:
    """What is wrong with a folder of weights, a line for each tensor. Raises UserError for a file that cannot
    be read."""
    problems = []
    networks: tuple[Callable[[], nn.Module], ...] = (Codec, AttributeEncoder, lambda: empty_denoiser(weights))
    for name, network in zip(FILES, networks, strict=True):
        with torch.device("meta"):
            wanted = {key: tuple(value.shape) for key, value in network().state_dict().items()}
        found = {key: stored.shape for key, stored in header(weights / name).items()}
        problems += [f"{name}: {key} is missing" for key in wanted.keys() - found.keys()]
        problems += [f"{name}: {key} is unexpected" for key in found.keys() - wanted.keys()]
        problems += [
            f"{name}: {key} has shape {list(found[key])}, not {list(wanted[key])}"
            for key in wanted.keys() & found.keys()
            if found[key] != wanted[key]
        ]
    return sorted(problems)
