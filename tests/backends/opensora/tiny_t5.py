"""A tiny random T5 with its own small vocabulary, in the published folder's layout."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

Layout = Literal["safetensors", "safetensors shards", "pickle", "pickle shards"]

SENTENCES = (
    "a red boat on a calm sea at dawn, soft light, gentle waves and a small island far away.",
    "a city street at night in heavy rain; neon signs glow over the wet road, people hurry home.",
    "a drone camera circles around a beautiful historic church built on a rocky coast.",
    "an old man walks slowly through a quiet forest in autumn while yellow leaves fall.",
    "a rocket rises into the clear blue sky; smoke drifts across the desert (24 fps, 1080p)!",
    "aesthetic score: 6.5. motion score: 5.0. camera motion: pan right, tilt up, zoom in, static.",
    "is it \"now\" or 'later'? 0 1 2 3 4 5 6 7 8 9 % $ + = - café naïve url jump quick vex why",
)


def write_tiny_t5(folder: Path, d_model: int = 24, layout: Layout = "safetensors") -> None:
    """Fill ``folder`` with config.json, spiece.model and random weights, the same each time.

    One layer of two heads of 4; 150 word pieces at most. Every linear layer's weights are about 0.3, so that
    a prompt's words change its embedding visibly.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size = {"d_kv": 4, "d_ff": 2 * d_model, "num_layers": 1, "num_heads": 2, "vocab_size": 152}
    config = {"model_type": "t5", "feed_forward_proj": "gated-gelu", "d_model": d_model, **size}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "spiece.model").write_bytes(tiny_vocabulary())

    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.ones(shape) if "norm" in name else 0.3 * torch.randn(shape, generator=generator)
        for name, shape in shapes(d_model).items()
    }
    write_weights(folder, weights, layout)


def tiny_vocabulary() -> bytes:
    """A sentencepiece model with T5's own conventions: padding 0, end 1, unknown 2."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=model,
        vocab_size=150,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def shapes(d_model: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the encoder's weights, as they are published."""
    block, inner, wide = "encoder.block.0.layer", 8, 2 * d_model
    return {
        "shared.weight": (152, d_model),
        **{f"{block}.0.SelfAttention.{name}.weight": (inner, d_model) for name in "qkv"},
        f"{block}.0.SelfAttention.o.weight": (d_model, inner),
        f"{block}.0.SelfAttention.relative_attention_bias.weight": (32, 2),
        f"{block}.0.layer_norm.weight": (d_model,),
        f"{block}.1.DenseReluDense.wi_0.weight": (wide, d_model),
        f"{block}.1.DenseReluDense.wi_1.weight": (wide, d_model),
        f"{block}.1.DenseReluDense.wo.weight": (d_model, wide),
        f"{block}.1.layer_norm.weight": (d_model,),
        "encoder.final_layer_norm.weight": (d_model,),
    }


def write_weights(folder: Path, weights: dict[str, Tensor], layout: Layout) -> None:
    """The weights in one file or in two, as the layout has it; a pickle holds the embedding's two names."""
    if layout.startswith("pickle"):
        weights = {**weights, "encoder.embed_tokens.weight": weights["shared.weight"]}
        stem, suffix = "pytorch_model", "bin"
    else:
        stem, suffix = "model", "safetensors"
    names = list(weights)
    if layout.endswith("shards"):
        files = [f"{stem}-0000{part}-of-00002.{suffix}" for part in (1, 2)]
        parts = dict(zip(files, (names[:5], names[5:]), strict=True))
        index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))
    else:
        parts = {f"{stem}.{suffix}": names}
    for file, part in parts.items():
        tensors = {name: weights[name] for name in part}
        if suffix == "bin":
            torch.save(tensors, folder / file)
        else:
            save_file(tensors, folder / file)
