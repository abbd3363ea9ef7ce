"""Tiny random models of diffusers in the published layout, saved by the libraries' own save_pretrained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.backends.opensora.tiny_t5 import SENTENCES

TEXT_WIDTH = 16

WAN_VAE: dict[str, Any] = {
    "base_dim": 4,
    "z_dim": 4,
    "dim_mult": [1, 1, 1, 1],
    "num_res_blocks": 1,
    "latents_mean": [0.1, -0.2, 0.3, 0.0],
    "latents_std": [0.9, 1.1, 1.2, 0.8],
}

SKYREELS: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": TEXT_WIDTH,
    "freq_dim": 32,
    "ffn_dim": 32,
    "num_layers": 2,
    "rope_max_seq_len": 64,
    "inject_sample_info": True,
}


def write_tiny_skyreels(folder: Path, seed: int = 0) -> Path:
    """``folder`` with a SkyReels-V2 1.3B of two blocks, its VAE, its text encoder, and longvid.json."""
    from diffusers import AutoencoderKLWan, SkyReelsV2Transformer3DModel, UniPCMultistepScheduler

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = {
            "transformer": SkyReelsV2Transformer3DModel(**SKYREELS),
            "vae": AutoencoderKLWan(**WAN_VAE),
            "text_encoder": tiny_umt5(),
        }
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=8.0
    )
    return write_layout(folder, "skyreels-v2-1.3b", parts, scheduler)


def write_layout(folder: Path, model: str, parts: Mapping[str, nn.Module], scheduler: Any) -> Path:
    """The folder of these parts, a tokenizer and a scheduler, which the backend ``model`` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, network in parts.items():
        network.save_pretrained(folder / name)
    scheduler.save_pretrained(folder / "scheduler")
    if "T5" in type(parts["text_encoder"]).__name__:
        write_t5_tokenizer(folder / "tokenizer")
    (folder / "longvid.json").write_text(json.dumps({"backend": model}))
    return folder


def tiny_umt5() -> nn.Module:
    """UMT5's encoder of one layer, its weights large enough that words count."""
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(
        vocab_size=160,
        d_model=TEXT_WIDTH,
        d_kv=4,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return louder(UMT5EncoderModel(config))


def louder(network: nn.Module) -> nn.Module:
    """The network with matrices of about 0.3: words change what is made of them visibly."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    return network


def write_t5_tokenizer(folder: Path) -> None:
    """A tokenizer of T5's kind over SENTENCES: padding 0, end 1, unknown 2."""
    from transformers import T5Tokenizer

    words = sorted({word for sentence in SENTENCES for word in sentence.replace(",", " ,").split()})
    letters = sorted({letter for sentence in SENTENCES for letter in sentence})
    pieces = ["<pad>", "</s>", "<unk>", *dict.fromkeys(["▁", *(f"▁{word}" for word in words), *letters])]
    vocabulary = [(piece, 0.0 if rank < 3 else -float(rank)) for rank, piece in enumerate(pieces[:160])]
    T5Tokenizer(vocab=vocabulary, extra_ids=0).save_pretrained(folder)
