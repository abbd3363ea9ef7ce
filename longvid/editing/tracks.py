"""Everything in a film beside its picture: tracks of sound, copied or mixed anew, and of captions."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av

from longvid.editing import sound
from longvid.editing.sound import Song

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.stream import Stream

    Packets = Iterator[Packet[Stream]]

BIT_RATE = 192_000
RATES = (44_100, 48_000)
"""Sample rates that are kept; another becomes the last."""


@dataclass(frozen=True)
class Copied:
    """A stream of a file as it is, its clock set to begin at ``start``."""

    path: Path
    index: int
    start: Fraction

    def add_to(self, container: OutputContainer) -> Packets:
        source = av.open(str(self.path))
        like = source.streams[self.index]
        stream = container.add_stream_from_template(like)
        stream.metadata.update({key: like.metadata[key] for key in ("language",) if key in like.metadata})
        return self._packets(source, like, stream)

    def _packets(self, source: av.container.InputContainer, like: Stream, stream: Stream) -> Packets:
        with source:
            tick = Fraction(like.time_base or 1)
            rate = like.average_rate if isinstance(like, av.VideoStream) else None
            for packet in _timed(source.demux(like), round(1 / (rate * tick)) if rate else 0):
                packet.dts = (packet.dts or 0) - round(self.start / tick)
                packet.pts = None if packet.pts is None else packet.pts - round(self.start / tick)
                packet.stream = stream
                yield packet


def _timed(packets: Iterable[Packet[Stream]], lasting: int) -> Packets:
    """The packets that hold anything, all of it, each with a time of decoding, and a duration where none is
    told.

    Matroska stores no such times, and FFmpeg begins to tell them only when it is sure: from there they are
    counted back.
    """
    waiting: list[Packet[Stream]] = []
    for packet in packets:
        if not packet.size or packet.is_corrupt:  # the last one of a file that was cut off
            continue
        packet.duration = packet.duration or lasting
        waiting.append(packet)
        if packet.dts is not None:
            for back, early in enumerate(reversed(waiting)):
                early.dts = packet.dts - back * packet.duration
            yield from waiting
            waiting = []
    for packet in waiting:
        packet.dts = packet.pts
        yield packet


@dataclass(frozen=True)
class Mixed:
    """A track of sound as AAC: what the film has, what is played under it, or both."""

    path: Path
    index: int | None
    """The film's stream; None where it is silent."""
    start: Fraction
    """When the film begins on its file's clock."""
    rate: int
    layout: str
    language: str
    film_samples: int
    samples: int
    """The film's, and those with its credits."""
    fade_samples: int
    song: Song | None

    def add_to(self, container: OutputContainer) -> Packets:
        stream = container.add_stream("aac", rate=self.rate, layout=self.layout)
        stream.bit_rate = BIT_RATE
        stream.time_base = Fraction(1, self.rate)
        if self.language:
            stream.metadata["language"] = self.language
        return self._packets(stream)

    def _packets(self, stream: av.AudioStream) -> Packets:
        at = 0
        for block in self.heard():
            yield from stream.encode(sound.audio_frame(block, self.rate, self.layout, at))
            at += len(block)
        yield from stream.encode(None)

    def heard(self) -> sound.Blocks:
        """The samples [n c], before the encoder."""
        size = self.rate // sound.BLOCKS_A_SECOND
        kept = None
        if self.index is not None:
            whole = sound.decoded(self.path, self.rate, self.layout, self.index, self.start)
            kept = sound.blocks(whole, size, self.samples)
            kept = sound.faded(kept, self.fade_samples, self.film_samples, self.fade_samples)
        if self.song is None:
            return kept or iter(())
        rise = max(round(sound.MUSIC_IN_SECONDS * self.rate), self.fade_samples)
        fall = max(round(sound.MUSIC_OUT_SECONDS * self.rate), self.fade_samples)
        music = sound.blocks(sound.looped(self.song), size, self.samples)
        music = sound.faded(music, min(rise, self.samples // 4), self.samples, min(fall, self.samples // 4))
        return sound.limited(music if kept is None else sound.ducked(kept, music))


@dataclass(frozen=True)
class Captions:
    """Texts (start_frame, end_frame, text) as a track that a player can show."""

    texts: tuple[tuple[int, int, str], ...]
    fps: Fraction

    def add_to(self, container: OutputContainer) -> Packets:
        stream = container.add_mux_stream("mov_text", time_base=1 / self.fps)
        return self._packets(stream)

    def _packets(self, stream: Stream) -> Packets:
        for start, end, text in self.texts:
            content = text.encode()[:MAX_BYTES]
            packet = av.Packet(len(content).to_bytes(2, "big") + content)
            packet.pts = packet.dts = start
            packet.duration, packet.time_base = end - start, 1 / self.fps
            packet.stream = stream
            yield packet


MAX_BYTES = 65_535
Track = Copied | Mixed | Captions


@dataclass(frozen=True)
class Tracks:
    """Several, to be written beside the picture."""

    tracks: tuple[Track, ...]

    def add_to(self, container: OutputContainer) -> Packets:
        """All streams join the container at once; returns their packets, by rising time."""
        return heapq.merge(*[track.add_to(container) for track in self.tracks], key=decoded_at)


def decoded_at(packet: Packet[Stream]) -> Fraction:
    return (packet.dts or 0) * packet.time_base
