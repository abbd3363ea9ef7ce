"""diorama's codec as training has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from longvid.backends.diorama.codec import LATENT_FRAMES, Codec, Residual
from longvid.backends.diorama.folder import save

if TYPE_CHECKING:
    from longvid.backends.diorama.film import DioramaFilm


@dataclass(frozen=True, eq=False)
class DioramaCodecTrainee:
    film: DioramaFilm
    network: Codec
    latent_frames: int = LATENT_FRAMES

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        return tuple(module for module in self.network.modules() if isinstance(module, Residual))

    def reconstruct(
        self, network: nn.Module, frames: Tensor, noise: Tensor, heard: int
    ) -> tuple[Tensor, Tensor]:
        latents, decoded = network(frames, noise, heard)
        return latents, decoded

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        # All of it: an untrained codec has a mean and a deviation of its own, which are no parameters.
        save(self.film.weights, folder, {"codec.safetensors": {**self.network.state_dict(), **weights}})
