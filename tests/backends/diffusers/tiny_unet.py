"""A tiny random ModelScope text-to-video, by diffusers' own classes, saved in its published layout."""

from __future__ import annotations

import json
import string
from pathlib import Path

import torch
from diffusers import DDIMScheduler
from diffusers.models import AutoencoderKL, UNet3DConditionModel
from diffusers.pipelines.deprecated.text_to_video_synthesis import TextToVideoSDPipeline
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from longvid.plugins import FOLDER_FILE

NAME = "modelscope-1.7b"
WIDTH = 16


def write_tiny_modelscope(folder: Path) -> Path:
    """Random weights from one seed: a network of 87 thousand, for pictures whose sides are multiples of 8."""
    pipeline().save_pretrained(folder)
    (folder / FOLDER_FILE).write_text(json.dumps({"backend": NAME}))
    return folder


def pipeline() -> TextToVideoSDPipeline:
    """The published pipeline over tiny networks; its scheduler steps as ours, without clipping."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        words = tokenizer()
        network = UNet3DConditionModel(
            sample_size=4,
            down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
            up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            cross_attention_dim=WIDTH,
            attention_head_dim=2,
        )
        for name, parameter in network.named_parameters():
            if "conv4.3" in name:  # made as zeros, which no trained network has
                torch.nn.init.normal_(parameter, std=0.1)
        return TextToVideoSDPipeline(
            vae=AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(4, 4, 4, 8),
                norm_num_groups=2,
            ).eval(),
            text_encoder=CLIPTextModel(
                CLIPTextConfig(
                    vocab_size=len(words),
                    hidden_size=WIDTH,
                    intermediate_size=32,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    bos_token_id=words.bos_token_id,
                    eos_token_id=words.eos_token_id,
                    pad_token_id=words.pad_token_id,
                )
            ).eval(),
            tokenizer=words,
            unet=network.eval(),
            scheduler=DDIMScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                clip_sample=False,
                timestep_spacing="trailing",
            ),
        )


def tokenizer() -> CLIPTokenizer:
    """It spells: every letter is a token."""
    letters = string.ascii_lowercase + string.digits + string.punctuation
    names = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={name: i for i, name in enumerate(names)}, merges=[], model_max_length=77)
