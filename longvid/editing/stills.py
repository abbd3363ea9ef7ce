"""Single frames of a film: where to look, and which is the best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from longvid.editing.film import Film
from longvid.video import source

if TYPE_CHECKING:
    from numpy.typing import NDArray

CANDIDATES = 48
"""Frames among which the best is chosen."""
JUDGED_PX = 320
"""Height at which frames are judged."""
NEAR_FRAMES = 32
"""Decoding so many costs less than to seek, in most files."""


def stills(film: Film, numbers: Sequence[int], width: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """The frames of these rising numbers [h w 3], one at a time; at this width, if one is given.

    What lies between two that are near is decoded and left out, to the others it seeks.
    """
    full_width, full_height = film.source.size
    size = (width, max(round(full_height * width / full_width), 1)) if width else film.source.size
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number - runs[-1][-1] <= NEAR_FRAMES:
            runs[-1].append(number)
        else:
            runs.append([number])
    for run in runs:
        shown = source.frames(film.source, run[0], run[-1] + 1)
        for number, pixels in zip(range(run[0], run[-1] + 1), shown, strict=True):
            if number in run:
                yield pixels if size == film.source.size else source.fit(pixels, size, "crop")


def spread(start: int, end: int, count: int) -> list[int]:
    """At most ``count`` frames, evenly inside the span, no two the same."""
    count = min(count, end - start)
    return [start + (end - start) * (2 * i + 1) // (2 * count) for i in range(count)]


def everywhere(film: Film, count: int) -> list[int]:
    """Frames evenly over the film; where that leaves out a shot, its middle as well."""
    numbers = set(spread(0, film.source.frames, count))
    for shot in film.shots:
        if not any(shot.start_frame <= number < shot.end_frame for number in numbers):
            numbers.add((shot.start_frame + shot.end_frame) // 2)
    return sorted(numbers)


def best(film: Film) -> int:
    """The frame that is best in contrast, colour and detail together, each by its rank among frames from all
    over the film; the first of equals."""
    numbers = spread(0, film.source.frames, CANDIDATES)
    width = max(JUDGED_PX * film.source.size[0] // film.source.size[1], 1)
    measures = np.array([_measured(pixels) for pixels in stills(film, numbers, width)])
    no_better = (measures[:, None] >= measures[None]).sum(1)  # of each frame and measure, how many frames are
    return numbers[int(no_better.sum(-1).argmax())]


def _measured(pixels: NDArray[np.uint8]) -> tuple[float, float, float]:
    """Contrast, the spread of the luma; colourfulness, after Hasler and Suesstrunk; detail, the mean step
    between neighbours."""
    red, green, blue = np.moveaxis(pixels.astype(np.float64), -1, 0)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    one, other = red - green, (red + green) / 2 - blue
    colour = np.hypot(one.std(), other.std()) + 0.3 * np.hypot(one.mean(), other.mean())
    detail = np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean()
    # Rounded, so that no machine's last bits choose.
    return round(float(luma.std()), 3), round(float(colour), 3), round(float(detail), 3)
