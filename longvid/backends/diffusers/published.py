"""The published models that diffusers runs, and what is known of each without a file. Torch-free.

The repositories' commits could not be looked up when this was written: the revisions are branches, which the
first pull takes as they stand and keeps to (`longvid.downloads`). Sizes in bytes are counted from the
configurations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from longvid.backends import Geometry
from longvid.downloads import Download

FamilyName = Literal["skyreels", "wan", "ltx", "unet"]

TEXT_ENCODER, TOKENIZER, VAE, SCHEDULER = "text_encoder", "tokenizer", "vae", "scheduler"
TRANSFORMER, UNET = "transformer", "unet"

DIFFUSERS_WEIGHTS, TRANSFORMERS_WEIGHTS = "diffusion_pytorch_model", "model"
"""The file of a part's weights, without its ending: as diffusers and transformers name it."""

WHOLE_OR_SHARDS = "[.-][s0]*"
"""Behind it: ``.safetensors``, or an index and its shards; no pickle, and no copy in another dtype."""


@dataclass(frozen=True)
class Model:
    """A published model: ``family`` is the module of this package that makes a film of it.

    ``flow_shift``: of its schedule, unless the folder's scheduler or `model_options` say another; None for a
    model whose process has none. ``expects``: what to expect of it under progressive levels, a clause.
    ``configs``: what its parts' ``config.json`` say, for where there is no folder. ``values``: how many
    numbers the weights of each part are.
    """

    name: str
    family: FamilyName
    geometry: Geometry
    downloads: tuple[Download, ...]
    licence: str
    flow_shift: float | None
    expects: str
    configs: Mapping[str, Mapping[str, Any]]
    values: Mapping[str, int]

    @property
    def network(self) -> str:
        """The folder of the denoiser's network."""
        return UNET if UNET in self.configs else TRANSFORMER


def parts_of(repo: str, licence: str, network: str, sizes: Mapping[str, int]) -> tuple[Download, ...]:
    """The parts of a repository in diffusers' layout; ``sizes``: bytes of those with weights."""
    files = {
        network: ("config.json", DIFFUSERS_WEIGHTS + WHOLE_OR_SHARDS),
        VAE: ("config.json", DIFFUSERS_WEIGHTS + WHOLE_OR_SHARDS),
        TEXT_ENCODER: ("config.json", TRANSFORMERS_WEIGHTS + WHOLE_OR_SHARDS),
        TOKENIZER: ("*",),
        SCHEDULER: ("scheduler_config.json",),
    }
    return tuple(
        Download(repo, "main", names, part, licence, sizes.get(part, 1_000_000), within=part)
        for part, names in files.items()
    )


UMT5_XXL = {
    "_class_name": "UMT5EncoderModel",
    "model_type": "umt5",
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "vocab_size": 256384,
    "feed_forward_proj": "gated-gelu",
}
UMT5_XXL_BYTES = 22_723_000_000  # in float32
WAN_VAE = {"_class_name": "AutoencoderKLWan"}  # diffusers' own defaults are Wan 2.1's
WAN_VAE_BYTES = 508_000_000


def skyreels_transformer(heads: int, ffn: int, layers: int, knows_fps: bool) -> dict[str, Any]:
    return {
        "_class_name": "SkyReelsV2Transformer3DModel",
        "num_attention_heads": heads,
        "attention_head_dim": 128,
        "in_channels": 16,
        "out_channels": 16,
        "text_dim": 4096,
        "freq_dim": 256,
        "ffn_dim": ffn,
        "num_layers": layers,
        "inject_sample_info": knows_fps,
    }


SKYREELS_GEOMETRY = Geometry(
    chunk_latents=5,
    chunk_frames=20,
    first_chunk_frames=17,
    channels=16,
    pixel_stride=8,
    window_units=4,  # with the clean one in front 25 latents, the length that it was trained on: 97 frames
    steps=32,
    guidance=6.0,
    sizes=((960, 544), (544, 960), (544, 544)),
    any_size=True,
    fps=Fraction(24),
    fps_min=Fraction(16),
    fps_max=Fraction(30),
    output_width_px=544,
)
SKYREELS_LICENCE = "Skywork's own licence for SkyReels-V2 (skywork-license): read it before using a film"
SKYREELS_EXPECTS = "trained on an independent noise level for each latent, so made for progressive levels"

SKYREELS_1_3B = Model(
    name="skyreels-v2-1.3b",
    family="skyreels",
    geometry=SKYREELS_GEOMETRY,
    downloads=parts_of(
        "Skywork/SkyReels-V2-DF-1.3B-540P-Diffusers",
        SKYREELS_LICENCE,
        TRANSFORMER,
        {TRANSFORMER: 5_700_000_000, VAE: WAN_VAE_BYTES, TEXT_ENCODER: UMT5_XXL_BYTES},
    ),
    licence=SKYREELS_LICENCE,
    flow_shift=8.0,
    expects=SKYREELS_EXPECTS,
    configs={
        TRANSFORMER: skyreels_transformer(heads=12, ffn=8960, layers=30, knows_fps=True),
        VAE: WAN_VAE,
        TEXT_ENCODER: UMT5_XXL,
    },
    values={TRANSFORMER: 1_435_525_696, VAE: 126_892_531, TEXT_ENCODER: 5_680_910_336},
)

SKYREELS_14B = Model(
    name="skyreels-v2-14b",
    family="skyreels",
    geometry=SKYREELS_GEOMETRY,
    downloads=parts_of(
        "Skywork/SkyReels-V2-DF-14B-540P-Diffusers",
        SKYREELS_LICENCE,
        TRANSFORMER,
        {TRANSFORMER: 57_200_000_000, VAE: WAN_VAE_BYTES, TEXT_ENCODER: UMT5_XXL_BYTES},
    ),
    licence=SKYREELS_LICENCE,
    flow_shift=8.0,
    expects=SKYREELS_EXPECTS,
    configs={
        TRANSFORMER: skyreels_transformer(heads=40, ffn=13824, layers=40, knows_fps=False),
        VAE: WAN_VAE,
        TEXT_ENCODER: UMT5_XXL,
    },
    values={TRANSFORMER: 14_288_491_584, VAE: 126_892_531, TEXT_ENCODER: 5_680_910_336},
)

WAN_2_2_5B = Model(
    name="wan-2.2-5b",
    family="wan",
    geometry=Geometry(
        chunk_latents=5,
        chunk_frames=20,
        first_chunk_frames=17,
        channels=48,
        pixel_stride=16,
        window_units=5,  # with the clean one in front 30 latents of the 31 that it was trained on
        steps=50,
        guidance=5.0,
        sizes=((1280, 704), (704, 1280), (832, 480)),
        any_size=True,
        fps=Fraction(24),
        fps_min=Fraction(16),
        fps_max=Fraction(30),
        output_width_px=704,
    ),
    downloads=parts_of(
        "Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        "Apache-2.0",
        TRANSFORMER,
        {TRANSFORMER: 20_000_000_000, VAE: 2_820_000_000, TEXT_ENCODER: UMT5_XXL_BYTES},
    ),
    licence="Apache-2.0",
    flow_shift=5.0,
    expects="experimental: trained with one level for a clip and a clean first latent, not on rising levels",
    configs={
        TRANSFORMER: {
            "_class_name": "WanTransformer3DModel",
            "num_attention_heads": 24,
            "attention_head_dim": 128,
            "in_channels": 48,
            "out_channels": 48,
            "text_dim": 4096,
            "freq_dim": 256,
            "ffn_dim": 14336,
            "num_layers": 30,
        },
        VAE: {
            "_class_name": "AutoencoderKLWan",
            "base_dim": 160,
            "decoder_base_dim": 256,
            "z_dim": 48,
            "latents_mean": [0.0] * 48,
            "latents_std": [1.0] * 48,
            "is_residual": True,
            "in_channels": 12,
            "out_channels": 12,
            "patch_size": 2,
            "scale_factor_spatial": 16,
        },
        TEXT_ENCODER: UMT5_XXL,
    },
    values={TRANSFORMER: 4_999_787_712, VAE: 704_688_668, TEXT_ENCODER: 5_680_910_336},
)

LTX_VIDEO = Model(
    name="ltx-video",
    family="ltx",
    geometry=Geometry(
        chunk_latents=5,
        chunk_frames=40,
        first_chunk_frames=33,
        channels=128,
        pixel_stride=32,
        window_units=4,  # with the clean one in front 193 frames, of 257 at most that it was trained on
        steps=40,
        guidance=3.0,
        sizes=((704, 480), (480, 704), (768, 512)),
        any_size=True,
        fps=Fraction(24),
        fps_min=Fraction(8),
        fps_max=Fraction(30),
        output_width_px=480,
    ),
    downloads=parts_of(
        "Lightricks/LTX-Video",
        "LTX-Video's own open-weights licence",
        TRANSFORMER,
        {TRANSFORMER: 7_700_000_000, VAE: 1_680_000_000, TEXT_ENCODER: 19_050_000_000},
    ),
    licence="LTX-Video's own open-weights licence: read it before using a film",
    flow_shift=None,
    expects="experimental: trained with one level for a clip, and cleaner first frames, not on rising levels",
    configs={
        TRANSFORMER: {
            "_class_name": "LTXVideoTransformer3DModel",
            "in_channels": 128,
            "out_channels": 128,
            "num_attention_heads": 32,
            "attention_head_dim": 64,
            "cross_attention_dim": 2048,
            "num_layers": 28,
            "caption_channels": 4096,
        },
        VAE: {"_class_name": "AutoencoderKLLTXVideo"},
        TEXT_ENCODER: {
            "_class_name": "T5EncoderModel",
            "model_type": "t5",
            "d_model": 4096,
            "d_kv": 64,
            "d_ff": 10240,
            "num_layers": 24,
            "num_heads": 64,
            "vocab_size": 32128,
            "feed_forward_proj": "gated-gelu",
        },
    },
    values={TRANSFORMER: 1_923_385_472, VAE: 419_193_649, TEXT_ENCODER: 4_762_310_656},
)

MODELSCOPE_LICENCE = "CC-BY-NC-4.0 (its model card says CC-BY-NC-ND): no commercial use"

MODELSCOPE_1_7B = Model(
    name="modelscope-1.7b",
    family="unet",
    geometry=Geometry(
        chunk_latents=4,
        chunk_frames=4,
        first_chunk_frames=4,
        channels=4,
        pixel_stride=8,
        window_units=3,  # with the clean one in front the 16 frames that it was trained on
        steps=48,
        guidance=9.0,
        sizes=((256, 256),),
        any_size=True,
        fps=Fraction(8),
        fps_min=Fraction(4),
        fps_max=Fraction(16),
        output_width_px=256,
    ),
    downloads=parts_of(
        "ali-vilab/text-to-video-ms-1.7b",
        MODELSCOPE_LICENCE,
        UNET,
        {UNET: 5_650_000_000, VAE: 335_000_000, TEXT_ENCODER: 1_360_000_000},
    ),
    licence=MODELSCOPE_LICENCE,
    flow_shift=None,
    expects="experimental: trained with one level for a clip of 16 frames; finetune it on rising levels",
    configs={
        UNET: {
            "_class_name": "UNet3DConditionModel",
            "sample_size": 32,
            "in_channels": 4,
            "out_channels": 4,
            "block_out_channels": [320, 640, 1280, 1280],
            "layers_per_block": 2,
            "cross_attention_dim": 1024,
            "attention_head_dim": 64,
        },
        VAE: {
            "_class_name": "AutoencoderKL",
            "down_block_types": ["DownEncoderBlock2D"] * 4,
            "up_block_types": ["UpDecoderBlock2D"] * 4,
            "block_out_channels": [128, 256, 512, 512],
            "layers_per_block": 2,
            "sample_size": 256,
        },
        TEXT_ENCODER: {
            "_class_name": "CLIPTextModel",
            "model_type": "clip_text_model",
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 23,
            "num_attention_heads": 16,
            "hidden_act": "gelu",
        },
        SCHEDULER: {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"},
    },
    values={UNET: 1_411_233_860, VAE: 83_653_863, TEXT_ENCODER: 340_387_840},
)
