from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from longvid.video import source, writer
from longvid.video.soundtrack import Soundtrack
from tests.video.test_writer import picture

FPS = Fraction(25)
TONE_HERTZ = 440


def tone(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """A tone [channels n] with a click a quarter of a second after its beginning."""
    time = np.arange(round(seconds * rate)) / rate
    samples = 0.2 * np.sin(2 * np.pi * TONE_HERTZ * time)
    samples[round(0.25 * rate)] = 1
    return np.repeat(samples[None].astype(np.float32), channels, axis=0)


def clip(path, *tracks, seconds=2, delays=(), **options):
    """A clip with a track for each (codec, rate): a tone that begins ``delays`` seconds after the picture."""
    with av.open(str(path), "w", **options) as container:
        video = container.add_stream("libx264", rate=FPS, options={"threads": "1", "bf": "0"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        streams = [container.add_stream(codec, rate=rate, layout="mono") for codec, rate in tracks]
        for number, stream in enumerate(streams):
            stream.metadata["language"] = ("eng", "deu")[number]
        packets = []
        for index, pixels in enumerate(picture(int(seconds * FPS))):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, 1 / FPS
            packets += video.encode(frame)
        packets += video.encode()
        for number, stream in enumerate(streams):
            frame = av.AudioFrame.from_ndarray(tone(seconds, stream.rate), format="fltp", layout="mono")
            frame.sample_rate, frame.time_base = stream.rate, Fraction(1, stream.rate)
            frame.pts = round((delays[number] if delays else 0) * stream.rate)
            packets += [*stream.encode(frame), *stream.encode()]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def written(tmp_path, clip, *, seconds=None, fades=False):
    """A film of one second more than the clip, with the clip's sound."""
    probed = source.probe(clip)
    film = tmp_path / "film.mp4"
    content = writer.encode(picture(probed.frames + 25), FPS, 30)
    writer.remux([content], film, FPS, (), {}, Soundtrack(probed, fades))
    return film


def heard(path, track=0) -> tuple[np.ndarray, int]:
    """Samples [n] on the film's clock, from 0 on, and their rate."""
    with av.open(str(path)) as container:
        rate = container.streams.audio[track].rate
        samples = np.zeros(rate * 8, np.float32)
        last = 0
        for frame in container.decode(audio=track):
            begin = round(frame.pts * frame.time_base * rate)
            mono = frame.to_ndarray()
            mono = mono.reshape(-1)[:: len(frame.layout.channels)] if not frame.format.is_planar else mono[0]
            if mono.dtype != np.float32:
                mono = mono / np.float32(np.iinfo(mono.dtype).max)
            skip = max(-begin, 0)
            last = max(begin, 0) + len(mono) - skip
            samples[max(begin, 0) : last] = mono[skip:]
    return samples[:last], rate


def click_seconds(path, track=0) -> float:
    samples, rate = heard(path, track)
    return int(np.abs(samples).argmax()) / rate


def packets(path, track=0):
    with av.open(str(path)) as container:
        return [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in container.demux(audio=track)
            if packet.size
        ]


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [
        ("aac", "mp4"),
        ("aac", "ts"),
        ("aac", "mkv"),
        ("ac3", "mkv"),
        ("alac", "mov"),
        ("eac3", "mkv"),
        ("flac", "mkv"),
        ("libmp3lame", "mp4"),
        ("libopus", "mkv"),
    ],
)
def test_a_track_is_copied_in_sync(tmp_path, codec, suffix):
    clipped = clip(tmp_path / f"clip.{suffix}", (codec, 48000))
    film = written(tmp_path, clipped)
    with av.open(str(clipped)) as before, av.open(str(film)) as after:
        assert after.streams.audio[0].codec_context.name == before.streams.audio[0].codec_context.name
        start = before.streams.video[0].start_time * before.streams.video[0].time_base
    own, copied = packets(clipped), packets(film)
    if suffix != "ts":  # whose packets have headers of their own, which an MP4 does without
        kept = [content for _, content in copied]
        assert kept == [content for _, content in own][: len(kept)]
    assert len(own) - len(copied) <= 2
    assert copied[-1][0] < 2
    for (before, _), (after, _) in zip(own, copied, strict=False):
        assert abs(before - start - after) <= Fraction(1, 1000)
    assert all(a[0] < b[0] for a, b in pairwise(copied))
    assert abs(click_seconds(film) - 0.25) < 0.04, "one frame's time"
    samples, rate = heard(film)
    assert 2 - 0.04 < len(samples) / rate < 2.1


@pytest.mark.parametrize(("codec", "rate", "suffix"), [("pcm_s16le", 44100, "mov"), ("mp2", 48000, "mkv")])
def test_what_an_mp4_does_not_hold_becomes_aac_and_ends_with_the_picture(tmp_path, codec, rate, suffix):
    film = written(tmp_path, clip(tmp_path / f"clip.{suffix}", (codec, rate)))
    with av.open(str(film)) as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.name, stream.rate, stream.channels) == ("aac", rate, 1)
        assert stream.duration * stream.time_base == pytest.approx(2, abs=0.001)
    samples, rate = heard(film)
    assert click_seconds(film) == pytest.approx(0.25, abs=1e-3)
    assert np.abs(samples[2 * rate :]).max(initial=0) < 0.05
    assert np.abs(samples[rate : 2 * rate - 2000]).max() == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("fades", [False, True])
def test_a_late_track_stays_late_and_an_early_one_loses_what_is_before_the_picture(tmp_path, fades):
    film = written(tmp_path, clip(tmp_path / "clip.mkv", ("flac", 48000), delays=[0.5]), fades=fades)
    assert click_seconds(film) == pytest.approx(0.75, abs=1e-3)
    late = clip(tmp_path / "early.mkv", ("flac", 48000), delays=[-0.2])
    film = written(tmp_path, late, fades=fades)
    probed = source.probe(late)
    assert probed.start == pytest.approx(0.2, abs=1e-3)
    assert click_seconds(film) == pytest.approx(0.05, abs=1e-3)


def test_every_track_is_kept_with_its_language(tmp_path):
    clipped = clip(tmp_path / "clip.mkv", ("aac", 48000), ("flac", 44100), delays=[0, 0.3])
    film = written(tmp_path, clipped)
    with av.open(str(film)) as container:
        assert [stream.metadata["language"] for stream in container.streams.audio] == ["eng", "deu"]
        assert [stream.codec_context.name for stream in container.streams.audio] == ["aac", "flac"]
        assert container.streams[0].type == "video"
    assert click_seconds(film, 0) == pytest.approx(0.25, abs=0.002)
    assert click_seconds(film, 1) == pytest.approx(0.55, abs=0.002)


def test_the_last_second_fades_out_in_a_straight_line(tmp_path):
    samples, rate = heard(written(tmp_path, clip(tmp_path / "clip.mov", ("pcm_s16le", 48000)), fades=True))
    for time, gain in [(0.6, 1), (1.0, 1), (1.25, 0.75), (1.5, 0.5), (1.75, 0.25)]:
        around = samples[round((time - 0.01) * rate) : round((time + 0.01) * rate)]
        assert np.abs(around).max() == pytest.approx(0.2 * gain, abs=0.01)
    assert np.abs(samples[2 * rate - 200 :]).max() < 0.005


def test_a_gap_stays_a_gap(tmp_path):
    """A track of which half a second is missing: what follows does not move up."""
    whole = clip(tmp_path / "whole.mkv", ("flac", 48000))
    holed = tmp_path / "holed.mkv"
    with av.open(str(whole)) as before, av.open(str(holed), "w") as after:
        streams = [after.add_stream_from_template(stream) for stream in before.streams]
        for packet in before.demux():
            time = (packet.pts or 0) * packet.time_base
            if packet.size and not (packet.stream.type == "audio" and time < Fraction(1, 2)):
                packet.stream = streams[packet.stream.index]
                after.mux(packet)
    samples, rate = heard(written(tmp_path, holed, fades=True))
    assert np.abs(samples[: round(0.45 * rate)]).max() < 0.01
    assert np.abs(samples[round(0.6 * rate) : rate]).max() == pytest.approx(0.2, abs=0.02)
