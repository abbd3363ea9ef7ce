"""CLIP and VideoMAE from the folders of their published weights, through transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pixels(
    frames: Sequence[NDArray[np.uint8]],
    side_px: int,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
) -> Tensor:
    """Frames [h w 3] as [n 3 side side]: the shorter side scaled to it, the middle cut out, normalised."""
    video = rearrange(torch.from_numpy(np.stack(frames)), "n h w c -> n c h w").to(device).float() / 255
    height, width = video.shape[2:]
    scale = side_px / min(height, width)
    size = max(round(height * scale), side_px), max(round(width * scale), side_px)
    video = F.interpolate(video, size, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (size[0] - side_px) // 2, (size[1] - side_px) // 2
    video = video[:, :, top : top + side_px, left : left + side_px]
    return (video - video.new_tensor(mean)[:, None, None]) / video.new_tensor(std)[:, None, None]


@dataclass(frozen=True)
class Clip:
    """CLIP's embeddings, of length 1."""

    network: Any
    tokenizer: Any
    device: torch.device

    @staticmethod
    def load(folder: Path, device: torch.device) -> Clip:
        from transformers import CLIPModel, CLIPTokenizer

        network: Any = CLIPModel.from_pretrained(folder, local_files_only=True)
        network = network.to(device).eval()
        return Clip(network, CLIPTokenizer.from_pretrained(folder, local_files_only=True), device)

    @torch.inference_mode()
    def pictures(self, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embeddings [n d] of frames [h w 3]."""
        side_px = self.network.config.vision_config.image_size
        shown = pixels(frames, side_px, CLIP_MEAN, CLIP_STD, self.device)
        return _unit(self.network.get_image_features(pixel_values=shown).pooler_output)

    @torch.inference_mode()
    def texts(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings [p d] of prompts, cut where they are longer than CLIP reads."""
        longest = self.network.config.text_config.max_position_embeddings
        found = [
            self.tokenizer(prompt, return_tensors="pt", truncation=True, max_length=longest).to(self.device)
            for prompt in prompts
        ]
        return np.concatenate([_unit(self.network.get_text_features(**text).pooler_output) for text in found])


@dataclass(frozen=True)
class VideoMae:
    """VideoMAE's features of clips: its last hidden states, averaged."""

    network: Any
    device: torch.device

    @staticmethod
    def load(folder: Path, device: torch.device) -> VideoMae:
        from transformers import VideoMAEModel

        network: Any = VideoMAEModel.from_pretrained(folder, local_files_only=True)
        return VideoMae(network.to(device).eval(), device)

    @property
    def frames(self) -> int:
        """That it sees of a clip."""
        return int(self.network.config.num_frames)

    @torch.inference_mode()
    def clip(self, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Features [d] of one clip, of ``self.frames`` frames [h w 3]."""
        shown = pixels(frames, self.network.config.image_size, IMAGENET_MEAN, IMAGENET_STD, self.device)
        hidden = self.network(pixel_values=shown[None]).last_hidden_state
        features: NDArray[np.float32] = hidden.mean(dim=1)[0].float().cpu().numpy()
        return features


def _unit(embeddings: Tensor) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = F.normalize(embeddings.float(), dim=-1).cpu().numpy()
    return unit
