"""Cuts in a film, by PySceneDetect's adaptive detector as it is: the paper's Num Scenes less one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH_PX = 256
"""Of the pictures that cuts are looked for in, at most, as PySceneDetect's own reader has them."""
NEAR_SECONDS = Fraction(1, 2)
"""A cut that is found within this of a planned one is that one."""


def finds_cuts() -> bool:
    """Whether PySceneDetect is installed."""
    return find_spec("scenedetect") is not None


class CutDetector:
    """Sees a film's frames in order, and says at which of them it cuts."""

    def __init__(self) -> None:
        from scenedetect.detectors import AdaptiveDetector  # type: ignore[import-untyped]  # it has no stubs

        self.detector = AdaptiveDetector()
        self.frame = 0
        self.cuts: list[int] = []

    def see(self, pixels: NDArray[np.uint8]) -> None:
        """The next frame [h w 3], RGB."""
        import cv2
        from scenedetect import FrameTimecode  # type: ignore[import-untyped]  # it has no stubs

        height, width = pixels.shape[:2]
        if width > WIDTH_PX:
            size = WIDTH_PX, max(round(height * WIDTH_PX / width), 1)
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        time = FrameTimecode(self.frame, 25.0)  # it counts frames, at any rate
        found: list[Any] = self.detector.process_frame(time, np.ascontiguousarray(pixels[..., ::-1]))
        self.cuts += [cut.frame_num for cut in found]
        self.frame += 1


@dataclass(frozen=True)
class Cuts:
    """First frames behind the cuts that were found."""

    unplanned: tuple[int, ...]
    planned: tuple[int, ...]

    @property
    def scenes(self) -> int:
        """1 + the cuts that nobody asked for."""
        return 1 + len(self.unplanned)


def sort_cuts(found: Sequence[int], planned: Sequence[int], fps: Fraction) -> Cuts:
    """The cuts, those within half a second of a planned one apart."""
    near = {cut for cut in found if any(abs(cut - wanted) <= NEAR_SECONDS * fps for wanted in planned)}
    return Cuts(tuple(cut for cut in found if cut not in near), tuple(cut for cut in found if cut in near))
