"""Prompts as the published pipelines encode them: cleaned alike, and one at a time."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longvid.backends import Prompts
from longvid.errors import UserError


def cleaned(prompt: str) -> str:
    """Text with its broken characters and HTML entities resolved, and single spaces (Wan, SkyReels-V2)."""
    import ftfy

    return " ".join(html.unescape(html.unescape(ftfy.fix_text(prompt))).split())


def tokenizer(folder: Path) -> Any:
    """The tokenizer that a folder holds. No code in it is run. Raises UserError where it cannot be read."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ImportError, LookupError, OSError, TypeError, ValueError) as error:
        raise UserError(f"{folder}: holds no tokenizer that can be read; pull or copy it again") from error


@dataclass(frozen=True, eq=False)
class UMT5Encoder:
    """The TextEncoder of Wan and SkyReels-V2: UMT5's last hidden states, zero behind a prompt's end.

    ``tokens``: the longest prompt's, its end mark among them; shorter ones are filled up to it.
    """

    network: nn.Module
    tokenizer: Any
    tokens: int
    device: torch.device

    def __call__(self, prompts: Sequence[str]) -> Prompts:
        """Embeddings [p n d] in fp32 on the CPU and mask [p n], n = ``tokens``."""
        encoded = [self._encode(prompt) for prompt in prompts]
        return Prompts(
            torch.cat([embedding for embedding, _ in encoded]), torch.cat([mask for _, mask in encoded])
        )

    def negative(self, prompt: str) -> Prompts:
        return self([prompt])

    def unread(self, prompt: str) -> str:
        ids = self.tokenizer(cleaned(prompt), verbose=False).input_ids
        rest: str = self.tokenizer.decode(ids[self.tokens - 1 :], skip_special_tokens=True)
        return rest if len(ids) > self.tokens else ""

    def _encode(self, prompt: str) -> tuple[Tensor, Tensor]:
        said = self.tokenizer(
            [cleaned(prompt)],
            padding="max_length",
            max_length=self.tokens,
            truncation=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            hidden = self.network(
                said.input_ids.to(self.device), said.attention_mask.to(self.device)
            ).last_hidden_state
        mask = said.attention_mask > 0
        embedding = hidden.float().cpu() * mask[..., None]
        return embedding, mask


@dataclass(frozen=True, eq=False)
class T5Encoder:
    """The TextEncoder of LTX-Video: T5's last hidden states, of a prompt that is not cleaned.

    ``tokens``: the longest prompt's, its end mark among them; shorter ones are filled up to it. T5 sees what
    they are filled with, as in the published pipeline; LTX-Video does not: the mask is for it.
    """

    network: nn.Module
    tokenizer: Any
    tokens: int
    device: torch.device

    def __call__(self, prompts: Sequence[str]) -> Prompts:
        """Embeddings [p n d] in fp32 on the CPU and mask [p n], n = ``tokens``."""
        encoded = [self._encode(prompt) for prompt in prompts]
        return Prompts(
            torch.cat([embedding for embedding, _ in encoded]), torch.cat([mask for _, mask in encoded])
        )

    def negative(self, prompt: str) -> Prompts:
        return self([prompt])

    def unread(self, prompt: str) -> str:
        ids = self.tokenizer(prompt, verbose=False).input_ids
        rest: str = self.tokenizer.decode(ids[self.tokens - 1 :], skip_special_tokens=True)
        return rest if len(ids) > self.tokens else ""

    def _encode(self, prompt: str) -> tuple[Tensor, Tensor]:
        said = self.tokenizer(
            [prompt], padding="max_length", max_length=self.tokens, truncation=True, return_tensors="pt"
        )
        with torch.inference_mode():
            hidden = self.network(said.input_ids.to(self.device)).last_hidden_state
        return hidden.float().cpu(), said.attention_mask > 0


@dataclass(frozen=True, eq=False)
class CLIPEncoder:
    """The TextEncoder of Stable Diffusion and ModelScope: CLIP's last hidden states (Radford et al. 2021).

    ``tokens``: of every prompt, padding and both end marks among them. The networks attend to all of them, so
    all count.
    """

    network: nn.Module
    tokenizer: Any
    tokens: int
    device: torch.device

    def __call__(self, prompts: Sequence[str]) -> Prompts:
        """Embeddings [p n d] in fp32 on the CPU and mask [p n], n = ``tokens``, all True."""
        embeddings = torch.cat([self._encode(prompt) for prompt in prompts])
        return Prompts(embeddings, torch.ones(embeddings.shape[:2], dtype=torch.bool))

    def negative(self, prompt: str) -> Prompts:
        return self([prompt])

    def unread(self, prompt: str) -> str:
        ids = self.tokenizer(prompt, verbose=False).input_ids
        rest: str = self.tokenizer.decode(ids[self.tokens - 1 : -1])
        return rest if len(ids) > self.tokens else ""

    def _encode(self, prompt: str) -> Tensor:
        ids = self.tokenizer(
            [prompt], padding="max_length", max_length=self.tokens, truncation=True, return_tensors="pt"
        ).input_ids
        with torch.inference_mode():
            hidden: Tensor = self.network(ids.to(self.device)).last_hidden_state
        return hidden.float().cpu()
