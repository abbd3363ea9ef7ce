"""Credits: frames that come behind the film, white on black."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

from longvid.editing import Edit, text
from longvid.editing.picture import ramp
from longvid.editing.text import Lettering, Line
from longvid.times import round_half_up

if TYPE_CHECKING:
    from numpy.typing import NDArray

CARD_SECONDS = 3
"""The least that a card of credits is seen."""
LETTERS_A_SECOND = 14
"""How fast credits are read."""
ROLL_SECONDS = 6
"""How long rolling credits take from the bottom to the top of the picture."""
QUIET = 0.62
"""Brightness of a role, above the names in white."""
FADE_SECONDS = Fraction(3, 4)
"""How long a card comes, and goes."""


@dataclass(frozen=True)
class Reel:
    """Frames that come behind the film: ``draw(i)`` is [h w 3], 0 <= i < frames."""

    frames: int
    draw: Callable[[int], NDArray[np.uint8]]


def reel(edit: Edit, size: tuple[int, int], fps: Fraction) -> Reel:
    """The credits: a card that comes and goes where they fit the picture, else rolling up.

    Raises UserError where the font lacks a letter.
    """
    lines = set_lines(edit, size)
    return (
        card(lines, edit, size, fps)
        if text.height(lines) <= size[1] * 3 // 4
        else roll(lines, edit, size, fps)
    )


def card(lines: list[Line], edit: Edit, size: tuple[int, int], fps: Fraction) -> Reel:
    width, height = size
    black = np.zeros((height, width, 3), np.uint8)
    letters = text.lettering(lines, edit.font, size, (height - text.height(lines)) // 2, shadow=False)
    read = Fraction(sum(len(line.text) for line in lines), LETTERS_A_SECOND)
    frames = max(round_half_up((CARD_SECONDS + read) * fps), 3)
    fade = min(round_half_up(FADE_SECONDS * fps), frames // 3)
    return Reel(frames, lambda frame: text.lay(black, letters, ramp(frame, 0, frames, fade)))


def roll(lines: list[Line], edit: Edit, size: tuple[int, int], fps: Fraction) -> Reel:
    width, height = size
    black = np.zeros((height, width, 3), np.uint8)
    step = max(round_half_up(height / (ROLL_SECONDS * fps)), 1)  # whole pixels: letters keep their shape
    tops = [0, *accumulate(text.height([line]) for line in lines)]
    frames = -(-(tops[-1] + height) // step)

    @lru_cache(maxsize=64)
    def drawn(number: int) -> Lettering:
        return text.lettering([lines[number]], edit.font, size, tops[number], shadow=False)

    def draw(frame: int) -> NDArray[np.uint8]:
        pixels, up = black, step * frame - height
        for number, (top, bottom) in enumerate(pairwise(tops)):
            if top - up < height and bottom - up > 0 and lines[number].text:
                letters = drawn(number)
                moved = Lettering(letters.left_px, letters.top_px - up, letters.ink, letters.shade)
                pixels = text.lay(pixels, moved, Fraction(1))
        return pixels

    return Reel(frames, draw)


def set_lines(edit: Edit, size: tuple[int, int]) -> list[Line]:
    """In each block of lines the first, where others follow, is quieter: the role of those it names."""
    width, height = size
    size_px = max(min(height // 15, width // 22), 9)
    text.check_letters(edit.credits, edit.font, "credits")
    given = [line.strip() for line in edit.credits.strip().splitlines()]
    lines: list[Line] = []
    for at, line in enumerate(given):
        begins = at == 0 or not given[at - 1]
        role = begins and at + 1 < len(given) and bool(given[at + 1])
        small = size_px * 4 // 5 if role and size_px >= 15 else size_px
        weight: text.Weight = "Regular" if role else "Semibold"
        font = text.load(edit.font, small, weight)
        parts = text.wrap(line, font, int(width * 0.86)) or [""]
        lines += [Line(part, small, weight, QUIET if role else 1.0) for part in parts]
    return lines
