"""Sample films: what a network in training makes of the same timeline, every so often.

    planned = plan_sample(timeline, ...)        the person's own, or that of `write_prompts`
    rehearsal = Rehearsal.of(planned, ...)      with its prompts encoded, before the network is loaded
    for event in rehearse(rehearsal, trainee, path, stopping): ...

It is rendered by the very network that is being trained, in its place: there is no second copy of it, and
nothing that training draws or keeps is changed. The codec is loaded behind the denoising and freed again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from longvid import plan, timeline
from longvid.backends import Backend, Carry, Film, Geometry, Runtime, Text, Trainee
from longvid.denoise import Finished, fresh
from longvid.document import NodePath
from longvid.errors import RenderError
from longvid.files import replacing, write
from longvid.finishing import decode
from longvid.plan import RenderPlan
from longvid.sampling import encode_prompts, unit_shape, windows
from longvid.settings import Overrides
from longvid.timeline import Timeline
from longvid.values import MAX_TEXT
from longvid.video import post, writer

PROMPTS = "prompts.yaml"
"""The sample film's timeline, where none was given, in the folder of the films."""
CAPTIONS = 2


@dataclass(frozen=True)
class Sampling:
    """So many of a sample film's evaluations are done."""

    step: int
    evaluations: int


@dataclass(frozen=True)
class Sampled:
    """A sample film is there."""

    path: Path


@dataclass(frozen=True)
class Unsampled:
    """A sample film could not be made, and the training goes on without it."""

    path: Path
    reason: str


Event = Sampling | Sampled | Unsampled


def write_prompts(folder: Path, captions: Sequence[str], geometry: Geometry, chunks: int) -> Path:
    """A timeline of the first two captions, ``chunks`` of each from a start of its own; returns its path.

    One that is there stays: the films of a run that goes on are of the same prompts. Raises RenderError.
    """
    path = folder / PROMPTS
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        frames = sum(geometry.chunk_frame_counts(chunks))
        shots = [
            {"prompt": caption[:MAX_TEXT], "seconds": f"{frames}f", "cut": number > 0}
            for number, caption in enumerate(list(dict.fromkeys(captions))[:CAPTIONS])
        ]
        lines = [f"  - {json.dumps(shot, ensure_ascii=False)}\n" for shot in shots]
        write(path, "".join(["shots:\n", *lines]).encode())
    return path


def plan_sample(
    path: Path, backend: Backend, size: tuple[int, int], fps: Fraction, window: int, steps: int
) -> RenderPlan:
    """The film of a timeline's file in what is trained on: its size, rate and window, whatever it says, and
    ``steps`` unless it says others. Raises UserError for a timeline that is wrong, or needs what a network in
    training has not."""
    read = timeline.load(path)
    own: dict[NodePath, object] = {
        ("start_from",): read.start_from,
        ("lora",): read.lora,
        ("model_options",): read.model_options,
        **{("shots", number, "image"): shot.image for number, shot in enumerate(read.shots)},
    }
    for key in (key for key, value in own.items() if value):
        raise read.source.error(key, "a sample film of a training takes none; leave it out")
    trained: Timeline = read.model_copy(
        update={"model": None, "size": size, "fps": fps, "window": window, "steps": read.steps or steps}
    )
    return plan.plan(trained, backend, Overrides())


@dataclass(frozen=True)
class Rehearsal:
    """A sample film that is ready to be made as often as need be."""

    planned: RenderPlan
    geometry: Geometry
    film: Film
    text: Text
    runtime: Runtime

    @staticmethod
    def of(planned: RenderPlan, geometry: Geometry, film: Film, runtime: Runtime) -> Rehearsal:
        """With its prompts encoded: the encoder is in memory only here, before the network is."""
        return Rehearsal(planned, geometry, film, encode_prompts(film, planned)[0], runtime)


@dataclass(frozen=True)
class InTraining:
    """A trainee as a Denoiser."""

    trainee: Trainee
    runtime: Runtime

    def __call__(self, x: Tensor, t: Tensor, text: Text) -> Tensor:
        # What the network keeps from one call to the next, training can still use.
        with torch.inference_mode(False), torch.no_grad():
            x, t = x.clone(), t.clone()
            with torch.autocast(x.device.type, torch.bfloat16, enabled=self.runtime.dtype == torch.bfloat16):
                return self.trainee.predict(self.trainee.network, x, t, [text] * len(x))


def rehearse(
    rehearsal: Rehearsal, trainee: Trainee, path: Path | None, stopping: Callable[[], bool]
) -> Iterator[Event]:
    """The sample film by the trainee's network as it is, as the file ``path``; None: this process only takes
    part in the denoising, as where the network's shards are with several.

    A disk or a memory that is full, and latents that are no numbers, are told and not raised: the training is
    worth more than a film of it.
    """
    done = list[Finished]()
    try:
        for step, finished in _denoised(rehearsal, trainee):
            done += finished
            yield Sampling(step, rehearsal.planned.evaluations)
            if stopping():
                return
        if path is not None:
            _write_film(rehearsal, done, path)
            yield Sampled(path)
    except (RenderError, OSError, torch.OutOfMemoryError) as error:
        if path is not None:
            memory = isinstance(error, torch.OutOfMemoryError)
            yield Unsampled(path, "there is not enough memory beside the training" if memory else str(error))


def _denoised(rehearsal: Rehearsal, trainee: Trainee) -> Iterator[tuple[int, list[Finished]]]:
    """Evaluations done, and what each finished."""
    planned, geometry = rehearsal.planned, rehearsal.geometry
    start = fresh(unit_shape(planned, geometry), rehearsal.runtime.device)
    denoiser = InTraining(trainee, rehearsal.runtime)
    trainee.network.eval()
    try:
        for state, finished in windows(
            planned, geometry, rehearsal.film, rehearsal.text, {}, start, denoiser
        ):
            yield state.step, finished
    finally:
        trainee.network.train()


def _write_film(rehearsal: Rehearsal, done: Sequence[Finished], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        writer.remux(_segments(rehearsal, done), partial, rehearsal.planned.fps, (), {})


def _segments(rehearsal: Rehearsal, done: Sequence[Finished]) -> Iterator[bytes]:
    """Each chunk as a render writes it."""
    planned, codec = rehearsal.planned, rehearsal.film.codec()
    left = [0] * len(planned.runs)
    for unit in planned.units:
        left[unit.run] += unit.frames
    carry: Carry = {}
    for finished in done:
        unit = planned.units[finished.unit]
        ends_run = unit.chunk == planned.runs[unit.run] - 1
        frames, carry = decode(codec, finished.latents, carry, ends_run)
        pixels = post.finish(frames[:, : left[unit.run]], planned.scale)
        left[unit.run] -= len(pixels)
        if len(pixels):
            yield writer.encode(pixels, planned.fps, planned.crf)
