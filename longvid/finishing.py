"""From clean latents to what is on disk: decoded, enlarged, encoded, saved; and the preview."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction

import torch
from safetensors.torch import load_file
from torch import Tensor

from longvid.backends import Carry, Rung, VideoCodec
from longvid.denoise import Finished, WindowState
from longvid.errors import RenderError
from longvid.identities import Identities
from longvid.keeping import Kept
from longvid.plan import RenderPlan
from longvid.progress import ChunkSaved
from longvid.state import Chunk, WorkDirectory, load_state
from longvid.video import post, writer

PREVIEW_SECONDS = 10.0
PREVIEW_SHARE = 0.05
"""Rebuilding the preview may take this share of the time: the longer the film, the rarer."""


@dataclass(frozen=True)
class Clean:
    """A finished unit on its way to disk. ``state``: the loop's behind it, where one can go on from it."""

    finished: Finished
    state: WindowState | None
    denoise_seconds: float


class Finishing:
    """A film's chunks, in their order, one at a time.

    On a card a chunk is decoded on a stream of its own, and encoded and written by a thread, beside the
    denoising of the next one; on a CPU, where both would want the same cores, at once, and so on a rung
    without room for both. The bytes are equal.
    """

    def __init__(
        self,
        planned: RenderPlan,
        names: Identities,
        work: WorkDirectory,
        device: torch.device,
        beside: bool | None = None,
        *,
        done: Sequence[int] = (),
        skipped: int = 0,
        carry: Carry | None = None,
    ) -> None:
        """``beside``: whether there is a thread; None where the device decides. ``done``: frames of each
        chunk that is on disk already, ``skipped`` those that were not written of them, and ``carry`` the
        codec's behind them."""
        self.planned = planned
        self.names = names
        self.work = work
        self.device = device
        self.codec: VideoCodec | None = None
        self.rung: str | None = None
        self.beside = True
        self.carry: Carry = carry or {}
        hidden = planned.units[: planned.start.hidden if planned.start else 0]
        self.skip = sum(unit.decoded_frames for unit in hidden) - skipped
        """Frames still to be decoded that are a clip's, and not the film's."""
        self.written = list(done)
        """Frames of each chunk on disk. A codec that holds some back gives them in a later one."""
        self._count()
        on_card = device.type == "cuda"
        self.thread = ThreadPoolExecutor(1) if (on_card if beside is None else beside) else None
        self.stream = torch.cuda.Stream(device) if on_card and self.thread is not None else None

    def replan(self, planned: RenderPlan, names: Identities) -> None:
        """Go on under another plan, in which what is done is as it is; no chunk is at hand."""
        self.planned, self.names = planned, names
        self._count()

    @property
    def chunks_done(self) -> int:
        return len(self.written)

    @property
    def frames_done(self) -> int:
        return sum(self.written)

    def _count(self) -> None:
        """The frames that each run has still to get."""
        self.frames_left = [0] * len(self.planned.runs)
        for unit in self.planned.units:
            self.frames_left[unit.run] += unit.frames
        for unit, frames in zip(self.planned.units, self.written, strict=False):
            self.frames_left[unit.run] -= frames

    def use(self, load: Callable[[], VideoCodec], rung: Rung) -> VideoCodec:
        """Decode with the codec that ``load`` gives from here on; no chunk is at hand.

        The one before leaves the memory first.
        """
        self.codec = None
        self.codec = load()
        self.rung = None if rung.exact else rung.name
        self.beside = rung.decodes_beside
        return self.codec

    def start(self, clean: Clean) -> Future[ChunkSaved]:
        """Take a chunk on; the one before must be done. Its error, if any, is in the future."""
        if self.thread is not None and self.beside:
            ready = None
            if self.stream is not None:
                ready = torch.cuda.Event()
                ready.record(torch.cuda.current_stream(self.device))
            return self.thread.submit(self._finish, clean, ready)
        done: Future[ChunkSaved] = Future()
        try:
            done.set_result(self._finish(clean, None))
        except Exception as error:
            done.set_exception(error)
        return done

    def save_entry(self, state: WindowState) -> None:
        """Save the loop's state before a unit enters; no chunk is at hand. Raises RenderError."""
        self.work.save_entry(self.chunks_done, state, self.carry, self.names.of_state(state.step))

    def save_stop(self, state: WindowState) -> None:
        """Save the loop's state where it stops; no chunk is at hand. Raises RenderError."""
        self.work.save_stop(state, self.carry, self.names.of_state(state.step))

    def close(self) -> None:
        """Wait for the chunk at hand."""
        if self.thread is not None:
            self.thread.shutdown()

    def _finish(self, clean: Clean, ready: torch.cuda.Event | None) -> ChunkSaved:
        unit = self.planned.units[clean.finished.unit]
        ends_run = unit.chunk == self.planned.runs[unit.run] - 1
        assert self.codec is not None
        # A stream of its own only beside the denoising: elsewhere the memory of both is one.
        with torch.cuda.stream(self.stream) if ready is not None else nullcontext():
            if ready is not None:
                ready.wait()
            started = time.monotonic()
            frames, carry = decode(self.codec, clean.finished.latents, self.carry, ends_run)
            skipped = min(self.skip, frames.shape[1])
            frames = frames[:, skipped:]
            pixels = post.finish(frames[:, : self.frames_left[unit.run]], self.planned.scale)
            decoded = time.monotonic()
            segment = writer.encode(pixels, self.planned.fps, self.planned.crf) if len(pixels) else None
            encoded = time.monotonic()
            chunk = Chunk(
                index=unit.index,
                identity=self.names.chunks[unit.index],
                latents_identity=self.names.latents[unit.index],
                conditions=self.names.conditions[unit.index],
                frames=len(pixels),
                seconds={
                    "denoise": clean.denoise_seconds,
                    "decode": decoded - started,
                    "encode": encoded - decoded,
                },
                latents=clean.finished.latents,
                segment=segment,
                state=clean.state,
                state_identity="" if clean.state is None else self.names.of_state(clean.state.step),
                carry=carry,
                skipped=skipped,
                rung=self.rung,
            )
            self.work.save_chunk(chunk)
        self.carry = carry
        self.skip -= skipped
        self.written.append(len(pixels))
        self.frames_left[unit.run] -= len(pixels)
        if ends_run and self.frames_left[unit.run]:
            raise RenderError(
                f"the codec of {self.planned.model} gave {self.frames_left[unit.run]} frames less than "
                f"its geometry promises for {self.planned.runs[unit.run]} chunks"
            )
        return ChunkSaved(unit.index, len(self.planned.units), self.frames_done, self.planned.frames)


def decode(codec: VideoCodec, latents: Tensor, carry: Carry, ends_run: bool) -> tuple[Tensor, Carry]:
    """Frames [3 f h w] of a chunk [b c l h w], at its run's end with those that the codec held back; and the
    carry that the next one begins with, empty for a run's first."""
    with torch.inference_mode():
        frames, carry = codec.decode(latents, carry)
        if not ends_run:
            return frames[0], carry
        held = codec.flush(carry)
        return (frames if held is None else torch.cat([frames, held], dim=2))[0], {}


class Preview:
    """The film so far as one file, that a player can open at any time; rebuilt when the last one is old."""

    def __init__(self, work: WorkDirectory, fps: Fraction) -> None:
        self.work = work
        self.fps = fps
        self.due_at = 0.0

    def due(self) -> bool:
        return time.monotonic() >= self.due_at

    def rebuild(self, chunks: int) -> int:
        """Of the first ``chunks`` chunks; returns its number of frames."""
        began = time.monotonic()
        frames = writer.join(self.work.segments(chunks), self.work.preview, self.fps)
        now = time.monotonic()
        self.due_at = now + max(PREVIEW_SECONDS, (now - began) / PREVIEW_SHARE)
        return frames


def again(kept: Kept, device: torch.device) -> Iterator[Clean]:
    """The clean latents that an earlier render left, one at a time."""
    for chunk in kept.again:
        state = None if chunk.state is None else load_state(chunk.state, device)[0]
        latents = load_file(chunk.latents, str(device))["latents"]
        yield Clean(Finished(chunk.unit, latents), state, 0.0)
