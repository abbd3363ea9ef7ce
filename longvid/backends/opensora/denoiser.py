"""STDiT3 behind the Denoiser and Text Protocols: each unit reads its own prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from longvid.backends import Prompts
from longvid.backends.opensora.stdit3 import PromptKeys, Reading, STDiT3

Shares = tuple[tuple[int, float], ...]


@dataclass(frozen=True, eq=False)
class OpenSoraText:
    """The window's prompts as tokens [n d], those that count and no padding, on the CPU in fp32.

    ``nulls``: what stands for each prompt without it. ``mix``: each unit's (prompt, share) of those it reads.
    """

    prompts: tuple[Tensor, ...]
    nulls: tuple[Tensor, ...]
    mix: tuple[Shares, ...]

    @staticmethod
    def of(prompts: Prompts, null: Tensor, negatives: Mapping[int, Prompts], mix: Tensor) -> OpenSoraText:
        """As `Film.text` has them. ``null`` [n d] is the null caption; under a prompt's own mask it stands
        for that prompt, as in Open-Sora v1.2. The null prompt itself is all of it."""

        def tokens(encoded: Prompts, row: int) -> Tensor:
            kept = encoded.embeddings[row][encoded.mask[row]]
            return kept if len(kept) else null

        nulls = []
        for row, mask in enumerate(prompts.mask):
            if row in negatives:
                nulls.append(tokens(negatives[row], 0))
            else:
                nulls.append(null[mask] if mask.any() else null)
        return OpenSoraText(
            tuple(tokens(prompts, row) for row in range(len(prompts.mask))),
            tuple(nulls),
            tuple(
                tuple((p, share) for p, share in enumerate(shares) if share > 0) for shares in mix.tolist()
            ),
        )

    def for_units(self, units: Sequence[int]) -> OpenSoraText:
        mix = [self.mix[unit] for unit in units]
        used = sorted({p for shares in mix for p, _ in shares})
        return OpenSoraText(
            tuple(self.prompts[p] for p in used),
            tuple(self.nulls[p] for p in used),
            tuple(tuple((used.index(p), share) for p, share in shares) for shares in mix),
        )

    def null(self) -> OpenSoraText:
        return replace(self, prompts=self.nulls)

    def single_prompts(self) -> list[tuple[OpenSoraText, list[float]]]:
        whole: tuple[Shares, ...] = (((0, 1.0),),) * len(self.mix)
        return [
            (OpenSoraText((prompt,), (null,), whole), [dict(shares).get(p, 0.0) for shares in self.mix])
            for p, (prompt, null) in enumerate(zip(self.prompts, self.nulls, strict=True))
        ]


class OpenSoraDenoiser:
    """The Denoiser over a network that lies on ``device``.

    ``fps``: frames a second of the film. ``picture``: (height, width) in pixels of the position scale.
    """

    def __init__(
        self, network: STDiT3, fps: float, picture: tuple[float, float], device: torch.device
    ) -> None:
        self.network = network
        self.fps = fps
        self.picture = picture
        self.device = device
        self._keys: list[dict[int, tuple[Tensor, PromptKeys]]] = [{}, {}]
        """Keys and values of the prompts of the last two calls, with guidance the prompts' and the nulls'."""

    def __call__(self, x: Tensor, t: Tensor, text: OpenSoraText) -> Tensor:
        """The velocity clean - noise [b c f h w] in fp32 at times t [b f] in [0, 1]."""
        keys = self._project(text.prompts)
        unit_latents = x.shape[2] // len(text.mix)
        # Neighbours that read the same are one run: fewer and larger attentions, and the same numbers.
        reads = [
            Reading(unit_latents * len(list(run)), tuple((keys[p], share) for p, share in shares))
            for shares, run in groupby(text.mix)
        ]
        predicted = self.network(x, 1000 * t, self.fps, self.picture, reads * len(x))
        velocity: Tensor = predicted[:, : x.shape[1]]
        return velocity

    def _project(self, prompts: Sequence[Tensor]) -> list[PromptKeys]:
        """Each prompt's keys and values; made once for as long as calls ask for them."""
        known = self._keys[0] | self._keys[1]
        now = {}
        for tokens in prompts:
            if id(tokens) not in known:
                known[id(tokens)] = tokens, self.network.project(tokens.to(self.device, non_blocking=True))
            now[id(tokens)] = known[id(tokens)]
        self._keys = [self._keys[1], now]
        return [now[id(tokens)][1] for tokens in prompts]
