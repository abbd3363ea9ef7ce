"""How a film was made, as far as its work directory, its own metadata or a timeline tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

from longvid import plugins, takes
from longvid.backends import Geometry
from longvid.editing import film as edited
from longvid.errors import UserError
from longvid.files import checksum
from longvid.outputs import work_path
from longvid.request import Request
from longvid.spans import spans
from longvid.takes import Take
from longvid.timeline import Timeline
from longvid.times import clock, round_half_up
from longvid.video import source


@dataclass(frozen=True)
class Shot:
    """A shot of the film; frames from its start, ends excluded."""

    prompt: str
    requested_frame: int
    """At which it was asked to begin; as a cut it does, else at the nearest border of two chunks."""
    start_frame: int
    end_frame: int
    cut: bool
    blend_frames: int = 0
    """At its beginning, whose prompt is still mixed with that of the shot before."""


@dataclass(frozen=True)
class Cost:
    """What the film took, a second of it. ``seconds``: of denoising, decoding and encoding."""

    evaluations: float
    seconds: float


@dataclass(frozen=True)
class Provenance:
    """``shots``: all of the film, end to end; one where nothing is known. ``borders``: the frames at which
    chunks begin, but for the film's own first; None where unknown. ``latent_frames``: of each latent of a
    chunk, where these are equally long and known. ``take``: the render that made the film, where its clean
    latents are there. ``notes``: what could not be known, and why, a phrase each."""

    shots: tuple[Shot, ...]
    borders: tuple[int, ...] | None = None
    chunk_frames: int | None = None
    latent_frames: int | None = None
    cost: Cost | None = None
    take: Take | None = None
    notes: tuple[str, ...] = ()

    @property
    def cuts(self) -> tuple[int, ...]:
        """The frames that planned cuts are at."""
        return tuple(shot.start_frame for shot in self.shots if shot.cut and shot.start_frame)

    @property
    def latents(self) -> frozenset[int]:
        """The frames at which latents begin inside chunks, behind the first border of two."""
        if self.borders is None or self.latent_frames is None:
            return frozenset()
        spans = pairwise([*self.borders, self.shots[-1].end_frame])
        step = self.latent_frames
        return frozenset(frame for start, end in spans for frame in range(start + step, end, step))

    @property
    def planned(self) -> frozenset[int]:
        """The frames at which something else was asked for than just before: where shots begin, and each
        chunk of a blend."""
        starts = {shot.start_frame for shot in self.shots}
        blends = (
            border
            for shot in self.shots
            for border in self.borders or ()
            if shot.start_frame < border <= shot.start_frame + shot.blend_frames
        )
        return frozenset(starts | set(blends))


def provenance(film: source.Source, timeline: Timeline | None = None) -> Provenance:
    """Of the film's own work directory where it still made it, else its metadata; the shots are those of the
    ``timeline`` where one is given.

    Raises UserError for a timeline that cannot be this film's.
    """
    found = _of_work(film) or _of_metadata(film)
    if timeline is None:
        return found
    shots = _of_timeline(film, timeline, found)
    if found.chunk_frames is not None:
        return replace(found, shots=shots)
    if timeline.model is None:
        return replace(found, shots=shots, notes=("where its chunks begin is not known",))
    geometry = plugins.choose(timeline).backend.geometry
    fps = timeline.fps or geometry.fps
    if film.fps != fps:
        rates = f"it has {float(film.fps):g} frames a second, not the timeline's {float(fps):g}"
        return replace(found, shots=shots, notes=(f"{rates}, so where its chunks begin is not known",))
    return replace(found, shots=shots, notes=(), **_by_geometry(shots, geometry))


def _of_work(film: source.Source) -> Provenance | None:
    """As the work directory beside the film tells, if the film is as the render there left it."""
    work = work_path(film.path)
    take = takes.read(work, None) if work.is_dir() else None
    if take is None or not take.complete or take.run.get("film") != checksum(film.path):
        return None
    request = Request.of(take.request) if take.request else None
    if request is not None and request.extension is not None:
        note = "it follows a clip, so where its chunks begin is not known"
        return replace(_of_metadata(film), borders=None, chunk_frames=None, notes=(note,))
    blends = _blend_frames(take)
    shots = tuple(
        Shot(
            prompt=shot["prompt"],
            requested_frame=shot["requested_start_frame"],
            start_frame=shot["start_frame"],
            end_frame=shot["end_frame"],
            cut=shot["cut"],
            blend_frames=blends[index],
        )
        for index, shot in enumerate(take.plan["shots"])
    )
    seconds = take.plan["frames"] / take.fps
    spent = sum(sum(record["seconds"].values()) for record in take.records)
    evaluations = sum(shot["evaluations"] for shot in take.plan["shots"])
    return Provenance(
        shots=shots,
        **_chunks(take, shots, request),
        cost=Cost(float(evaluations / seconds), float(spent / seconds)),
        take=take,
    )


def _chunks(take: Take, shots: Sequence[Shot], request: Request | None) -> dict[str, Any]:
    """``borders`` and what belongs to them: by the model's geometry, since a codec may hold frames back for a
    later segment; where the model is not here any more, by the segments."""
    try:
        backend = plugins.backend(take.plan["model"]) if request is None else request.choose().backend
    except UserError:
        frames = [record["frames"] for record in take.records]
        starts = {start for start in accumulate(frames) if 0 < start < sum(frames)}
        return {"borders": tuple(sorted(starts)), "chunk_frames": max(frames)}
    geometry = backend.geometry
    if take.plan.get("start") is not None:  # what stands in front of the film has the shorter first chunk
        geometry = replace(geometry, first_chunk_frames=geometry.chunk_frames)
    return _by_geometry(shots, geometry)


def _blend_frames(take: Take) -> list[int]:
    """Of each shot, the frames of the chunks that its blend goes over."""
    frames = [record["frames"] for record in take.records]
    return [
        sum(frames[shot["first_unit"] : shot["first_unit"] + shot["blend_units"]])
        for shot in take.plan["shots"]
    ]


def _of_metadata(film: source.Source) -> Provenance:
    """As longvid writes it into a film: its shots, and the model whose chunks it is made of."""
    told = edited.shots(film.metadata.get("shots", ""), (), film.frames)
    shots = tuple(
        Shot(shot.prompt, shot.start_frame, shot.start_frame, shot.end_frame, shot.cut) for shot in told
    )
    if not any(shot.prompt for shot in shots):
        return Provenance(
            shots, notes=("neither its shots nor its chunks are known; it is taken as one shot",)
        )
    try:
        geometry = plugins.backend(film.metadata.get("model", "")).geometry
    except UserError:
        return Provenance(shots, notes=("its model is not known here, so where chunks begin is not either",))
    chunks = _by_geometry(shots, geometry)
    flowing = {shot.start_frame for shot in shots[1:] if not shot.cut}
    if not shots[0].prompt or not flowing.issubset(chunks["borders"]):
        return Provenance(
            shots, notes=("where its chunks begin is not known; its work directory would tell",)
        )
    return Provenance(shots, **chunks)


def _by_geometry(shots: Sequence[Shot], geometry: Geometry) -> dict[str, Any]:
    """``borders``, ``chunk_frames`` and ``latent_frames`` in runs of these shots."""
    starts = [shot.start_frame for shot in shots if shot.cut or not shot.start_frame]
    ends = [*starts[1:], shots[-1].end_frame]
    inside = [
        border
        for start, end in zip(starts, ends, strict=True)
        for border in range(start + geometry.first_chunk_frames, end, geometry.chunk_frames)
    ]
    frames, rest = divmod(geometry.chunk_frames, geometry.chunk_latents)
    return {
        "borders": tuple(sorted({*starts[1:], *inside})),
        "chunk_frames": geometry.chunk_frames,
        "latent_frames": None if rest else frames,
    }


def _of_timeline(film: source.Source, timeline: Timeline, found: Provenance) -> tuple[Shot, ...]:
    """The timeline's shots, switches where the film has them if that is known. Raises UserError."""
    wanted = spans(timeline, film.fps)
    if abs(wanted[-1].end - film.seconds) > 1:
        raise UserError(
            f"{timeline.source.name}: lasts {clock(wanted[-1].end)}, and {film.path} {clock(film.seconds)}: "
            "give --timeline the one that this film was made from"
        )
    own = found.shots if len(found.shots) == len(wanted) else None
    starts = [
        own[index].start_frame if own else min(span.start_frame, film.frames)
        for index, span in enumerate(wanted)
    ]
    return tuple(
        Shot(
            prompt=shot.prompt,
            requested_frame=wanted[index].start_frame,
            start_frame=starts[index],
            end_frame=starts[index + 1] if index + 1 < len(starts) else film.frames,
            cut=index > 0 and shot.cut,
            blend_frames=round_half_up(shot.blend_seconds.seconds(film.fps) * film.fps)
            if shot.blend_seconds
            else 0,
        )
        for index, shot in enumerate(timeline.shots)
    )
