"""Timeline + Geometry -> RenderPlan: everything a render needs to know, before a weight is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from itertools import accumulate, pairwise
from math import floor
from pathlib import Path
from typing import Any

from longvid import lora
from longvid.backends import Backend, FilmSpec, Geometry, Lora
from longvid.errors import UserError
from longvid.files import checksum, digest
from longvid.settings import Overrides as Overrides
from longvid.settings import settle
from longvid.spans import Span, end_error, snap, spans
from longvid.starts import Start
from longvid.timeline import Timeline
from longvid.times import length, round_half_up
from longvid.units import ShotPlan, UnitPlan, branched, units_of
from longvid.walks import Walk
from longvid.walks import read as read_method


@dataclass(frozen=True)
class RenderPlan:
    """The effective values of one render. Frozen and torch-free."""

    title: str
    model: str
    model_options: Mapping[str, Any]
    size: tuple[int, int]
    """Width, height of the network's picture in pixels."""
    fps: Fraction
    seed: int
    steps: int
    """S of the paper: denoising steps a unit gets."""
    window: int
    """K of the paper: noisy units in the window; divides ``steps``."""
    method: str
    solver: str
    prompts: tuple[str, ...]
    """Distinct full texts, style included, sorted."""
    negatives: tuple[str, ...]
    """One for each prompt; "" for none."""
    shots: tuple[ShotPlan, ...]
    units: tuple[UnitPlan, ...]
    runs: tuple[int, ...]
    """Units in each run; a run ends at a cut."""
    frames: int
    """Frames of the film."""
    evaluations: int
    """Denoising evaluations: enter(N - 1) + S."""
    network_calls: int
    """Evaluations, with guidance's second call counted."""
    calls_by_latents: tuple[tuple[int, int], ...]
    """(latent frames in the window, network calls at that length): what a time estimate needs."""
    scale: int
    """Whole factor by which the film is enlarged for the file."""
    crf: int
    """H.264 constant rate factor of the file."""
    edit: Mapping[str, Any] | None = None
    """What is done to the film once it is joined."""
    pictures: Mapping[int, Path] = field(default_factory=dict)
    """What runs start from, by their first units."""
    start: Start | None = None
    """Units at the film's front that are there before it is rendered."""
    loras: tuple[Lora, ...] = ()
    """Those that act, in their order."""
    chunk_latents: int = 1
    """Latents in a chunk, which a method may take one by one."""

    @cached_property
    def walk(self) -> Walk:
        """The way through the window."""
        given, noised = (self.start.given, self.start.noised) if self.start else (0, 0)
        return Walk(
            read_method(self.method), self.runs, self.steps, self.window, self.chunk_latents, given, noised
        )

    @property
    def spec(self) -> FilmSpec:
        """What the model is loaded for."""
        return FilmSpec(self.size, self.fps, self.window, self.model_options, self.loras)

    def effective(self) -> dict[str, Any]:
        """Every value that makes the film, as JSON-able data, and their SHA-256 under ``sha256``."""
        values: dict[str, Any] = {
            "title": self.title,
            "model": self.model,
            "model_options": dict(self.model_options),
            "lora": [
                {"name": lora.path.name, "strength": lora.strength, "sha256": lora.fingerprint}
                for lora in self.loras
            ],
            "size": list(self.size),
            "fps": str(self.fps),
            "seed": self.seed,
            "steps": self.steps,
            "window": self.window,
            "method": self.method,
            "chunk_latents": self.chunk_latents,
            "solver": self.solver,
            "prompts": list(self.prompts),
            "negatives": list(self.negatives),
            "shots": [asdict(shot) | {"unknown_words": list(shot.unknown_words)} for shot in self.shots],
            "runs": list(self.runs),
            "frames": self.frames,
            "output": {"scale": self.scale, "crf": self.crf, "edit": self.edit},
            "start": None if self.start is None else self.start.content() | {"clip": None},
        }
        return {"sha256": digest(values), **values}


def plan(
    timeline: Timeline,
    backend: Backend,
    overrides: Overrides | None = None,
    start: Start | None = None,
    pictures: Mapping[int, str] | None = None,
    loras: Sequence[Lora] | None = None,
) -> RenderPlan:
    """Everything a render of the timeline needs to know.

    A clip that it starts from lies in front of the first shot: the chunks of it that are given are no part of
    the film, and what is made anew of it comes on top of the timeline's length. They have that shot's prompt.
    ``pictures``: SHA-256 of those that shots start from, where their files are not to be asked. ``loras``:
    those that the film is rendered with, in place of the timeline's. Raises UserError, in one line that says
    where, for whatever this model cannot do.
    """
    overrides = overrides or Overrides()
    geometry = backend.geometry
    settings = settle(timeline, backend, overrides)
    fps = settings.fps
    requested = spans(timeline, fps)
    texts, text_of_shot = _texts(timeline)
    shots: list[ShotPlan] = []
    units: list[UnitPlan] = []
    picture_files: dict[int, Path] = {}
    runs: list[int] = []
    anew_frames = 0
    for run, members in enumerate(_runs(timeline)):
        begin, end = requested[members[0]].start_frame, requested[members[-1]].end_frame
        hidden, lead = (start.hidden, start.lead) if start and not run else (0, 0)
        behind = replace(geometry, first_chunk_frames=geometry.chunk_frames) if lead else geometry
        counts = snap(behind, [requested[index].end_frame - begin for index in members])
        for index, count in zip(members, counts, strict=True):
            if count < 1:
                raise _too_short(timeline, geometry, fps, requested, index)
        counts[0] += lead
        decoded = geometry.chunk_frame_counts(sum(counts))
        shown = [0] * hidden + decoded[hidden:]
        begin, anew_frames = begin + anew_frames, anew_frames + sum(decoded[hidden:lead])
        borders = [min(frame, end + anew_frames) for frame in accumulate(shown, initial=begin)]
        chunk = 0
        for index, count in zip(members, counts, strict=True):
            shot, span = timeline.shots[index], requested[index]
            prompt, negative = texts[text_of_shot[index]]
            guidance = _guidance(timeline, geometry, overrides, index)
            blend = min(_blend_units(timeline, geometry, fps, requested, index), count)
            seed = settings.seed if shot.seed is None else shot.seed
            picture = None
            if (file := picture_of(timeline, index)) is not None and (start is None or index):
                picture_files[len(units)] = file
                picture = digest_of(file) if pictures is None else pictures[index]
            unknown = [*backend.unknown_words(prompt), *backend.unknown_words(negative)]
            shots.append(
                ShotPlan(
                    index=index,
                    title=shot.title,
                    prompt=shot.prompt,
                    first_unit=len(units),
                    units=count,
                    run=run,
                    cut=index > 0 and shot.cut,
                    requested_start_frame=span.start_frame + anew_frames * (index > 0),
                    start_frame=borders[chunk],
                    requested_end_frame=span.end_frame + anew_frames,
                    end_frame=borders[chunk + count],
                    blend_units=blend,
                    guidance=guidance,
                    seed=seed,
                    picture=picture,
                    unknown_words=tuple(dict.fromkeys(unknown)),
                    evaluations=0,  # counted below
                )
            )
            before = shots[index - 1] if index else None
            texts_here = text_of_shot[index], text_of_shot[index - 1]
            units += units_of(shots[index], before, texts_here, chunk, borders, decoded)
            chunk += count
        runs.append(chunk)

    if overrides.branch_at is not None:
        units = branched(units, overrides, fps, requested[-1].end_frame + anew_frames)
    made = RenderPlan(
        title=timeline.title or Path(timeline.source.name).stem.encode(errors="replace").decode(),
        model=backend.name,
        model_options=timeline.model_options,
        size=settings.size,
        fps=fps,
        seed=settings.seed,
        steps=settings.steps,
        window=settings.window,
        method=settings.method,
        solver=settings.solver,
        prompts=tuple(prompt for prompt, _ in texts),
        negatives=tuple(negative for _, negative in texts),
        shots=tuple(shots),
        units=tuple(units),
        runs=tuple(runs),
        frames=requested[-1].end_frame + anew_frames,
        evaluations=0,  # counted below
        network_calls=0,
        calls_by_latents=(),
        scale=settings.scale,
        crf=timeline.output.crf,
        edit=_edit(timeline),
        pictures=picture_files,
        start=start,
        # One of strength 0 changes nothing, so it is no part of the film.
        loras=tuple(use for use in (lora.of_timeline(timeline) if loras is None else loras) if use.strength),
        chunk_latents=geometry.chunk_latents,
    )
    try:
        made.walk.check()
    except UserError as error:
        if overrides.method:
            raise UserError(f"--method: {error}") from error
        raise timeline.source.error(("method",), str(error)) from error
    evaluations, calls = _cost(made)
    return replace(
        made,
        shots=tuple(replace(shot, evaluations=evaluations[shot.index]) for shot in shots),
        evaluations=evaluations.total(),
        network_calls=calls.total(),
        calls_by_latents=tuple(sorted(calls.items())),
    )


def _edit(timeline: Timeline) -> dict[str, Any] | None:
    """What is done to the film, and pictures of it, as plain data that is equal where those will be."""
    edit = timeline.edit()
    if not (edit.changes_film or edit.pictures):
        return None
    files = {"music": edit.music, "font": edit.font}
    return {
        "title": edit.title,
        "credits": edit.credits,
        "captions": edit.captions,
        "fade": asdict(edit.fade) | {"amount": str(edit.fade.amount)},
        "crossfade": asdict(edit.crossfade) | {"amount": str(edit.crossfade.amount)},
        # One that is not there any more is told of where it is wanted.
        "pictures": {what: file.name for what, file in edit.pictures.items()},
        **{what: digest_of(file) if file and file.is_file() else None for what, file in files.items()},
    }


def _runs(timeline: Timeline) -> list[range]:
    """The shots of each run: a run begins with the film and at every cut."""
    starts = [index for index, shot in enumerate(timeline.shots) if index == 0 or shot.cut]
    return [range(*pair) for pair in pairwise([*starts, len(timeline.shots)])]


def picture_of(timeline: Timeline, index: int) -> Path | None:
    """The picture that a shot starts from."""
    return timeline.picture_of(index) or (timeline.start_path if index == 0 else None)


def digest_of(path: Path) -> str:
    """SHA-256 of a picture's file. Raises UserError."""
    try:
        return checksum(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; a shot of the film starts from it") from error


def _texts(timeline: Timeline) -> tuple[list[tuple[str, str]], list[int]]:
    """The film's distinct (prompt with its style, negative), and which one each shot has.

    Sorted, not in order of use: a network adds up over the prompts of a window in their order, and two films
    that share a window shall have its very bits.
    """
    of_shot: list[tuple[str, str]] = []
    for shot in timeline.shots:
        # A clip may go on without being told how: under the null prompt, to which no style belongs.
        prompt = f"{shot.prompt}, {timeline.style}" if timeline.style and shot.prompt else shot.prompt
        negative = shot.negative if shot.negative is not None else timeline.negative or ""
        of_shot.append((prompt, negative))
    place = {text: index for index, text in enumerate(sorted(set(of_shot)))}
    return list(place), [place[text] for text in of_shot]


def _cost(planned: RenderPlan) -> tuple[Counter[int], Counter[int]]:
    """Evaluations by shot, network calls by latent frames in the window."""
    evaluations, calls = Counter[int](), Counter[int]()
    units, walk = planned.units, planned.walk
    pictures = {chunk * walk.parts for chunk in planned.pictures}
    for step in walk.steps_in_order():
        chunks = [walk.chunk(unit) for unit in step.reads]
        evaluations[units[chunks[-1]].shot] += 1
        # A window in which every unit has guidance 1 needs no second call without the prompt.
        guided = any(units[chunk].guidance != 1 for chunk in chunks)
        # A picture is one latent in front, until the run's first unit is clean.
        picture = step.reads[0] in pictures
        pictures.difference_update(step.emits)
        calls[len(step.reads) * walk.unit_latents + picture] += 2 if guided else 1
    return evaluations, calls


def _guidance(timeline: Timeline, geometry: Geometry, overrides: Overrides, index: int) -> float:
    shot = timeline.shots[index]
    null = None if shot.prompt else 1.0  # there is nothing to guide towards
    values = (overrides.guidance, shot.guidance, null, timeline.guidance)
    return next((value for value in values if value is not None), geometry.guidance)


def _blend_units(
    timeline: Timeline, geometry: Geometry, fps: Fraction, requested: list[Span], index: int
) -> int:
    """b = max(1, round(blend x fps / chunk frames)); 0 for a shot without a blend."""
    blend = timeline.shots[index].blend_seconds
    wanted = blend.seconds(fps) if blend else Fraction(0)
    if not wanted:
        return 0
    path = ("shots", index, "blend_seconds")
    if index == 0:
        raise timeline.source.error(path, "the first shot has nothing to blend from; leave it out")
    if timeline.shots[index].cut:
        raise timeline.source.error(path, "a cut does not blend; leave out `blend_seconds` or `cut`")
    longest = requested[index].end - requested[index].start
    if wanted > longest:
        most = Fraction(floor(longest * 1000), 1000)
        message = f"{length(wanted)} is longer than the shot ({length(longest)}); at most {length(most)}"
        raise timeline.source.error(path, message)
    return max(1, round_half_up(wanted * fps / geometry.chunk_frames))


def _too_short(
    timeline: Timeline, geometry: Geometry, fps: Fraction, requested: list[Span], index: int
) -> UserError:
    lasts = requested[index].end - requested[index].start
    frames = max(geometry.first_chunk_frames, geometry.chunk_frames)
    needed = f"{frames}f ({length(frames / fps)})"
    message = f"{length(lasts)} is too short to hold one of the model's chunks; at least {needed}"
    return end_error(timeline, index, message)
