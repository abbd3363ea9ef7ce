"""What is heard: the film's own sound, and music under it, as a stream of samples.

Sound is a row of blocks [n c] in float32, a hundredth of a second each, from the film's first frame on. No
more than a few blocks are held, however long film and song are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from longvid.errors import UserError
from longvid.video.opening import opened

if TYPE_CHECKING:
    from av.container import InputContainer
    from numpy.typing import NDArray

    Blocks = Iterator[NDArray[np.float32]]

BLOCKS_A_SECOND = 100
MUSIC_LUFS = -16.0
"""Loudness to which music is brought (ITU-R BS.1770, the whole song): that of films on the web."""
MAX_GAIN_DB = 20.0
"""A very quiet song is raised by no more."""
DUCK_DB = -15.0
"""Music under the film's own sound."""
DUCK_DOWN_SECONDS = 0.25
"""How long before a sound the music begins to give way."""
DUCK_HOLD_SECONDS = 0.6
"""How long after it the music stays down."""
DUCK_UP_SECONDS = 1.0
SILENCE_LUFS = -70.0
"""The least that the meter shows."""
GAP_SECONDS = 0.05
"""Times in a file that differ by less from its samples are only rounded."""
SOUND_DBFS = -45.0
"""What is quieter than this (RMS of a block) is not listened to."""
CEILING = 10 ** (-1 / 20)
"""No sample of a mix lies above: 1 dB below full scale."""
SEAM_SECONDS = 1.0
"""The song's end and its next beginning overlap by this much."""
MUSIC_IN_SECONDS = 0.5
MUSIC_OUT_SECONDS = 3.0


@dataclass(frozen=True)
class Song:
    """A file with sound, measured."""

    path: Path
    samples: int
    """Its length at ``rate``."""
    rate: int
    gain: float
    """Brings it to MUSIC_LUFS."""


def listen(path: Path, rate: int) -> Song:
    """Measure the whole file, once. Raises UserError where there is nothing to hear in it."""
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "there is no such file"
        raise UserError(f"{path}: {problem}; music is a file such as song.mp3")
    try:
        samples, lufs = loudness(decoded(path, rate, "stereo"), rate)
    except UserError as error:
        raise UserError(f"{path}: is no music that can be read; convert it to MP3 or WAV") from error
    if samples < rate // BLOCKS_A_SECOND:
        raise UserError(f"{path}: there is nothing to hear in it; music is a file such as song.mp3")
    gain_db = min(MUSIC_LUFS - lufs, MAX_GAIN_DB) if lufs > SILENCE_LUFS else 0.0
    return Song(path, samples, rate, 10 ** (gain_db / 20))


def loudness(sound: Blocks, rate: int) -> tuple[int, float]:
    """How many samples [n 2] there are, and their integrated loudness in LUFS (-70: silence)."""
    graph = av.filter.Graph()
    begin = graph.add_abuffer(sample_rate=rate, format="flt", layout="stereo", time_base=Fraction(1, rate))
    meter, end = graph.add("ebur128", "metadata=1:framelog=quiet"), graph.add("abuffersink")
    begin.link_to(meter)
    meter.link_to(end)
    graph.configure()
    samples, lufs = 0, SILENCE_LUFS
    for block in chain(sound, [None]):
        frame = None
        if block is not None:
            frame = audio_frame(block, rate, "stereo", samples)
            samples += len(block)
        graph.push(frame)
        with suppress(av.BlockingIOError, av.EOFError):
            while True:
                lufs = float(graph.pull().metadata.get("lavfi.r128.I", SILENCE_LUFS))
    return samples, lufs


def audio_frame(block: NDArray[np.float32], rate: int, layout: str, at: int) -> av.AudioFrame:
    """Samples [n c] as a frame that begins with the film's sample ``at``."""
    packed = np.ascontiguousarray(block, np.float32).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
    return frame


def decoded(
    path: Path, rate: int, layout: str, index: int | None = None, start: Fraction | None = None
) -> Blocks:
    """The sound of a stream (by default the file's first), samples [n c], the first being heard at ``start``
    on the file's clock (by default, when the stream begins).

    A gap is silence, and what comes twice is heard once. Raises UserError where nothing can be read.
    """
    with opened(path) as container:
        streams = [stream for stream in container.streams.audio if index is None or stream.index == index]
        if not streams:
            raise UserError(f"{path}: has no sound")
        resampler = av.AudioResampler("flt", layout, rate)
        channels = av.AudioLayout(layout).nb_channels
        done, drop = 0, 0
        for frame in chain(_frames(container, streams[0]), [None]):
            if frame is not None and frame.pts is not None:
                time = frame.pts * Fraction(frame.time_base or 1)
                start = time if start is None else start
                lag = round((time - start) * rate) - done
                if not done or abs(lag) > rate * GAP_SECONDS:
                    drop = max(-lag, 0)
                    while lag > 0:
                        yield np.zeros((min(lag, rate), channels), np.float32)
                        done += min(lag, rate)
                        lag -= rate
            for piece in resampler.resample(frame):
                samples = piece.to_ndarray().astype(np.float32, copy=False).reshape(-1, channels)
                skipped = min(drop, len(samples))
                drop -= skipped
                done += len(samples) - skipped
                if len(samples) > skipped:
                    yield samples[skipped:]


def _frames(container: InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    """What can be decoded of the stream; damaged parts are left out."""
    for packet in container.demux(stream):
        with suppress(av.InvalidDataError):
            yield from packet.decode()


def looped(played: Song) -> Blocks:
    """The song at its gain, over and over, samples [n 2]: its end and its next beginning overlap, at equal
    power."""
    overlap = min(round(SEAM_SECONDS * played.rate), played.samples // 4)
    angle = np.linspace(0, np.pi / 2, overlap, dtype=np.float32)[:, None]
    held = np.zeros((0, 2), np.float32)
    while True:
        queue, seam = np.zeros((0, 2), np.float32), held
        for block in decoded(played.path, played.rate, "stereo"):
            queue = np.concatenate([queue, block * np.float32(played.gain)])
            if len(seam) and len(queue) >= overlap:
                queue[:overlap] = queue[:overlap] * np.sin(angle) + seam * np.cos(angle)
                seam = seam[:0]
            if not len(seam) and len(queue) > overlap:
                yield queue[:-overlap]
                queue = queue[-overlap:]
        held = queue


def blocks(sound: Blocks, size: int, samples: int) -> Blocks:
    """The first ``samples`` samples [n c] as blocks of ``size`` (the last is what is left), and silence where
    there are not as many. An empty sound has two channels."""
    queue: NDArray[np.float32] | None = None
    done = 0
    while done < samples:
        wanted = min(size, samples - done)
        while queue is None or len(queue) < wanted:
            more = next(sound, None)
            if more is None:
                channels = 2 if queue is None else queue.shape[1]
                more = np.zeros((size, channels), np.float32)
            queue = more if queue is None else np.concatenate([queue, more])
        yield queue[:wanted]
        queue = queue[wanted:]
        done += wanted


def faded(sound: Blocks, rise: int, end: int, fall: int) -> Blocks:
    """Sample i at i / rise of its strength, and so towards sample ``end``, behind which nothing is heard."""
    at = 0
    for block in sound:
        i = np.arange(at, at + len(block), dtype=np.float64)
        gain = (i < end).astype(np.float64)
        if rise:
            gain *= np.minimum(i / rise, 1)
        if fall:
            gain *= np.clip((end - 1 - i) / fall, 0, 1)
        yield (block * gain[:, None]).astype(np.float32)
        at += len(block)


def ducked(kept: Blocks, music: Blocks) -> Blocks:
    """The kept sound, and the music, which gives way before it and comes back when it is over. Blocks of a
    hundredth of a second."""
    ahead = round(DUCK_DOWN_SECONDS * BLOCKS_A_SECOND)
    hold = round(DUCK_HOLD_SECONDS * BLOCKS_A_SECOND)
    down, up = DUCK_DB / ahead, -DUCK_DB / (DUCK_UP_SECONDS * BLOCKS_A_SECOND)
    threshold = 10 ** (SOUND_DBFS / 20)
    coming: deque[NDArray[np.float32]] = deque()
    read, last_loud = 0, -hold - ahead - 1
    gain_db: float | None = None
    for number, song_block in enumerate(music):
        for block in islice(kept, number + ahead + 1 - read):
            coming.append(block)
            if float(np.sqrt(np.mean(np.square(block, dtype=np.float64)))) > threshold:
                last_loud = read
            read += 1
        if not coming:
            return
        block = coming.popleft()
        wanted_db = DUCK_DB if last_loud >= number - hold else 0.0
        gain_db = wanted_db if gain_db is None else gain_db  # a film that begins loud has its music low
        next_db = max(gain_db + down, wanted_db) if wanted_db < gain_db else min(gain_db + up, wanted_db)
        line_db = np.linspace(gain_db, next_db, len(block), endpoint=False)[:, None]
        yield (block + song_block * 10 ** (line_db / 20)).astype(np.float32)
        gain_db = next_db


def limited(sound: Blocks) -> Blocks:
    """The same, but no sample above CEILING: a block that is louder is turned down, smoothly from border to
    border."""
    left = None
    for block, coming in pairwise(chain(sound, [None])):
        assert block is not None
        level = _level(block)
        left = level if left is None else left
        right = level if coming is None else min(level, _level(coming))
        line = np.linspace(left, right, len(block), endpoint=False, dtype=np.float32)
        yield block * line[:, None]
        left = right


def _level(block: NDArray[np.float32]) -> float:
    peak = float(np.abs(block).max(initial=0))
    return min(1.0, CEILING / peak) if peak else 1.0
