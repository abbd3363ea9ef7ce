"""Open-Sora v1.2's sizes of pictures and lengths of films, in pixels, frames and latents. Torch-free."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import isqrt
from typing import Any

from longvid.errors import UserError

PIXEL_STRIDE = 8
CHUNK_FRAMES = 17
CHUNK_LATENTS = 5
LATENT_FRAMES = 4

AREAS = {
    "144p": 144 * 256,
    "240p": 240 * 426,
    "360p": 360 * 640,
    "480p": 480 * 854,
    "720p": 720 * 1280,
    "1080p": 1080 * 1920,
    "2k": 1440 * 2560,
    "4k": 2160 * 3840,
}
"""Pixels of the resolutions that are named by a 16:9 picture's height; other shapes have about as many."""

ASPECT_RATIOS = {
    "3:8": Fraction(3, 8),
    "9:21": Fraction(9, 21),
    "12:25": Fraction(12, 25),
    "1:2": Fraction(1, 2),
    "9:17": Fraction(9, 17),
    "27:50": Fraction(20, 37),
    "9:16": Fraction(9, 16),
    "5:8": Fraction(5, 8),
    "2:3": Fraction(2, 3),
    "3:4": Fraction(3, 4),
    "1:1": Fraction(1),
    "4:3": Fraction(4, 3),
    "3:2": Fraction(3, 2),
    "16:9": Fraction(16, 9),
    "17:9": Fraction(17, 9),
    "2:1": Fraction(2),
    "50:27": Fraction(25, 12),
}
"""Height over width by its name, so "9:16" is the wide one. The published sizes of "27:50" and "50:27" are
those of 20:37 (a film of 1.85:1) and 25:12."""

ODD_SIZES = {
    ("240p", Fraction(2, 3)): (262, 393),
    ("480p", Fraction(12, 25)): (444, 925),
    ("480p", Fraction(4, 3)): (740, 555),
}
"""The published heights and widths whose odd width the rule of all others would make even."""

SQUARES = {"256": 16, "512": 32, "1024": 64, "2048": 128}
"""Resolutions that are named by a square's side: the unit in pixels that their pictures are measured in."""

SQUARE_SHAPES = """
    0.25:8x32 0.26:8x31 0.27:8x30 0.28:8x29 0.32:9x28 0.33:9x27 0.35:9x26 0.40:10x25 0.42:10x24
    0.48:11x23 0.50:11x22 0.52:11x21 0.57:12x21 0.60:12x20 0.68:13x19 0.72:13x18 0.78:14x18 0.82:14x17
    0.88:15x17 0.94:15x16 1.00:16x16 1.07:16x15 1.13:17x15 1.21:17x14 1.29:18x14 1.38:18x13 1.46:19x13
    1.67:20x12 1.75:21x12 2.00:22x11 2.09:23x11 2.40:24x10 2.50:25x10 2.89:26x9 3.00:27x9 3.11:28x9
    3.62:29x8 3.75:30x8 3.88:31x8 4.00:32x8
"""
"""Aspect ratio, height and width in units."""

SQUARE_2880 = 64
SQUARE_2880_SHAPES = """
    0.25:22x90 0.26:22x87 0.27:22x84 0.28:22x81 0.32:25x78 0.33:25x75 0.34:25x73 0.40:28x70 0.42:28x67
    0.47:30x64 0.49:30x61 0.51:30x59 0.55:33x60 0.59:33x56 0.68:36x53 0.72:36x50 0.78:39x50 0.83:39x47
    0.89:42x47 0.93:42x45 1.00:45x45 1.07:45x42 1.12:47x42 1.21:47x39 1.28:50x39 1.39:50x36 1.47:53x36
    1.70:56x33 1.82:60x33 2.03:61x30 2.13:64x30 2.39:67x28 2.50:70x28 2.92:73x25 3.00:75x25 3.12:78x25
    3.68:81x22 3.82:84x22 3.95:87x22 4.00:90x22
"""


@cache
def image_sizes(resolution: str) -> dict[str, tuple[int, int]]:
    """Height and width in pixels of a resolution's pictures, by height over width with two decimals.

    Raises UserError for an unknown resolution.
    """
    if resolution in AREAS:
        return {_decimals(ratio): _sides(resolution, ratio) for ratio in ASPECT_RATIOS.values()}
    if resolution == "2880":
        return _shapes(SQUARE_2880_SHAPES, SQUARE_2880)
    if resolution in SQUARES:
        return _shapes(SQUARE_SHAPES, SQUARES[resolution])
    raise UserError(f"resolution {resolution!r} is unknown; use {', '.join([*AREAS, *SQUARES, '2880'])}")


def image_size(resolution: str, aspect_ratio: str) -> tuple[int, int]:
    """Height and width in pixels, as ("240p", "9:16") is 240 x 426; "0.56" is another name of "9:16".

    Raises UserError for what is not published.
    """
    sizes = image_sizes(resolution)
    ratio = ASPECT_RATIOS.get(aspect_ratio)
    size = sizes.get(aspect_ratio if ratio is None else _decimals(ratio))
    if size is None:
        known = [name for name, ratio in ASPECT_RATIOS.items() if _decimals(ratio) in sizes]
        raise UserError(f"{resolution} has no aspect ratio {aspect_ratio!r}; use {', '.join(known)}")
    return size


def nominal_size(width_px: int, height_px: int) -> tuple[int, int]:
    """Height and width in pixels that the network is told for pictures it makes ``width_px`` x ``height_px``.

    Latents cover whole strides of 8 pixels, so a published size decodes to a little less: 240 x 426 to
    240 x 424. The network was trained under the published numbers: for 424 x 240 it is told 240 x 426, the
    least of the published sizes that decode to it. A size that none decodes to is told as it is.
    """
    candidates = [
        (height, width)
        for resolution in AREAS
        for height, width in image_sizes(resolution).values()
        if (decoded_px(height), decoded_px(width)) == (height_px, width_px)
    ]
    return min(candidates, key=lambda size: size[0] * size[1], default=(height_px, width_px))


def decoded_px(nominal_px: int) -> int:
    """The side that a nominal one decodes to: whole strides of 8 pixels."""
    return nominal_px // PIXEL_STRIDE * PIXEL_STRIDE


def latent_size(frames: int, height_px: int, width_px: int) -> tuple[int, int, int]:
    """Latent frames, rows and columns of a video: 5 latents for 17 frames, one for 4 left over."""
    chunks, rest = divmod(frames, CHUNK_FRAMES)
    latents = CHUNK_LATENTS * chunks + -(-rest // LATENT_FRAMES)
    return latents, height_px // PIXEL_STRIDE, width_px // PIXEL_STRIDE


def chunk_frames(latents: int) -> int:
    """Frames of so many latents, whole chunks of 5. Raises ValueError for others."""
    chunks, rest = divmod(latents, CHUNK_LATENTS)
    if rest:
        raise ValueError(f"{latents} latents are no whole chunks of {CHUNK_LATENTS}")
    return chunks * CHUNK_FRAMES


def frames(length: str | int) -> int:
    """Frames of a length: a number of them, "4x" of 51 each, or "8s" at 25.5 a second (2 s are 51).

    Raises UserError for any other.
    """
    found = re.fullmatch(r"(\d+)([xs]?)", str(length), re.ASCII)
    if not found:
        raise UserError(
            f"length {length!r}: use a number of frames, as 102, or an even one of seconds, as '4s'"
        )
    number, unit = int(found[1]), found[2]
    if unit == "s":
        if number % 2:
            raise UserError(
                f"length {length!r}: {number} s are no whole frames at 25.5 a second; use even ones"
            )
        return 51 * number // 2
    return 51 * number if unit else number


def nearest_chunk_start(latent: int, chunk_latents: int, latents: int) -> int:
    """The chunk border nearest to ``latent``, half a chunk going down.

    Rounding up stops at the start of the last of the whole chunks in ``latents``.
    """
    chunk, past = divmod(latent, chunk_latents)
    up = 2 * past > chunk_latents and chunk < latents // chunk_latents - 1
    return (chunk + up) * chunk_latents


@dataclass(frozen=True)
class ClipLatents:
    """Latents of a conditioning clip that stand in a film's window while it is denoised (masked sampling).

    In generation ``loop``, ``latents`` of clip number ``clip``, from its ``clip_start`` on, take the window's
    place from ``start`` on; negative starts count from the end. They are held until the level falls to
    ``edit``: 0 keeps them, 1 denoises them as if they were new.
    """

    loop: int
    clip: int = 0
    clip_start: int = 0
    start: int = 0
    latents: int = 1
    edit: float = 0.0


def mask_strategy(text: str) -> list[ClipLatents]:
    """Entries between semicolons, each the fields of ClipLatents between commas, the last ones left out.

    Raises UserError where an entry is none.
    """
    return [_clip_latents(entry) for entry in text.split(";")] if text else []


def _clip_latents(entry: str) -> ClipLatents:
    kinds = [int, int, int, int, int, float]
    try:
        values: list[Any] = [kinds[place](value) for place, value in enumerate(entry.split(","))]
        return ClipLatents(*values)
    except (IndexError, ValueError) as error:
        raise UserError(
            f"mask strategy {entry!r}: use at most loop,clip,clip_start,start,latents,edit, "
            "as '0,0,-5,0,5,0.3'"
        ) from error


def _decimals(ratio: Fraction) -> str:
    return f"{float(ratio):.2f}"


def _sides(resolution: str, ratio: Fraction) -> tuple[int, int]:
    """Height, then width, rounded down and up again to an even one; at 144p only down."""
    odd = resolution == "144p"
    height = _side(AREAS[resolution] * ratio, odd)
    return ODD_SIZES.get((resolution, ratio)) or (height, _side((height / ratio) ** 2, odd))


def _side(square: Fraction, odd: bool) -> int:
    side = isqrt(int(square))
    return side if odd else side + side % 2


def _shapes(shapes: str, unit_px: int) -> dict[str, tuple[int, int]]:
    found = {}
    for shape in shapes.split():
        ratio, height, width = re.split("[:x]", shape)
        found[ratio] = int(height) * unit_px, int(width) * unit_px
    return found
