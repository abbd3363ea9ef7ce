"""How a frame looks, in a few numbers whose drift tells of a film that decays (FramePack, HeliosBench)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNITS = {
    "luma": "of 255",
    "saturation": "%",
    "contrast": "of 255",
    "sharpness": "squared levels of 255",
    "red": "of 255",
    "green": "of 255",
    "blue": "of 255",
}
"""The statistics by name, each with its unit."""
REC_709 = np.array([0.2126, 0.7152, 0.0722], np.float32)


def luma(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Rec. 709 luma Y' [h w] of pixels [h w 3], 0 to 255."""
    weighted: NDArray[np.float32] = pixels.astype(np.float32) @ REC_709
    return weighted


def appearance(pixels: NDArray[np.uint8], luma: NDArray[np.float32]) -> tuple[float, ...]:
    """The statistics of ``UNITS`` of a frame [h w 3] and its luma [h w], in that order.

    Mean luma; mean saturation (max - min) / max of a pixel's parts, as HSV has it; contrast, the standard
    deviation of luma; sharpness, the variance of its Laplacian over four neighbours; the mean of each part.
    """
    red, green, blue = (np.ascontiguousarray(pixels[..., part]) for part in range(3))
    greatest = np.maximum(np.maximum(red, green), blue)
    spread = greatest - np.minimum(np.minimum(red, green), blue)
    saturation = spread / np.maximum(greatest, 1).astype(np.float32)
    inner = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner
    return (
        float(luma.mean(dtype=np.float64)),
        100 * float(saturation.mean(dtype=np.float64)),
        float(luma.std(dtype=np.float64)),
        float(laplacian.var(dtype=np.float64)),
        float(red.mean()),
        float(green.mean()),
        float(blue.mean()),
    )


def difference(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Mean absolute difference of two pictures of one shape, 0 to 255."""
    return float((np.maximum(before, after) - np.minimum(before, after)).mean())
