import math
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from longvid.video import pixels, source
from longvid.video.pixels import Orientation, fit, to_sdr


def pq(nits: float) -> int:
    """The 16-bit code of so many nits (SMPTE ST 2084)."""
    y = (nits / 10000) ** 0.1593017578125
    return round(65535 * ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375)


def hlg(scene: float) -> int:
    """The 16-bit code of scene light, its peak being 1 (ITU-R BT.2100)."""
    high = 0.17883277 * math.log(max(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return round(65535 * (math.sqrt(3 * scene) if scene <= 1 / 12 else high))


def grey(code: int) -> np.ndarray:
    return np.full((1, 1, 3), code, np.uint16)


def sdr(light: float) -> float:
    return 255 * light ** (1 / 2.4)


@pytest.mark.parametrize("nits", [0, 0.1, 1, 10, 50, 100])
def test_dark_and_middle_tones_stay_as_bright_as_they_are(nits):
    shown = to_sdr(grey(pq(nits)), ColorTrc.SMPTE2084, ColorPrimaries.BT2020)
    assert shown == pytest.approx(np.full((1, 1, 3), sdr(nits / 203)), abs=1)
    scene = (nits / 1000) ** (1 / 1.2)
    shown = to_sdr(grey(hlg(scene)), ColorTrc.ARIB_STD_B67, ColorPrimaries.BT2020)
    assert shown == pytest.approx(np.full((1, 1, 3), sdr(nits / 203)), abs=1)


@pytest.mark.parametrize("nits", [203, 400, 1000])
def test_bright_tones_bend_towards_white(nits):
    wanted = sdr(0.5 + 0.5 * (1 - math.exp(-(nits / 203 - 0.5) / 0.5)))
    assert to_sdr(grey(pq(nits)), ColorTrc.SMPTE2084, ColorPrimaries.BT2020) == pytest.approx(wanted, abs=1)


def test_the_curve_rises_all_the_way_and_has_no_edge():
    codes = np.linspace(0, 65535, 4096).astype(np.uint16)
    shown = to_sdr(np.repeat(codes[:, None], 3, 1), ColorTrc.SMPTE2084, ColorPrimaries.BT2020)[:, 0].astype(
        int
    )
    steps = np.diff(shown)
    assert (steps >= 0).all()
    assert steps.max() <= 2
    assert (shown[0], shown[-1]) == (0, 255)


def test_hues_stay_in_bright_colours():
    # 800 and 400 nits of Rec. 709's red and green, in Rec. 2020's primaries (ITU-R BT.2087).
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    linear = to_2020 @ [800, 400, 0]
    shown = to_sdr(
        np.array([[[pq(part) for part in linear]]], np.uint16), ColorTrc.SMPTE2084, ColorPrimaries.BT2020
    )[0, 0]
    assert shown[0] >= 254
    assert shown[1] == pytest.approx(sdr(0.5), abs=2)
    assert shown[2] <= 8


@pytest.mark.parametrize("primaries", [ColorPrimaries.BT2020, ColorPrimaries.SMPTE432])
def test_wide_colours_in_sdr_keep_greys_and_lose_what_is_outside(primaries):
    colours = np.array([[[0, 0, 0], [32896, 32896, 32896], [65535, 65535, 65535], [0, 65535, 0]]], np.uint16)
    shown = to_sdr(colours, ColorTrc.BT709, primaries)[0]
    assert shown[:3] == pytest.approx(np.array([[0] * 3, [128] * 3, [255] * 3]), abs=1)
    assert list(shown[3]) == [0, 255, 0]
    rec709_red = {ColorPrimaries.BT2020: 0.6274, ColorPrimaries.SMPTE432: 0.8225}[primaries]
    part = pixels._conversion(primaries) @ [rec709_red, 0, 0]
    assert part[0] == pytest.approx(
        {ColorPrimaries.BT2020: 1.0418, ColorPrimaries.SMPTE432: 1.0074}[primaries], abs=1e-3
    )


@pytest.mark.parametrize(
    ("transfer", "code"), [(ColorTrc.SMPTE2084, pq(80)), (ColorTrc.ARIB_STD_B67, hlg(0.12))]
)
def test_hdr_clips_are_shown_in_sdr(tmp_path, transfer, code):
    path = tmp_path / "hdr.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx265", rate=25, options={"x265-params": "log-level=none:pools=none:crf=1"}
        )
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        codec = stream.codec_context
        codec.color_trc, codec.color_primaries = transfer, ColorPrimaries.BT2020
        codec.colorspace, codec.color_range = Colorspace.BT2020, ColorRange.MPEG
        for index in range(3):
            luma = np.full((96, 64), 512, np.uint16)
            luma[:64] = 64 + round(code / 65535 * 876)
            frame = av.VideoFrame.from_ndarray(luma, format="yuv420p10le")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found = source.probe(path)
    assert found.notes == ("is HDR, and is shown in SDR",)
    frame = next(source.frames(found))
    assert frame.shape == (64, 64, 3)
    wanted = to_sdr(grey(code), transfer, ColorPrimaries.BT2020)
    assert np.abs(frame.astype(int) - wanted).max() <= 2


def test_ten_bits_become_eight(tmp_path):
    path = tmp_path / "ten.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        for index in range(2):
            planes = np.full((96, 64), 512, np.uint16)
            planes[:64] = 64 + 438
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p10le")
            frame.pts = index
            container.mux(stream.encode(frame))
    frame = next(source.frames(source.probe(path)))
    assert np.abs(frame.astype(int) - 127.5).max() <= 1


@pytest.mark.parametrize("degrees", [0, 90, 180, 270, 40, 320])
def test_an_orientation_is_the_nearest_right_angle(degrees):
    angle = math.radians(degrees)
    found = Orientation.of_matrix(math.cos(angle), math.sin(angle), -math.sin(angle), math.cos(angle))
    stored = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    # The matrix turns clockwise, as y goes down.
    assert np.array_equal(found.upright(stored), np.rot90(stored, -round(degrees / 90)))


def test_fit_leaves_what_fits_already():
    drawn = np.random.default_rng(0).integers(0, 255, (2, 12, 16, 3), np.uint8)
    assert np.array_equal(fit(drawn, (16, 12), "crop"), drawn)
    assert np.array_equal(fit(drawn, (16, 12), "pad"), drawn)


@pytest.mark.parametrize("size", [(64, 64), (40, 90), (200, 30), (16, 16), (33, 47)])
def test_fit_keeps_colours_to_the_edge(size):
    drawn = np.empty((48, 64, 3), np.uint8)
    drawn[:] = 255, 100, 0
    cropped = fit(drawn, size, "crop")
    assert cropped.shape == (size[1], size[0], 3)
    assert (cropped == [255, 100, 0]).all()
    padded = fit(drawn, size, "pad")
    assert padded.shape == cropped.shape
    factor = min(Fraction(size[0], 64), Fraction(size[1], 48))
    inside = (padded == [255, 100, 0]).all(axis=-1)
    assert (padded[~inside] == 0).all()
    assert inside.sum() == round(64 * factor) * round(48 * factor)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    assert abs(rows[0] - (size[1] - 1 - rows[-1])) <= 1, "in the middle"
    assert abs(columns[0] - (size[0] - 1 - columns[-1])) <= 1


def test_crop_cuts_the_same_on_both_sides():
    drawn = np.zeros((40, 80, 3), np.uint8)
    drawn[:, 38:42] = 255
    cropped = fit(drawn, (40, 40), "crop")
    assert np.array_equal(np.flatnonzero(cropped[20, :, 0] > 128), [18, 19, 20, 21])


def test_fit_shrinks_and_enlarges_without_a_shift():
    x = np.linspace(0, 6 * math.pi, 240)
    wave = (127 + 100 * np.sin(x)).astype(np.uint8)
    drawn = np.repeat(np.repeat(wave[None, :, None], 60, 0), 3, 2)
    back = fit(fit(drawn, (120, 30), "crop"), (240, 60), "crop")
    assert np.abs(back.astype(int) - drawn)[:, 8:-8].max() <= 4
