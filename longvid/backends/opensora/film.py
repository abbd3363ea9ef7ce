"""Open-Sora v1.2 loaded for one film: text, denoiser and codec behind the Protocols."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from longvid.backends import FilmSpec, Prompts, Runtime
from longvid.backends.opensora import weights
from longvid.backends.opensora.denoiser import OpenSoraDenoiser, OpenSoraText
from longvid.backends.opensora.prompts import Options, read_options
from longvid.backends.opensora.published import TEXT_ENCODER, TRANSFORMER, VAE
from longvid.backends.opensora.schedule import shift, shift_ratio
from longvid.backends.opensora.sizes import CHUNK_LATENTS, nominal_size
from longvid.backends.opensora.stdit3 import STDiT3, cast
from longvid.backends.opensora.t5 import T5, T5Encoder, weight_files
from longvid.backends.opensora.vae import OpenSoraCodec, VideoAutoencoder, decoding_dtype
from longvid.errors import UserError
from longvid.processes import RectifiedFlow

if TYPE_CHECKING:
    from longvid.backends.opensora import OpenSora


@dataclass(frozen=True)
class OpenSoraFilm:
    """``picture``: nominal (height, width) in pixels, which positions and times are scaled by."""

    backend: OpenSora
    spec: FilmSpec
    runtime: Runtime
    options: Options
    picture: tuple[int, int]
    process: RectifiedFlow = RectifiedFlow("clean - noise")

    @staticmethod
    def of(backend: OpenSora, spec: FilmSpec, runtime: Runtime) -> OpenSoraFilm:
        missing = backend.missing_files()
        if missing:
            raise UserError(
                f"{backend.name}: {missing[0]} is missing; `longvid models pull {backend.name}` fetches it"
            )
        return OpenSoraFilm(
            backend, spec, runtime, read_options(spec.options), nominal_size(*spec.size)
        )

    @cached_property
    def ratio(self) -> float:
        """R of the schedule; the window counts as full, with its clean chunk, from the first step on."""
        return shift_ratio(*self.picture, (self.spec.window + 1) * CHUNK_LATENTS)

    def schedule(self, level: Tensor) -> Tensor:
        return shift(level, self.ratio)

    def text_encoder(self) -> T5Encoder:
        folder = self.backend.part(TEXT_ENCODER)
        size = self.backend.transformer_size()
        return T5Encoder(
            T5(folder, "float32", self.runtime.device),
            self.options.scores,
            size.model_max_length,
            size.caption_channels,
            weights.fingerprint(weight_files(folder)),
        )

    def text(self, prompts: Prompts, negatives: Mapping[int, Prompts], mix: Tensor) -> OpenSoraText:
        checkpoint = weights.open_checkpoint(self.backend.part(TRANSFORMER))
        caption = checkpoint.tensors[weights.NULL_CAPTION]
        only = replace(checkpoint, tensors={weights.NULL_CAPTION: caption})
        ((_, null),) = weights.read(only)
        rows = self.backend.transformer_size().model_max_length
        return OpenSoraText.of(prompts, weights.with_rows(null.float(), rows), negatives, mix)

    def denoiser(self) -> OpenSoraDenoiser:
        with torch.device("meta"):
            network = cast(STDiT3(self.backend.transformer_size()), self.runtime.dtype)
        weights.load(network, weights.open_checkpoint(self.backend.part(TRANSFORMER)), self.runtime.device)
        network.eval().requires_grad_(False)
        if self.runtime.compile:
            for block in (*network.spatial_blocks, *network.temporal_blocks):
                block.compile()
        return OpenSoraDenoiser(network, float(self.spec.fps), self.picture, self.runtime.device)

    def codec(self) -> OpenSoraCodec:
        with torch.device("meta"):
            autoencoder = VideoAutoencoder(self.backend.vae_size())
        weights.load(autoencoder, weights.open_checkpoint(self.backend.part(VAE)), self.runtime.device)
        autoencoder.eval().requires_grad_(False)
        dtype = decoding_dtype(self.runtime.device, self.runtime.dtype)
        return OpenSoraCodec(autoencoder.place(self.runtime.device, dtype))

    @cached_property
    def fingerprint(self) -> str:
        files = [
            *weights.open_checkpoint(self.backend.part(TRANSFORMER)).files,
            *weights.open_checkpoint(self.backend.part(VAE)).files,
            *weight_files(self.backend.part(TEXT_ENCODER)),
        ]
        said = json.dumps([weights.fingerprint(files), asdict(self.options), self.picture])
        return hashlib.sha256(said.encode()).hexdigest()


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
