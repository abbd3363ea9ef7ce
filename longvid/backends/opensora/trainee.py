"""STDiT3 as training has it: its prompts come as embeddings, since their keys change with the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from longvid.backends.opensora.denoiser import OpenSoraText
from longvid.backends.opensora.folder import save
from longvid.backends.opensora.stdit3 import Reading, STDiT3

if TYPE_CHECKING:
    from longvid.backends.opensora.film import OpenSoraFilm


@dataclass(frozen=True, eq=False)
class OpenSoraTrainee:
    film: OpenSoraFilm
    network: STDiT3
    lora_targets: tuple[str, ...] = ("qkv", "proj", "q_linear", "kv_linear", "fc1", "fc2")

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        return tuple(block for pair in self.network.pairs() for block in pair)

    def predict(self, network: nn.Module, x: Tensor, t: Tensor, texts: Sequence[OpenSoraText]) -> Tensor:
        """The velocity clean - noise [b c f h w] in fp32."""
        reads = []
        for text in texts:
            unit_latents = x.shape[2] // len(text.mix)
            prompts = [prompt.to(x.device, non_blocking=True) for prompt in text.prompts]
            reads += [
                Reading(unit_latents * len(list(run)), tuple((prompts[p], share) for p, share in shares))
                for shares, run in groupby(text.mix)
            ]
        predicted: Tensor = network(x, 1000 * t, float(self.film.spec.fps), self.film.picture, reads)
        return predicted[:, : x.shape[1]]

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        save(self.film.backend, folder, weights)
