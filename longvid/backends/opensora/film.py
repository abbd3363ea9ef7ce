"""Open-Sora v1.2 loaded for one film: text, denoiser and codec behind the Protocols."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import Tensor, nn

from longvid.backends import CodecPart, FilmSpec, Prompts, Runtime, checkpoints, random_weights
from longvid.backends.flow_shift import shift
from longvid.backends.opensora import weights
from longvid.backends.opensora.config import TransformerSize
from longvid.backends.opensora.denoiser import OpenSoraDenoiser, OpenSoraText
from longvid.backends.opensora.memory import Holding, holding, text_on_card
from longvid.backends.opensora.prompts import Options, read_options
from longvid.backends.opensora.published import TEXT_ENCODER, TRANSFORMER, VAE
from longvid.backends.opensora.schedule import shift_ratio
from longvid.backends.opensora.sizes import CHUNK_LATENTS, nominal_size
from longvid.backends.opensora.stdit3 import STDiT3, cast
from longvid.backends.opensora.streaming import VisitingCodec, stream_blocks
from longvid.backends.opensora.t5 import T5, Precision, T5Encoder, weight_files
from longvid.backends.opensora.trainee import OpenSoraTrainee
from longvid.backends.opensora.vae import OpenSoraCodec, VideoAutoencoder, decoding_dtype
from longvid.backends.random_weights import RandomEncoder
from longvid.errors import UserError
from longvid.lora import adapting, layers
from longvid.processes import RectifiedFlow

if TYPE_CHECKING:
    from longvid.backends.opensora import OpenSora
    from longvid.lora import Adapt


PROCESS = RectifiedFlow("clean - noise")


@dataclass(frozen=True)
class OpenSoraFilm:
    """``picture``: nominal (height, width) in pixels, which positions and times are scaled by."""

    backend: OpenSora
    spec: FilmSpec
    runtime: Runtime
    options: Options
    picture: tuple[int, int]
    process: RectifiedFlow = PROCESS

    @staticmethod
    def of(backend: OpenSora, spec: FilmSpec, runtime: Runtime) -> OpenSoraFilm:
        missing = backend.missing_files()
        if missing:
            raise UserError(
                f"{backend.name}: {missing[0]} is missing; `longvid models pull {backend.name}` fetches it"
            )
        return OpenSoraFilm(backend, spec, runtime, read_options(spec.options), nominal_size(*spec.size))

    @property
    def held(self) -> Holding:
        return holding(self.runtime.rung)

    @cached_property
    def ratio(self) -> float:
        """R of the schedule; the window counts as full, with its clean chunk, from the first step on."""
        return shift_ratio(*self.picture, (self.spec.window + 1) * CHUNK_LATENTS)

    def schedule(self, level: Tensor) -> Tensor:
        return shift(level, self.ratio)

    def text_encoder(self) -> T5Encoder | RandomEncoder:
        folder = self.backend.part(TEXT_ENCODER)
        size = self.backend.transformer_size()
        if self.backend.random:
            return RandomEncoder(size.model_max_length, size.caption_channels)
        choice = self.options.text_encoder
        precision: Precision = choice if choice in ("8bit", "4bit") else "float32"
        device = self.runtime.device if text_on_card(self.held, choice) else torch.device("cpu")
        return T5Encoder(
            T5(folder, precision, device),
            self.options.scores,
            size.model_max_length,
            size.caption_channels,
            checkpoints.fingerprint(weight_files(folder)),
        )

    def text(self, prompts: Prompts, negatives: Mapping[int, Prompts], mix: Tensor) -> OpenSoraText:
        return OpenSoraText.of(prompts, self.null, negatives, mix)

    @cached_property
    def null(self) -> Tensor:
        """The null caption [n d] in fp32, read once: training asks for a text at every step."""
        size = self.backend.transformer_size()
        rows = size.model_max_length
        if self.backend.random:
            return random_weights.embedding("", rows, size.caption_channels)
        checkpoint = weights.open_checkpoint(self.backend.part(TRANSFORMER))
        caption = checkpoint.tensors[weights.NULL_CAPTION]
        only = replace(checkpoint, tensors={weights.NULL_CAPTION: caption})
        ((_, null),) = weights.read(only)
        return weights.with_rows(null.float(), rows)

    def denoiser(self) -> OpenSoraDenoiser:
        device = self.runtime.device
        with torch.device("meta"):
            network = cast(STDiT3(self.backend.transformer_size()), self.runtime.dtype)
        adapted = adapting(self.spec.loras, layers(network), self.backend.name)
        self._load(network, TRANSFORMER, device if self.held.blocks_stay else torch.device("cpu"), adapted)
        network.eval().requires_grad_(False)
        if self.runtime.compile:
            for block in (*network.spatial_blocks, *network.temporal_blocks):
                block.compile()
        if not self.held.blocks_stay:
            stream_blocks(network, device)
        return OpenSoraDenoiser(network, float(self.spec.fps), self.picture, device)

    def trainee(self, fresh: int | None = None) -> OpenSoraTrainee:
        if fresh is None:
            with torch.device("meta"):
                network = STDiT3(self.backend.transformer_size())
            adapted = adapting(self.spec.loras, layers(network), self.backend.name)
            self._load(network, TRANSFORMER, self.runtime.device, adapted)
        else:
            with torch.random.fork_rng(devices=[]):  # on the CPU, so that a seed means the same anywhere
                torch.manual_seed(fresh)
                network = STDiT3(self.backend.transformer_size()).to(self.runtime.device)
        network.train().requires_grad_(True)
        network.rope.requires_grad_(False)  # Published, and not trained at its own training either.
        return OpenSoraTrainee(self, network)

    def codec_trainee(self, part: CodecPart, fresh: int | None = None) -> NoReturn:
        raise UserError(
            f"--train {part}: {self.backend.name}'s autoencoder is not trained here; train the denoiser"
        )

    def codec(self) -> OpenSoraCodec | VisitingCodec:
        device = self.runtime.device
        home = device if self.held.vae_stays else torch.device("cpu")
        with torch.device("meta"):
            autoencoder = VideoAutoencoder(self.backend.vae_size())
        self._load(autoencoder, VAE, home)
        autoencoder.eval().requires_grad_(False)
        autoencoder.place(home, decoding_dtype(device, self.runtime.dtype))
        codec = OpenSoraCodec(autoencoder, self.held.tile_cells)
        if self.held.vae_stays:
            return codec
        autoencoder.micro_batch_size = 1
        return VisitingCodec.of(codec, device)

    def _load(
        self, network: nn.Module, part: str, device: torch.device, change: Adapt = weights.as_it_is
    ) -> None:
        """Give a network on the meta device its weights, on ``device``, each as ``change`` makes it."""
        if self.backend.random:
            random_weights.fill(network, device)
            with torch.no_grad():
                for name, weight in network.named_parameters():
                    weight.copy_(change(name, weight))
        else:
            weights.load(network, weights.open_checkpoint(self.backend.part(part)), device, change)

    @cached_property
    def fingerprint(self) -> str:
        if self.backend.random:
            sizes = asdict(self.backend.transformer_size()), asdict(self.backend.vae_size())
            said = json.dumps(["random", sizes, asdict(self.options), self.picture])
            return hashlib.sha256(said.encode()).hexdigest()
        files = [
            *weights.open_checkpoint(self.backend.part(TRANSFORMER)).files,
            *weights.open_checkpoint(self.backend.part(VAE)).files,
            *weight_files(self.backend.part(TEXT_ENCODER)),
        ]
        said = json.dumps([checkpoints.fingerprint(files), asdict(self.options), self.picture])
        return hashlib.sha256(said.encode()).hexdigest()


def linear_layers(size: TransformerSize) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of the transformer's linear layers by name."""
    with torch.device("meta"):
        return layers(STDiT3(size))


def check_weights(backend: OpenSora) -> list[str]:
    """What is wrong with the weights of each part, a line a tensor."""
    networks: dict[str, nn.Module] = {}
    with torch.device("meta"):
        networks[TRANSFORMER] = STDiT3(backend.transformer_size())
        networks[VAE] = VideoAutoencoder(backend.vae_size())
    return [
        f"{part}: {line}"
        for part, network in networks.items()
        for line in weights.check(network, weights.open_checkpoint(backend.part(part))).lines()
    ]
