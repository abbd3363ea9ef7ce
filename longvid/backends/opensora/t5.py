"""Open-Sora's text encoder: T5 v1.1-XXL's encoder half, each prompt encoded alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from longvid.backends import Prompts
from longvid.backends.opensora import embeddings, weights
from longvid.backends.opensora.config import T5_SIZES, read
from longvid.backends.opensora.prompts import VOCABULARY, Scores, prepare, tokenizer
from longvid.errors import UserError

if TYPE_CHECKING:
    from transformers import T5Config

Precision = Literal["float32", "bfloat16", "8bit", "4bit"]

SHARED, EMBEDDED = "shared.weight", "encoder.embed_tokens.weight"
"""The word embedding's two names; files have either or both."""


@dataclass(frozen=True)
class T5:
    """T5's encoder in a local folder: loaded at the first prompt, freed with this object.

    ``folder`` holds ``config.json``, ``spiece.model`` and the weights in fp32. ``precision`` other than
    "float32", Open-Sora v1.2's, changes the numbers; "8bit" and "4bit" need bitsandbytes.
    """

    folder: Path
    precision: Precision
    device: torch.device

    @cached_property
    def network(self) -> nn.Module:
        """Raises UserError where the folder holds no T5, or a package is missing."""
        return load(self.folder, self.precision, self.device)

    @torch.inference_mode()
    def encode(self, tokens: Sequence[int]) -> Tensor:
        """The last hidden state [n d], fp32 on the CPU, of n tokens.

        Padding would not change it: positions are relative, and padding takes no part in the attention.
        """
        ids = torch.tensor([tokens], device=self.device)
        output = self.network(input_ids=ids, attention_mask=torch.ones_like(ids))
        hidden: Tensor = output.last_hidden_state[0]
        return hidden.float().cpu()


@dataclass(frozen=True)
class T5Encoder:
    """Prompts -> embeddings, by way of the disk: T5 is loaded only for what was never encoded before.

    ``max_length``: tokens of a prompt at most, the one that ends it included. ``width``: d of the embeddings,
    the transformer's ``caption_channels``. ``fingerprint`` stands for T5's weights in the cache's keys.
    """

    t5: T5
    scores: Scores
    max_length: int
    width: int
    fingerprint: str

    def __call__(self, prompts: Sequence[str]) -> Prompts:
        """Embeddings [p n d] in fp32 on the CPU and mask [p n], n = max_length; zero behind the last token.

        The null prompt "" has no token: what stands for it is the transformer's own. Raises UserError where
        T5 is needed and cannot be loaded.
        """
        hidden = torch.zeros(len(prompts), self.max_length, self.width)
        mask = torch.zeros(len(prompts), self.max_length, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            if prompt:
                embedding = self.embed(prompt)
                hidden[row, : len(embedding)] = embedding
                mask[row, : len(embedding)] = True
        return Prompts(hidden, mask)

    def embed(self, prompt: str) -> Tensor:
        """One prompt's embedding [n d], its valid tokens only."""
        text = prepare(prompt, self.scores)
        key = embeddings.key(self.fingerprint, self.t5.precision, self.max_length, text)
        embedding = embeddings.read(key)
        if embedding is None:
            embedding = self.t5.encode(self.tokens(text))
            if embedding.shape[1] != self.width:
                raise UserError(
                    f"{self.t5.folder}: its embeddings are {embedding.shape[1]} wide; "
                    f"the transformer reads {self.width}"
                )
            embeddings.write(key, embedding)
        return embedding

    def tokens(self, text: str) -> list[int]:
        """T5's tokens of a prepared prompt, cut to max_length, with the one that ends it."""
        vocabulary = tokenizer(self.t5.folder / VOCABULARY)
        ids: list[int] = vocabulary.encode(text)
        return [*ids[: self.max_length - 1], vocabulary.eos_id()]

    def unread(self, prompt: str) -> str:
        """The end of a prepared prompt that is past max_length tokens, and is not read; mostly ""."""
        vocabulary = tokenizer(self.t5.folder / VOCABULARY)
        ids = vocabulary.encode(prepare(prompt, self.scores))
        rest: str = vocabulary.decode(ids[self.max_length - 1 :])
        return rest

    def negative(self, prompt: str) -> Prompts:
        """As a prompt, without scores: they are what a film shall have."""
        return replace(self, scores=Scores(aesthetic=None))([prompt])


def load(folder: Path, precision: Precision, device: torch.device) -> nn.Module:
    """T5's encoder from a folder, on the device. Nothing in the folder is run, and nothing is downloaded.

    In fp32 on the CPU the weights stay in their files until they are read, so they are in memory once.
    """
    if find_spec("transformers") is None:
        raise UserError("Open-Sora's text encoder needs transformers; pip install 'longvid[models]'")
    from transformers import T5EncoderModel

    size = t5_size(folder / "config.json")
    if (pieces := tokenizer(folder / VOCABULARY).vocab_size()) > size.vocab_size:
        raise UserError(f"{folder}: {VOCABULARY} has {pieces} pieces; config.json says {size.vocab_size}")
    with torch.device("meta"):
        network: nn.Module = T5EncoderModel(size)
    tensors: dict[str, Any] = dict(weights.read(weights.open_checkpoint(folder)))
    tensors[EMBEDDED] = tensors[SHARED] = tensors.get(SHARED, tensors.get(EMBEDDED))
    needed = {name: parameter.shape for name, parameter in network.state_dict().items()}
    for name, shape in needed.items():
        if tensors.get(name) is None:
            raise UserError(f"{folder}: its weights lack {name}; a part may be missing, copy it again")
        if tensors[name].shape != shape:
            found, expected = list(tensors[name].shape), list(shape)
            raise UserError(f"{folder}: {name} is {found}, config.json makes it {expected}")
    tensors = {name: tensors[name] for name in needed}  # a whole T5 has a decoder too
    if precision in ("8bit", "4bit"):
        return _quantized(size, tensors, precision, device)
    network.load_state_dict(tensors, assign=True)
    network.to(device, getattr(torch, precision))
    return network.eval().requires_grad_(False)


def t5_size(file: Path) -> T5Config:
    """The sizes in a T5's ``config.json``; nothing else of it is heeded. Raises UserError."""
    from transformers import T5Config

    said = read(file)
    for name, only in (("model_type", "t5"), ("feed_forward_proj", "gated-gelu")):
        if said.get(name) != only:
            raise UserError(f"{file}: {name} is {said.get(name)!r}; Open-Sora's T5 v1.1 has {only!r}")
    sizes = {name: said.get(name, default) for name, default in T5_SIZES.items()}
    for name, value in sizes.items():
        if type(value) is not int or value < 1:
            raise UserError(f"{file}: {name} is {value!r}; the published one is {T5_SIZES[name]}")
    size = T5Config(**sizes, feed_forward_proj="gated-gelu")
    size._attn_implementation = "eager"  # as Open-Sora v1.2 runs it
    return size


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold the weights. Raises UserError where there is none."""
    return weights.open_checkpoint(folder).files


def _quantized(
    size: T5Config, tensors: dict[str, Tensor], precision: Precision, device: torch.device
) -> nn.Module:
    """The encoder with its linear layers' weights in 8 or 4 bit, the rest in bf16: fp16 overflows in T5."""
    if find_spec("bitsandbytes") is None:
        raise UserError(
            f"model_options.text_encoder: {precision} needs bitsandbytes; pip install bitsandbytes"
        )
    from transformers import T5EncoderModel
    from transformers.utils.logging import (
        disable_progress_bar,
        enable_progress_bar,
        is_progress_bar_enabled,
    )

    # It says at every matrix product that it rounds its input.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    rounding: dict[str, Any] = {"quant_method": "bitsandbytes", f"load_in_{precision}": True}
    if precision == "4bit":
        rounding |= {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}
    shown = is_progress_bar_enabled()
    disable_progress_bar()  # type: ignore[no-untyped-call]  # untyped there; a render has its own bar
    try:
        network: nn.Module = T5EncoderModel.from_pretrained(
            None,
            config=size,
            state_dict=tensors,
            quantization_config=rounding,
            device_map={"": device},
            dtype=torch.bfloat16,
        )
    finally:
        if shown:
            enable_progress_bar()  # type: ignore[no-untyped-call]  # untyped there
    return network.eval().requires_grad_(False)
