"""One pass over a film's frames, and what it leaves: numbers a frame, and a feature vector each half second.

Two pictures are held at a time, and as many samples as a network call takes; what is left is 12 KB a second
of film, most of it features.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING

import numpy as np

from longvid.evaluation import motion
from longvid.evaluation.appearance import UNITS, appearance, difference, luma
from longvid.evaluation.clips import CLIP_SECONDS
from longvid.evaluation.features import Embed, sampled_frame
from longvid.evaluation.networks import Clip, VideoMae
from longvid.evaluation.scenes import CutDetector

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH = 8
"""Samples that the network sees at a time."""


@dataclass(frozen=True)
class Signals:
    """What is known of each of a film's n frames. What tells of a frame and the one before it is nan for the
    first. None: what it takes is not installed."""

    fps: Fraction
    appearance: dict[str, NDArray[np.float64]]
    """Each statistic of ``appearance.UNITS`` [n]."""
    change: NDArray[np.float64]
    """Mean absolute difference from the frame before, of 255 [n]."""
    motion: NDArray[np.float64] | None
    """Flow from the frame before, in heights a second [n]."""
    compensated_change: NDArray[np.float64] | None
    """What of the change is left when motion is taken back, of 255 [n]."""
    cuts: tuple[int, ...] | None
    features: NDArray[np.float32] | None
    """EfficientNet's, of each sample [m d]."""
    pictures: NDArray[np.float32] | None = None
    """CLIP's, of each sample [m d]."""
    clips: NDArray[np.float32] | None = None
    """VideoMAE's, of each whole clip of two seconds [c d]."""

    @property
    def frames(self) -> int:
        return len(self.change)

    @property
    def sample_times(self) -> NDArray[np.float64]:
        """When each sample is shown, in seconds [m]: the middle of its frame."""
        known = self.pictures if self.features is None else self.features
        count = 0 if known is None else len(known)
        frames = np.array([sampled_frame(sample, self.fps) for sample in range(count)])
        return (frames + 0.5) / float(self.fps)


class _Batches:
    """Samples that a network sees, a few at a time."""

    def __init__(self, embed: Embed | None) -> None:
        self.embed = embed
        self.waiting: list[NDArray[np.uint8]] = []
        self.found: list[NDArray[np.float32]] = []

    def see(self, pixels: NDArray[np.uint8]) -> None:
        if self.embed is None:
            return
        self.waiting.append(pixels)
        if len(self.waiting) == BATCH:
            self._embed()

    def _embed(self) -> None:
        assert self.embed is not None
        self.found.append(self.embed(self.waiting))
        self.waiting = []

    def end(self) -> NDArray[np.float32] | None:
        """Of all samples [m d]."""
        if self.waiting:
            self._embed()
        return np.concatenate(self.found) if self.found else None


class _Clips:
    """Whole clips that VideoMAE sees, each by frames from the middles of equal parts of it."""

    def __init__(self, videomae: VideoMae | None, fps: Fraction) -> None:
        self.videomae = videomae
        self.step = CLIP_SECONDS * fps / (1 if videomae is None else videomae.frames)
        self.taken: list[NDArray[np.uint8]] = []
        self.found: list[NDArray[np.float32]] = []

    def see(self, number: int, pixels: NDArray[np.uint8]) -> None:
        if self.videomae is None:
            return
        while number == floor(
            self.step * (len(self.found) * self.videomae.frames + len(self.taken) + Fraction(1, 2))
        ):
            self.taken.append(pixels)
            if len(self.taken) == self.videomae.frames:
                self.found.append(self.videomae.clip(self.taken))
                self.taken = []

    def end(self) -> NDArray[np.float32] | None:
        """Of all clips [c d]."""
        return np.stack(self.found) if self.found else None


def observe(
    frames: Iterable[NDArray[np.uint8]],
    fps: Fraction,
    *,
    cuts: bool,
    flow: bool,
    embed: Embed | None,
    clip: Clip | None = None,
    videomae: VideoMae | None = None,
    progress: Callable[[int], None] = lambda frame: None,
) -> Signals:
    """Look at each frame [h w 3], all of one size, once.

    ``cuts``, ``flow``: whether cuts and motion are looked for. ``embed``, ``clip``, ``videomae``: by what
    features are taken, if at all. ``progress`` is told how many frames are done.
    """
    detector = CutDetector() if cuts else None
    looks = {name: array("d") for name in UNITS}
    change, moved, left = array("d"), array("d"), array("d")
    features, pictures, clips = (
        _Batches(embed),
        _Batches(clip.pictures if clip else None),
        _Clips(videomae, fps),
    )
    samples = 0
    before: NDArray[np.uint8] | None = None
    small_before: NDArray[np.uint8] | None = None
    for number, pixels in enumerate(frames):
        grey = luma(pixels)
        for values, value in zip(looks.values(), appearance(pixels, grey), strict=True):
            values.append(value)
        change.append(np.nan if before is None else difference(before, pixels))
        if detector is not None:
            detector.see(pixels)
        if flow:
            small = motion.small(grey)
            if small_before is None:
                moved.append(np.nan)
                left.append(np.nan)
            else:
                found = motion.flow(small_before, small)
                moved.append(motion.amplitude(found, fps))
                left.append(motion.compensated_difference(small_before, small, found))
            small_before = small
        while number == sampled_frame(samples, fps):  # below two frames a second, one is two samples
            features.see(pixels)
            pictures.see(pixels)
            samples += 1
        clips.see(number, pixels)
        before = pixels
        progress(number + 1)
    return Signals(
        fps=fps,
        appearance={name: np.array(values) for name, values in looks.items()},
        change=np.array(change),
        motion=np.array(moved) if flow else None,
        compensated_change=np.array(left) if flow else None,
        cuts=tuple(detector.cuts) if detector is not None else None,
        features=features.end(),
        pictures=pictures.end(),
        clips=clips.end(),
    )
