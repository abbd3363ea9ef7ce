"""When the frames of an extended film are shown, and which pictures they show. Exact."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Timing:
    """What each frame of the extended film shows.

    Frame j is shown at j / fps. The source ends with frame ``join_frame``, where the time of the new frames
    begins: each is shown until the next one is due. Mixing the two nearest instead would show both at once,
    a double image wherever something moves, and blur the rest; a repeated frame does neither.
    """

    fps: Fraction
    """The film's."""
    frames: int
    """The film's, with the source's own even where only the tail is written."""
    join_frame: int
    source_fps: Fraction
    source_frames: int
    new_fps: Fraction
    new_frames: int
    replaced_frames: int
    """So many new frames show the source's end once more."""
    crossfade_frames: int
    """During so many of them the source fades into them."""

    def own(self, frame: int) -> int:
        """The source's frame that is shown at that time."""
        return min(math.floor(frame * self.source_fps / self.fps), self.source_frames - 1)

    def new(self, frame: int) -> int:
        """The new frame that is shown at that time."""
        return min(math.floor(self._position(frame)), self.new_frames - 1)

    def weight(self, frame: int) -> Fraction:
        """The new picture's share: 0 before any, then (k + 1) / (crossfade_frames + 1) at new frame k."""
        position = self._position(frame)
        return Fraction(0) if position < 0 else min((position + 1) / (self.crossfade_frames + 1), Fraction(1))

    def _position(self, frame: int) -> Fraction:
        return (frame - self.join_frame) * self.new_fps / self.fps + self.replaced_frames

    @property
    def first_new(self) -> int:
        """The first frame that shows anything new."""
        return max(0, self.join_frame - math.floor(self.replaced_frames * self.fps / self.new_fps))

    @property
    def first_whole(self) -> int:
        """The first frame that shows nothing of the source."""
        kept = max(0, self.replaced_frames - self.crossfade_frames)
        return max(0, self.join_frame - math.floor(kept * self.fps / self.new_fps))
