"""diorama's denoiser as training has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from einops import repeat
from torch import Tensor, nn
from torch.nn import functional as F

from longvid.backends.diorama.denoiser import Denoiser
from longvid.backends.diorama.folder import save
from longvid.guidance import PromptText

if TYPE_CHECKING:
    from longvid.backends.diorama.film import DioramaFilm


@dataclass(frozen=True, eq=False)
class DioramaTrainee:
    film: DioramaFilm
    network: Denoiser
    lora_targets: tuple[str, ...] = ("qkv", "out", "text_q", "text_kv", "text_out", "up", "down")

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        return tuple(self.network.blocks)

    def predict(self, network: nn.Module, x: Tensor, t: Tensor, texts: Sequence[PromptText]) -> Tensor:
        """The velocity noise - clean [b c f h w]."""
        prompts = max(len(text.prompts.embeddings) for text in texts)
        tokens, mixes = [], []
        for text in texts:
            # A prompt that no unit takes, where another sample has more.
            missing = prompts - len(text.prompts.embeddings)
            tokens.append(F.pad(text.prompts.embeddings, (0, 0, 0, 0, 0, missing)))
            mix = repeat(text.mix, "k p -> (k l) p", l=x.shape[2] // len(text.mix))
            mixes.append(F.pad(mix, (0, missing)))
        velocity: Tensor = network(x, t, torch.stack(tokens), torch.stack(mixes))
        return velocity

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        save(self.film.weights, folder, {"denoiser.safetensors": weights})
