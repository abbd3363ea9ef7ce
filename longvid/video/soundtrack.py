"""A source's sound under its own pictures: every track, in sync, until they end.

A track whose codec players expect in an MP4 is copied packet by packet. Others, and those that fade, become
AAC: a part of a track that is encoded does not join seamlessly to one that is copied.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from longvid.video.opening import opened

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.packet import Packet
    from numpy.typing import NDArray

    from longvid.video.source import AudioTrack, Source

COPIED = frozenset({"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"})
MP3_RATE_MIN = 16_000
"""An MP4 holds no slower one."""
PREROLL_SECONDS = Fraction(1, 10)
"""Decoders warm up on packets before the first that is heard; Opus asks for the most, 80 ms. An edit list
hides them."""
FADE_SECONDS = Fraction(1)

AAC_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000)
AAC_LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1")
"""By the number of channels; more than six are mixed down."""
AAC_BITS_PER_CHANNEL = 96_000
JITTER_SECONDS = Fraction(1, 50)
"""By how much a frame's time may be off what came before it (files with milliseconds round) without sound
being cut or silence put in."""


@dataclass(frozen=True)
class Soundtrack:
    """All tracks of a source, from its first picture to its end; where ``fades``, silent by then."""

    source: Source
    fades: bool = False

    def add_to(self, container: OutputContainer) -> Iterator[Packet[Any]]:
        """Give the container a stream for each track; returns their packets, by rising time.

        Raises UserError where the source cannot be read any more.
        """
        tracks = []
        for track in self.source.audio:
            with opened(self.source.path) as file:
                template = file.streams[track.index]
                assert isinstance(template, av.AudioStream)
                codec = template.codec_context.codec.canonical_name
                slow = codec == "mp3" and template.sample_rate < MP3_RATE_MIN
                if codec in COPIED and not slow and not self.fades:
                    stream = container.add_stream_from_template(template)
                    tracks.append(_copied(self.source, track, stream))
                else:
                    rate = template.sample_rate if template.sample_rate in AAC_RATES else 48_000
                    layout = AAC_LAYOUTS[min(template.channels, len(AAC_LAYOUTS)) - 1]
                    stream = container.add_stream("aac", rate=rate, layout=layout)
                    stream.bit_rate = AAC_BITS_PER_CHANNEL * stream.channels
                    tracks.append(_encoded(self.source, track, stream, self.fades))
                stream.metadata["language"] = track.language or "und"
                if title := template.metadata.get("title"):
                    stream.metadata["title"] = title
        return heapq.merge(*tracks, key=_heard_at)


def _heard_at(packet: Packet[Any]) -> Fraction:
    return (packet.dts or 0) * packet.time_base


def _copied(source: Source, track: AudioTrack, stream: AudioStream) -> Iterator[Packet[Any]]:
    """The track's packets from the first picture to the last one's end, the first picture being at 0."""
    last = None
    with opened(source.path) as file:
        for packet in file.demux(file.streams[track.index]):
            at = packet.dts if packet.pts is None else packet.pts
            if at is None:
                continue
            begin = at * packet.time_base - source.start
            length = (packet.duration or 0) * packet.time_base
            if begin >= source.seconds:
                break
            if begin + length < -PREROLL_SECONDS or (last is not None and at <= last):
                continue  # a damaged file may step back in time
            last = at
            packet.pts = packet.dts = at - round(source.start / packet.time_base)
            packet.duration = int(min(length, source.seconds - begin) / packet.time_base)
            packet.stream = stream
            yield packet


def _encoded(
    source: Source, track: AudioTrack, stream: AudioStream, fades: bool
) -> Iterator[Packet[AudioStream]]:
    """The same as AAC."""
    rate = stream.sample_rate
    fade = min(FADE_SECONDS, source.seconds)
    written = 0
    for samples in _samples(source, track, rate, stream.layout.name):
        if fades:
            left = float(source.seconds) - (written + np.arange(samples.shape[1])) / rate
            samples = samples * np.clip(left / float(fade), 0, 1).astype(np.float32)
        if not samples.size:
            continue
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=stream.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = rate, written, Fraction(1, rate)
        written += samples.shape[1]
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _samples(source: Source, track: AudioTrack, rate: int, layout: str) -> Iterator[NDArray[np.float32]]:
    """The track decoded [channels n], without a gap, from the first picture to the last one's end.

    Silence where there is nothing to hear: before a late start, in a gap, for a damaged packet.
    """
    end = round(source.seconds * rate)
    written = 0
    for frame in _decoded(source, track, rate, layout):
        samples = frame.to_ndarray().astype(np.float32, copy=False)
        begin = written
        if frame.pts is not None:
            begin = round((frame.pts * (frame.time_base or 1) - source.start) * rate)
        if written and abs(begin - written) <= JITTER_SECONDS * rate:
            begin = written
        while written < min(begin, end):
            silence = min(begin - written, end - written, rate)
            yield np.zeros((len(samples), silence), np.float32)
            written += silence
        samples = samples[:, max(written - begin, 0) : max(end - begin, 0)]
        yield samples
        written += samples.shape[1]
        if written >= end:
            return


def _decoded(source: Source, track: AudioTrack, rate: int, layout: str) -> Iterator[AudioFrame]:
    """The track's frames as floats, one plane a channel."""
    resampler = av.AudioResampler("fltp", layout, rate)
    with opened(source.path) as file:
        for packet in file.demux(file.streams.audio):
            if packet.stream.index == track.index:
                with suppress(av.InvalidDataError):
                    for frame in packet.decode():
                        yield from resampler.resample(frame)
    yield from resampler.resample(None)
