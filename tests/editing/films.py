"""Small films and songs whose every value is known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from longvid.video import reader, writer

FPS = Fraction(12)
SIZE = (96, 64)
SHOTS = (
    {"title": "Hills", "prompt": "green hills at dawn", "start_frame": 0, "end_frame": 24, "cut": False},
    {"title": None, "prompt": "the sea", "start_frame": 24, "end_frame": 48, "cut": True},
    {"title": "Night", "prompt": "a <b>city</b> at night", "start_frame": 48, "end_frame": 72, "cut": False},
)
METADATA = {"title": "A day", "seed": "7", "model": "tiny", "longvid": "0.1.0"}
LEVELS = (60, 140, 200)
"""Of each shot's first frame; every frame is one brighter than the one before."""


def picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Frame ``number`` of the film [h w 3]: a grey that tells which, and a darker left edge."""
    shot = min(number // 24, 2)
    pixels = np.full((size[1], size[0], 3), LEVELS[shot] + number % 24, np.uint8)
    pixels[:, : size[0] // 8] //= 2
    return pixels


@dataclass(frozen=True)
class Sound:
    """Samples [n c] as AAC beside the picture."""

    samples: np.ndarray
    rate: int = 48_000
    language: str = "eng"

    def add_to(self, container: av.container.OutputContainer) -> Iterator[av.Packet]:
        layout = "mono" if self.samples.shape[1] == 1 else "stereo"
        stream = container.add_stream("aac", rate=self.rate, layout=layout)
        stream.metadata["language"] = self.language

        def packets() -> Iterator[av.Packet]:
            planes = np.ascontiguousarray(self.samples.T, np.float32)
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = self.rate, 0, Fraction(1, self.rate)
            yield from stream.encode(frame)
            yield from stream.encode(None)

        return packets()


def write_film(
    path: Path,
    *,
    shots: Sequence[dict[str, Any]] = SHOTS,
    sound: Sound | None = None,
    size: tuple[int, int] = SIZE,
    chapters: bool = True,
) -> Path:
    """A film of 6 seconds as `longvid render` writes it, in segments of 12 frames."""
    segments = [
        writer.encode(np.stack([picture(i, size) for i in range(start, start + 12)]), FPS, 10)
        for start in range(0, 72, 12)
    ]
    named = [writer.Chapter(s["title"] or s["prompt"], s["start_frame"], s["end_frame"]) for s in shots]
    metadata = {**METADATA, "shots": json.dumps(shots)} if shots else METADATA
    writer.remux(segments, path, FPS, named if chapters else [], metadata, sound)
    return path


def tone(seconds: float, dbfs: float, hertz: float = 1000, rate: int = 48_000) -> np.ndarray:
    """A sine [n 2] of this peak."""
    wave = np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate) * 10 ** (dbfs / 20)
    return np.repeat(wave[:, None], 2, axis=1).astype(np.float32)


def write_wav(path: Path, samples: np.ndarray, rate: int = 48_000) -> Path:
    """Samples [n 2] as a WAV of floats: nothing is lost."""
    with av.open(str(path), "w", format="wav") as container:
        stream = container.add_stream("pcm_f32le", rate=rate, layout="stereo")
        packed = np.ascontiguousarray(samples, np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def packets(path: Path, kind: str = "video") -> list[tuple[Fraction, bytes]]:
    """(time, content) of each packet of the first stream of a kind, as stored."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [(p.pts * p.time_base, bytes(p)) for p in container.demux(stream) if p.size]


def decoded(path: Path) -> list[tuple[Fraction, np.ndarray]]:
    return list(reader.frames(path))


def heard(path: Path, track: int = 0) -> np.ndarray:
    """Samples [n c] of a track of sound, as a player hears them."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(container.streams.audio[track])]
    return np.concatenate(frames, axis=1).T


def db(samples: np.ndarray) -> float:
    """The level of a sine, by its peak."""
    return float(20 * np.log10(np.sqrt(2 * np.mean(np.square(samples, dtype=np.float64)))))
