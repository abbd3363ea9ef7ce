"""How much moves from a frame to the next: dense optical flow by Farneback's method, as OpenCV has it."""

from __future__ import annotations

from fractions import Fraction
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from longvid.evaluation.appearance import difference

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEIGHT_PX = 96
"""Of the pictures that flow is looked for in, at most; motion is told in heights, whatever that is."""
WINDOW_PX = 15


def finds_flow() -> bool:
    """Whether OpenCV is installed; it comes with PySceneDetect."""
    return find_spec("cv2") is not None


def small(luma: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Luma [h w] at ``HEIGHT_PX``, or as it is where it is lower."""
    import cv2

    height, width = luma.shape
    if height > HEIGHT_PX:
        size = max(round(width * HEIGHT_PX / height), 1), HEIGHT_PX
        luma = cv2.resize(luma, size, interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)
    return (luma + np.float32(0.5)).astype(np.uint8)


def flow(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float32]:
    """By how many pixels (right, down) [h w 2] each pixel of a picture [h w] has moved in the next one."""
    import cv2

    start: Any = None
    found: Any = cv2.calcOpticalFlowFarneback(before, after, start, 0.5, 3, WINDOW_PX, 2, 5, 1.1, 0)
    moved: NDArray[np.float32] = found
    return moved


def amplitude(moved: NDArray[np.float32], fps: Fraction) -> float:
    """Mean length of a flow [h w 2] in pixels a second over the picture's height: heights a second."""
    lengths_px = np.hypot(moved[..., 0], moved[..., 1])
    return float(lengths_px.mean()) * float(fps) / len(moved)


def compensated_difference(
    before: NDArray[np.uint8], after: NDArray[np.uint8], moved: NDArray[np.float32]
) -> float:
    """Mean absolute difference (of 255) of two pictures [h w] that is left when the motion is taken back."""
    import cv2

    height, width = before.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    back: Any = cv2.remap(
        after, x + moved[..., 0], y + moved[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return difference(before, back)
