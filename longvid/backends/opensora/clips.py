"""A conditioning clip's pixels as Open-Sora v1.2 prepares them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

AT_ONCE = 16
"""Frames resized together: a long clip of large pictures is never held whole in floats."""


def prepare(frames: Tensor, height_px: int, width_px: int) -> Tensor:
    """Frames [c f height_px width_px] in [-1, 1] of uint8 frames [f c h w] of any size.

    Resized bilinearly without antialiasing, to cover the target with one side exact; then the middle is cut
    out, half of the excess rounded down in front of it.
    """
    height, width = frames.shape[-2:]
    if height_px * width > width_px * height:
        covering = height_px, round(width * height_px / height)
    else:
        covering = round(height * width_px / width), width_px
    top, left = (covering[0] - height_px) // 2, (covering[1] - width_px) // 2
    prepared = []
    for some in frames.split(AT_ONCE):
        pixels = F.interpolate(some.float() / 255, covering, mode="bilinear", align_corners=False)
        pixels = pixels[..., top : top + height_px, left : left + width_px]
        prepared.append((pixels - 0.5) / 0.5)
    return torch.cat(prepared).transpose(0, 1)
