"""Frames whose every change is known."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from longvid.evaluation.signals import Signals
from longvid.video import writer

FPS = Fraction(12)


def texture(height: int = 64, width: int = 96, seed: int = 0) -> np.ndarray:
    """A smooth random picture [h w 3] in shades of one colour, that wraps around."""
    waves = np.fft.fft2(np.random.default_rng(seed).normal(size=(height, width)))
    far = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]) > 0.12
    smooth = np.fft.ifft2(np.where(far, 0, waves)).real
    shades = 128 + 40 * smooth / smooth.std()
    return (shades[..., None] * np.roll([1.0, 0.8, 0.5], seed)).clip(0, 255).astype(np.uint8)


def panning(frames: int, step_px: int = 2, picture: np.ndarray | None = None) -> list[np.ndarray]:
    """The picture, ``step_px`` further to the right in each frame."""
    picture = texture() if picture is None else picture
    return [np.roll(picture, step_px * frame, axis=1) for frame in range(frames)]


def levels(frames: int, height: int = 32, width: int = 48) -> list[np.ndarray]:
    """Plain frames, each one brighter than the one before."""
    return [np.full((height, width, 3), frame % 250, np.uint8) for frame in range(frames)]


def write(
    path: Path, frames: list[np.ndarray], fps: Fraction = FPS, metadata: dict[str, str] | None = None
) -> Path:
    segment = writer.encode(np.stack(frames), fps, 10)
    writer.remux([segment], path, fps, [], metadata or {})
    return path


def signals(frames: int, **known: object) -> Signals:
    """Of a still film, but for what is ``known``."""
    still = np.r_[np.nan, np.ones(frames - 1)]
    none = {"motion": None, "compensated_change": None, "cuts": None, "features": None}
    values = {"fps": FPS, "appearance": {"luma": np.zeros(frames)}, "change": still, **none, **known}
    return Signals(**values)  # type: ignore[arg-type]
