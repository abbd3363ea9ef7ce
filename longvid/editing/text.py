"""Letters: a text set into lines that fit, and laid over a picture."""

from __future__ import annotations

import importlib.util
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from importlib.resources import files
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from longvid.document import show
from longvid.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

Weight = Literal["Light", "Regular", "Semibold"]
LINE_HEIGHT = Fraction(5, 4)
"""From one line to the next, in sizes of the letters."""
SHADOW = 0.75
"""How much darker the shadow makes the picture where it is densest."""
FINER = 4
"""Letters are drawn this many times as large, and reduced."""
MISSING = "\U0010fffe"
"""No font has this character: what is drawn for it is drawn for all that a font lacks."""


@dataclass(frozen=True)
class Line:
    """One line of text. ``brightness``: 1 is white."""

    text: str
    size_px: int
    weight: Weight = "Regular"
    brightness: float = 1.0


@dataclass(frozen=True)
class Lettering:
    """White letters and the shadow under them, at their place in the picture."""

    left_px: int
    top_px: int
    ink: NDArray[np.float32]
    """How much of each pixel is letter [h w], 0 to 1."""
    shade: NDArray[np.float32]
    """How much of each pixel's light the shadow takes [h w], 0 to 1."""


def check_installed() -> None:
    """Raise UserError where what draws letters is not there."""
    if any(importlib.util.find_spec(name) is None for name in ("PIL", "font_source_sans_pro")):
        raise UserError("letters and pictures need Pillow and a font; run: pip install 'longvid[edit]'")


@lru_cache(maxsize=64)
def load(path: Path | None, size_px: int, weight: Weight = "Regular") -> FreeTypeFont:
    """A font at this size: the file, or Source Sans, which the extra ``edit`` brings. Raises UserError."""
    check_installed()
    from PIL import ImageFont

    if path is None:
        own = files("font_source_sans_pro") / "files" / f"SourceSansPro-{weight}.ttf"
        return ImageFont.truetype(str(own), size_px)
    try:
        return ImageFont.truetype(str(path), size_px)
    except OSError as error:
        if not path.is_file():
            raise UserError(f"{path}: there is no such font file") from error
        raise UserError(f"{path}: is no font that can be read; give a .ttf or .otf file") from error


def check_letters(text: str, path: Path | None, what: str) -> None:
    """Raise UserError where the font lacks a letter of the text."""
    font = load(path, 32)
    missing = _drawn(font, MISSING)
    for letter in dict.fromkeys(text):
        if letter.isspace() or unicodedata.category(letter) in ("Cf", "Mn", "Me"):
            continue
        if unicodedata.category(letter)[0] == "C" or _drawn(font, letter) == missing:
            named = f"{letter} (U+{ord(letter):04X})" if letter.isprintable() else f"U+{ord(letter):04X}"
            raise UserError(f"{what}: the font {font.getname()[0]} has no {named}; name another with --font")


def _drawn(font: FreeTypeFont, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)


def wrap(text: str, font: FreeTypeFont, width_px: int) -> list[str]:
    """The text in as few lines of at most this width as can be, and those as even as can be.

    A word that is wider than a line is broken where it must.
    """
    lines = _fill(text, font, width_px)
    widest = ceil(max(map(font.getlength, text.split()), default=1))
    low, high = min(widest, width_px), width_px  # the narrowest width that needs no more lines
    while low < high:
        middle = (low + high) // 2
        if len(_fill(text, font, middle)) <= len(lines):
            high = middle
        else:
            low = middle + 1
    return _fill(text, font, high)


def _fill(text: str, font: FreeTypeFont, width_px: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width_px:
            lines[-1] = f"{lines[-1]} {word}"
            continue
        lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width_px:
                lines.append("")
            lines[-1] += letter
    return lines


def fitting(
    text: str,
    path: Path | None,
    weight: Weight,
    width_px: int,
    sizes_px: Sequence[int],
    most_lines: int,
    what: str,
) -> list[Line]:
    """The text's lines, in the first of the sizes in which no more than ``most_lines`` are needed and no word
    is broken. Raises UserError where there is none."""
    check_letters(text, path, what)
    for size_px in sizes_px:
        font = load(path, size_px, weight)
        lines = [line for part in text.splitlines() for line in wrap(part, font, width_px)]
        whole = all(font.getlength(word) <= width_px for word in text.split())
        if len(lines) <= most_lines and (whole or " " not in text.strip()):
            return [Line(line, size_px, weight) for line in lines]
    raise UserError(f"{what}: {show(text, 40)} has {len(text)} characters, more than fit the picture")


def height(lines: Sequence[Line]) -> int:
    """Height in pixels of lines below one another; an empty line is half as high."""
    return sum(_advance(line) for line in lines)


def _advance(line: Line) -> int:
    full = int(line.size_px * LINE_HEIGHT)
    return full if line.text else full // 2


def lettering(
    lines: Sequence[Line], path: Path | None, size: tuple[int, int], top_px: int, shadow: bool = True
) -> Lettering:
    """Centred lines, one below the other from ``top_px`` on, as what they cover of a picture of this size."""
    from PIL import Image, ImageChops, ImageFilter

    width, _ = size
    blur_px = max(max((line.size_px for line in lines), default=0) / 7, 1.0) if shadow else 0.0
    margin = int(4 * blur_px)
    page = Image.new("L", (width, height(lines) + 2 * margin))
    y = margin
    for line in lines:
        page.paste(strip(line, path, width), (0, y))
        y += _advance(line)
    if shadow:
        near, far = (page.filter(ImageFilter.GaussianBlur(blur_px / part)) for part in (3, 1))
        under = ImageChops.add(near, far)
    else:
        under = Image.new("L", page.size)
    left, top, right, bottom = ImageChops.lighter(under, page).getbbox() or (0, 0, 1, 1)
    ink = np.asarray(page, np.float32)[top:bottom, left:right] / np.float32(255)
    shade = np.asarray(under, np.float32)[top:bottom, left:right] / np.float32(255)
    return Lettering(
        left, top_px - margin + top, ink, np.minimum(shade * np.float32(1.4), 1) * np.float32(SHADOW)
    )


def strip(line: Line, path: Path | None, width: int, at: Literal["l", "m"] = "m") -> Image:
    """What a line at the left or in the middle covers of each pixel, 0 to 255, as a picture of this width.

    It is drawn larger and reduced: at their own size a font's letters lie on whole pixels, unevenly.
    """
    from PIL import Image, ImageDraw

    drawn = Image.new("L", (max(width, 1) * FINER, max(_advance(line), 1) * FINER))
    ImageDraw.Draw(drawn).text(
        (drawn.width // 2 if at == "m" else 0, drawn.height // 2),
        line.text,
        fill=round(255 * line.brightness),
        font=load(path, line.size_px * FINER, line.weight),
        anchor=f"{at}m",
    )
    return drawn.reduce(FINER)


def lay(pixels: NDArray[np.uint8], letters: Lettering, opacity: Fraction) -> NDArray[np.uint8]:
    """The picture [h w 3] with the letters on it; what lies outside of it is cut off."""
    high, wide, _ = pixels.shape
    rows, columns = letters.ink.shape
    top, left = max(letters.top_px, 0), max(letters.left_px, 0)
    bottom, right = min(letters.top_px + rows, high), min(letters.left_px + columns, wide)
    if not opacity or top >= bottom or left >= right:
        return pixels
    inside = np.s_[
        top - letters.top_px : bottom - letters.top_px, left - letters.left_px : right - letters.left_px
    ]
    strength = np.float32(float(opacity))
    ink = letters.ink[inside][..., None] * strength
    shade = letters.shade[inside][..., None] * strength**2  # behind the ink, or letters would come in dark
    under = pixels[top:bottom, left:right].astype(np.float32) * (1 - shade)
    drawn = pixels.copy()
    drawn[top:bottom, left:right] = np.rint(under + (255 - under) * ink).astype(np.uint8)
    return drawn
