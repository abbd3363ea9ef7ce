"""From a decoder's frame to pixels as shown: RGB, Rec. 709 SDR, opaque, square, upright."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import av
import numpy as np
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARP = Interpolation.LANCZOS | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
CONVERSION = SHARP | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP

SDR_WHITE_NITS = 203
"""What HDR shows as diffuse white (ITU-R BT.2408)."""
HLG_PEAK_NITS = 1000
BT2020_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)
KNEE = 0.5
"""Linear light, of SDR white, up to which tones stay as they are."""
DISPLAY_GAMMA = 2.4
"""An SDR screen's (ITU-R BT.1886)."""

CHROMATICITIES = {
    ColorPrimaries.BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    ColorPrimaries.BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    ColorPrimaries.SMPTE432: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""x, y of red, green and blue; white is D65 in all. SMPTE 432 is Display P3."""
D65 = (0.3127, 0.3290)
MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.SMPTE170M,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
"""By the numbers that frames carry (ITU-T H.273). No other is converted here."""


@dataclass(frozen=True)
class Orientation:
    """What makes stored pixels upright: first swap rows and columns, then reverse them."""

    swapped: bool = False
    rows_reversed: bool = False
    columns_reversed: bool = False

    @classmethod
    def of_matrix(cls, a: float, b: float, c: float, d: float) -> Orientation:
        """Of a display matrix, by which pixel (x, y) is shown at (a x + c y, b x + d y): its nearest."""
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, rows_reversed=b < 0, columns_reversed=c < 0)
        return cls(False, rows_reversed=d < 0, columns_reversed=a < 0)

    def upright(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pixels [h w 3] as shown."""
        if self.swapped:
            pixels = pixels.swapaxes(0, 1)
        if self.rows_reversed:
            pixels = pixels[::-1]
        if self.columns_reversed:
            pixels = pixels[:, ::-1]
        return np.ascontiguousarray(pixels)


EXIF_ORIENTATIONS = (
    Orientation(False, False, False),
    Orientation(False, False, True),
    Orientation(False, True, True),
    Orientation(False, True, False),
    Orientation(True, False, False),
    Orientation(True, False, True),
    Orientation(True, True, True),
    Orientation(True, True, False),
)
"""EXIF's values 1 to 8."""


def orientation(frame: av.VideoFrame) -> Orientation:
    """As the frame's display matrix tells."""
    try:
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV knows not all kinds of FFmpeg's side data, and then lists none; the angle alone it still tells.
        matrix = None
    if matrix is not None:
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
        return Orientation.of_matrix(a, b, c, d)
    angle = math.radians(frame.rotation)
    return Orientation.of_matrix(math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle))


def is_hdr(frame: av.VideoFrame) -> bool:
    """Whether its transfer curve is PQ or HLG."""
    return frame.color_trc in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)


def rgb(frame: av.VideoFrame, size: tuple[int, int], reformatter: VideoReformatter) -> NDArray[np.uint8]:
    """Pixels [h w 3] of a frame, brought to (width, height), not yet turned upright.

    What lies behind transparent pixels is black. A frame that tells no known matrix has that of HD
    (BT.709) or SD (BT.601) by its size, as players take it.
    """
    opaque = not any(component.is_alpha for component in frame.format.components)
    wide = is_hdr(frame) or frame.color_primaries in CHROMATICITIES.keys() - {ColorPrimaries.BT709}
    by_size = Colorspace.ITU709 if frame.width >= 1280 or frame.height > 576 else Colorspace.ITU601
    known_range = frame.color_range in (ColorRange.UNSPECIFIED, ColorRange.MPEG, ColorRange.JPEG)
    converted: NDArray[Any] = reformatter.reformat(
        frame,
        *size,
        format=("rgb48le" if opaque else "rgba64le") if wide else ("rgb24" if opaque else "rgba"),
        src_colorspace=None if frame.format.is_rgb else MATRICES.get(frame.colorspace, by_size),
        src_color_range=None if known_range else ColorRange.MPEG,
        interpolation=CONVERSION,
        threads=1,
    ).to_ndarray()
    pixels = converted[..., :3]
    if wide:
        p3 = frame.color_primaries == ColorPrimaries.SMPTE432
        primaries = ColorPrimaries.SMPTE432 if p3 else ColorPrimaries.BT2020
        pixels = to_sdr(pixels, frame.color_trc, primaries)
    if not opaque:
        alpha = converted[..., 3:] / np.float32(np.iinfo(converted.dtype).max)
        pixels = (pixels * alpha + np.float32(0.5)).astype(np.uint8)
    return pixels


def to_sdr(pixels: NDArray[np.uint16], transfer: int, primaries: ColorPrimaries) -> NDArray[np.uint8]:
    """Pixels uint16 [h w 3] of wide colours, and of PQ's, HLG's or SDR's tones, as Rec. 709 uint8 [h w 3].

    In linear light, diffuse white being 1, the colours become Rec. 709's; those outside are clipped. Then all
    three parts of a pixel are scaled alike, so that its hue stays, as this curve does to the greatest, m:

        m                                              up to the knee k
        k + (1 - k) (1 - exp(-(m - k) / (1 - k)))      above

    It goes on smoothly and never reaches 1. Tones without HDR only change their colours.
    """
    linear: NDArray[np.float32] = _to_linear(transfer)[pixels]
    if transfer == ColorTrc.ARIB_STD_B67:
        # A screen's own curve acts on luminance (ITU-R BT.2100, with gamma 1.2 for a peak of 1000 nits).
        linear *= (linear @ BT2020_LUMINANCE)[..., None] ** np.float32(0.2)
        linear *= HLG_PEAK_NITS / SDR_WHITE_NITS
    linear = np.maximum(linear @ _conversion(primaries).T, 0)
    if transfer in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67):
        greatest = np.maximum(np.maximum(linear[..., 0], linear[..., 1]), linear[..., 2])
        above = np.maximum(greatest - KNEE, 0) / (1 - KNEE)
        shown = np.minimum(greatest, KNEE) + (1 - KNEE) * (1 - np.exp(-above))
        linear *= (shown / np.maximum(greatest, 1e-6))[..., None]
    code = 255 * np.minimum(linear, 1) ** np.float32(1 / DISPLAY_GAMMA) + np.float32(0.5)
    return code.astype(np.uint8)


@cache
def _to_linear(transfer: int) -> NDArray[np.float32]:
    """Linear light of each of 65536 code values; SDR's white and diffuse white are 1, HLG's peak is 1."""
    code = np.linspace(0, 1, 1 << 16)
    if transfer == ColorTrc.SMPTE2084:
        # SMPTE ST 2084.
        power = code ** (32 / 2523)
        nits = 10000 * (np.maximum(power - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * power)) ** (8192 / 1305)
        return (nits / SDR_WHITE_NITS).astype(np.float32)
    if transfer == ColorTrc.ARIB_STD_B67:
        # ITU-R BT.2100.
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12).astype(np.float32)
    return (code**DISPLAY_GAMMA).astype(np.float32)


@cache
def _conversion(primaries: ColorPrimaries) -> NDArray[np.float32]:
    """The matrix [3 3] from linear light of these primaries to Rec. 709's."""
    return (np.linalg.inv(_to_xyz(ColorPrimaries.BT709)) @ _to_xyz(primaries)).astype(np.float32)


def _to_xyz(primaries: ColorPrimaries) -> NDArray[np.float64]:
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in CHROMATICITIES[primaries]]).T
    x, y = D65
    return columns * np.linalg.solve(columns, [x / y, 1, (1 - x - y) / y])


def fit(pixels: NDArray[np.uint8], size: tuple[int, int], how: Literal["crop", "pad"]) -> NDArray[np.uint8]:
    """Pixels [... h w 3] brought to (width, height) by Lanczos, their shape kept.

    ``crop`` fills all of it and cuts what is over, equally on both sides; ``pad`` shows the whole picture on
    black.
    """
    height, width = pixels.shape[-3:-1]
    factors = size[0] / width, size[1] / height
    factor = max(factors) if how == "crop" else min(factors)
    scaled_width, scaled_height = max(round(width * factor), 1), max(round(height * factor), 1)
    left, top = (size[0] - scaled_width) // 2, (size[1] - scaled_height) // 2
    fitted = np.zeros((*pixels.shape[:-3], size[1], size[0], 3), np.uint8)
    reformatter = VideoReformatter()
    for index in np.ndindex(pixels.shape[:-3]):
        scaled = _scale(pixels[index], (scaled_width, scaled_height), reformatter)
        seen = scaled[max(-top, 0) : max(-top, 0) + size[1], max(-left, 0) : max(-left, 0) + size[0]]
        fitted[index][max(top, 0) :, max(left, 0) :][: seen.shape[0], : seen.shape[1]] = seen
    return fitted


def _scale(
    pixels: NDArray[np.uint8], size: tuple[int, int], reformatter: VideoReformatter
) -> NDArray[np.uint8]:
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    # As three planes that are said to be luma and chroma, each is scaled by itself: RGB would go through YUV.
    planes = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels.transpose(2, 0, 1)), format="yuv444p")
    scaled = reformatter.reformat(planes, *size, interpolation=SHARP, threads=1).to_ndarray()
    return scaled.transpose(1, 2, 0).astype(np.uint8, copy=False)
