"""The scenes of a clip: stretches without a cut, and without frames that are missing or damaged.

Cuts are found by PySceneDetect's adaptive detector, where it is installed: a frame is the first of a scene if
it differs from the one before by three times what its neighbours do. A dissolve is no cut to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import CancelledError
from fractions import Fraction
from importlib.util import find_spec
from itertools import pairwise
from threading import Event
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from longvid.video.decoding import decoded_from
from longvid.video.source import Source, place_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 1
"""Raised when the same clip gets other scenes, so that remembered ones are found anew."""
WIDTH_PX = 256
"""Of the pictures that cuts are looked for in, at most."""
NEIGHBOURS = 2
"""Frames on either side that a frame's change is compared with."""
LONGEST_HOLD = Fraction(1, 2)
"""Seconds: where the next frame comes later than that, some are missing."""

Scene = tuple[int, int]
"""Its first frame's number, and that behind its last one, at the source's rate."""


def finds_cuts() -> bool:
    """Whether PySceneDetect is installed."""
    return find_spec("scenedetect") is not None


def scenes(source: Source, *, cuts: bool, stop: Event | None = None) -> tuple[Scene, ...]:
    """The scenes of a clip, in order; none where nothing of it can be decoded. Every frame is decoded.

    ``cuts``: whether cuts are looked for, or only missing frames. Raises UserError where the file cannot be
    read, CancelledError as soon as ``stop`` is set.
    """
    found: list[Scene] = []
    begin = last = -1
    detector: _Cuts | None = None
    hold = max(LONGEST_HOLD * source.fps, Fraction(2))

    def ends() -> None:
        borders = [begin, *(detector.end() if detector else ()), last + 1]
        found.extend(scene for scene in pairwise(borders) if scene[0] < scene[1])

    for place, picture in _small_pictures(source):
        if stop is not None and stop.is_set():
            raise CancelledError
        missing = place - last > hold
        if begin < 0 or picture is None or missing:
            if begin >= 0:
                ends()
            begin, detector = -1, None
        if picture is None or place <= last:
            continue  # damage may set times back
        if begin < 0:
            begin = place
            detector = _Cuts(place, picture) if cuts else None
        elif detector:
            detector.see(place, picture)
        last = place
    if begin >= 0:
        ends()
    return tuple(found)


def _small_pictures(source: Source) -> Iterator[tuple[int, NDArray[np.uint8] | None]]:
    """(number, pixels [h w 3]) of each frame of the file, None for the pixels of a damaged one."""
    width = min(source.size[0], WIDTH_PX)
    height = max(source.size[1] * width // source.size[0], 1)
    reformatter = VideoReformatter()
    for time, frame in decoded_from(
        source.path, source.stream, source.start, Fraction(0), interlaced=source.interlaced
    ):
        place = place_of(source, time)
        try:
            small = reformatter.reformat(
                frame, width, height, format="bgr24", interpolation=Interpolation.AREA, threads=1
            )
        except av.FFmpegError:
            yield place, None
            continue
        pixels: NDArray[Any] = small.to_ndarray()
        yield place, None if frame.is_corrupt else pixels


class _Cuts:
    """The cuts of one stretch, whose frames it sees in order.

    The detector compares each frame with its neighbours, so that it is shown the first and the last one more
    often: as a stretch that begins and ends with a still, it is whole.
    """

    def __init__(self, place: int, picture: NDArray[np.uint8]) -> None:
        from scenedetect.detectors import AdaptiveDetector  # type: ignore[import-untyped]  # it has no stubs

        self.detector = AdaptiveDetector(min_scene_len=1, window_width=NEIGHBOURS)
        self.first = place
        self.found: list[int] = []
        for early in range(-NEIGHBOURS, 1):
            self.see(place + early, picture)

    def see(self, place: int, picture: NDArray[np.uint8]) -> None:
        from scenedetect import FrameTimecode  # type: ignore[import-untyped]  # it has no stubs

        self.last, self.picture = place, picture
        time = FrameTimecode(place - self.first + NEIGHBOURS, 25.0)  # it counts frames, at any rate
        cuts: list[Any] = self.detector.process_frame(time, picture)
        self.found += [cut.frame_num - NEIGHBOURS + self.first for cut in cuts]

    def end(self) -> list[int]:
        """The number of each scene's first frame, but for the stretch's own."""
        for _ in range(NEIGHBOURS):
            self.see(self.last + 1, self.picture)
        return self.found
