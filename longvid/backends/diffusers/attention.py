"""Each frame keeps to its own prompt, in one evaluation of a network that was made for one text a sample.

Prompts reach the networks of diffusers by cross-attention alone, and there a frame's tokens ask on their own:
o = sum of w_i CA(x, y_i) over the prompts y_i of that frame, so that a switch is exact at a chunk's border
and a blend mixes what is heard. Where a window has one prompt the network is untouched, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from longvid.backends import Prompts
from longvid.guidance import PromptText


@dataclass(frozen=True)
class Run:
    """So many frames in a row that hear the same: (prompt, share) of each."""

    frames: int
    shares: tuple[tuple[int, float], ...]


@dataclass(frozen=True, eq=False)
class Heard:
    """What blocks hand on to their cross-attention in the place of tokens.

    ``tokens`` [b (p n) d]: each sample's ``prompts`` side by side; or [(b f) (p n) d], the same for every
    frame of it. ``runs``: of each sample, all of as many frames.
    """

    tokens: Tensor
    prompts: int
    runs: tuple[tuple[Run, ...], ...]


class FrameAttention:
    """The cross-attention ``attn2`` of ``blocks``, which are told ``encoder_hidden_states``, frame by frame.

        frames = FrameAttention(network.blocks)
        with frames.hearing([text], x.shape[2]) as prompts:
            predict(network, x, t, prompts)

    What is heard becomes an argument of the blocks, so that a block that is computed again for its gradients
    hears the same.
    """

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        self._heard: tuple[int, tuple[tuple[Run, ...], ...]] | None = None
        for block in blocks:
            attention: Any = block.attn2
            attention.set_processor(ByFrame(attention.processor))
            block.register_forward_pre_hook(self._tell, with_kwargs=True)

    @contextmanager
    def hearing(self, texts: Sequence[PromptText], frames: int) -> Iterator[Prompts]:
        """Yields what the network is to be given as prompts: embeddings [b (p n) d], mask [b (p n)].

        ``texts``: one a sample, over the units of its ``frames`` latents.
        """
        used = [text.for_units(range(len(text.mix))) for text in texts]  # without prompts that no unit reads
        runs = tuple(tuple(runs_of(text, frames)) for text in used)
        most = max(len(text.prompts.mask) for text in used)
        self._heard = (most, runs) if most > 1 else None
        try:
            yield Prompts(
                torch.stack([_in_a_row(text.prompts.embeddings, most) for text in used]),
                torch.stack([_in_a_row(text.prompts.mask, most) for text in used]),
            )
        finally:
            self._heard = None

    def _tell(
        self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if self._heard is None:
            return None
        if "encoder_hidden_states" in kwargs:
            heard = Heard(kwargs["encoder_hidden_states"], *self._heard)
            return args, {**kwargs, "encoder_hidden_states": heard}
        hidden, tokens, *others = args
        return (hidden, Heard(tokens, *self._heard), *others), kwargs


@dataclass(frozen=True, eq=False)
class ByFrame:
    """An attention processor of diffusers: ``plain`` for each run of frames and each prompt that it hears."""

    plain: Any

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Heard | Tensor | None = None,
        attention_mask: Tensor | None = None,
        *others: Any,
        **named: Any,
    ) -> Tensor:
        """hidden_states [b (f s) d] or [(b f) s d]; attention_mask [b 1 (p n)], added to the scores."""
        heard = encoder_hidden_states
        attend = self._by_frame if isinstance(heard, Heard) else self.plain
        attended: Tensor = attend(attn, hidden_states, heard, attention_mask, *others, **named)
        return attended

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # or every place of a switch would be compiled
    def _by_frame(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        heard: Heard,
        attention_mask: Tensor | None,
        *others: Any,
        **named: Any,
    ) -> Tensor:
        samples, count = len(heard.runs), sum(run.frames for run in heard.runs[0])
        frames = hidden_states.reshape(samples, count, -1, hidden_states.shape[-1])
        # A UNet repeats a sample's tokens for each of its frames.
        tokens = heard.tokens[:: len(heard.tokens) // samples].chunk(heard.prompts, dim=1)
        masks = None if attention_mask is None else attention_mask.chunk(heard.prompts, dim=-1)

        def attend(part: Tensor, sample: int, prompt: int) -> Tensor:
            """What these frames [f s d] of a sample make of one of its prompts: [(f s) d]."""
            mask = None if masks is None else masks[prompt][sample, None]
            told = part.flatten(0, 1)[None], tokens[prompt][sample, None], mask
            attended: Tensor = self.plain(attn, *told, *others, **named)
            return attended[0]

        outputs = []
        for sample, runs in enumerate(heard.runs):
            parts = frames[sample].split([run.frames for run in runs])
            for run, part in zip(runs, parts, strict=True):
                said = [attend(part, sample, prompt) for prompt, _ in run.shares]
                if len(said) > 1:
                    shares = (share for _, share in run.shares)
                    said = [share * each for share, each in zip(shares, said, strict=True)]
                outputs.append(torch.stack(said).sum(0))
        return torch.cat(outputs).reshape(hidden_states.shape)


def runs_of(text: PromptText, frames: int) -> Iterator[Run]:
    """The prompts of a window's ``frames`` latents, which are its units in order, of equal length."""
    unit = frames // len(text.mix)
    heard = (tuple((p, share) for p, share in enumerate(row) if share > 0) for row in text.mix.tolist())
    for shares, units in groupby(heard):
        yield Run(unit * len(list(units)), shares)


def _in_a_row(rows: Tensor, count: int) -> Tensor:
    """[p n ...] as [(count n) ...]: what is missing is zero, and heard by no frame."""
    missing = rows.new_zeros(count - len(rows), *rows.shape[1:])
    return torch.cat([rows, missing]).flatten(0, 1)
