"""The film, from the work directory: its segments, behind the clip that they go on from, if any; with
chapters and metadata of its plan; and what is then done to it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longvid import editing
from longvid.errors import UserError
from longvid.files import digest, read_sealed, replacing
from longvid.request import Extension, Request
from longvid.starts import Start
from longvid.state import WorkDirectory
from longvid.times import round_half_up
from longvid.video import writer

if TYPE_CHECKING:
    from longvid.plan import RenderPlan
    from longvid.video.continuation import Join, Timing

SHOT = ("title", "prompt", "start_frame", "end_frame", "cut")
"""What a film's metadata tell of each shot, as JSON under ``shots``."""


def join_film(
    work: WorkDirectory,
    plan: Mapping[str, Any],
    longvid: str,
    output: Path,
    request: Request | None = None,
) -> Join | None:
    """Write the finished film, whole or not at all; ``run.json`` tells of it before it takes its name. And
    the pictures of it that its timeline wants, which show it before titles and fades.

    Arguments, errors and result as ``write_film``'s.
    """
    with replacing(output) as partial:
        with _written(work, plan, longvid, partial, request) as (unedited, join):
            if request is not None and (edit := request.timeline.edit()).pictures:
                editing.apply(unedited, edit, None)
        work.announce(partial)
    return join


def write_film(
    work: WorkDirectory,
    plan: Mapping[str, Any],
    longvid: str,
    path: Path,
    request: Request | None = None,
) -> Join | None:
    """The finished film as the file ``path``: equal segments, plan and version of longvid give equal bytes,
    with equal files where it is the extension of a clip, or has music. Returns how it joins to the clip.

    ``plan``: the effective values, as in ``plan.json``. ``longvid``: the version that rendered it. Raises
    RenderError and OSError as ``writer.join``, and UserError for a clip or music that is no use any more.
    """
    with _written(work, plan, longvid, path, request) as (_, join):
        return join


@contextmanager
def _written(
    work: WorkDirectory, plan: Mapping[str, Any], longvid: str, path: Path, request: Request | None
) -> Iterator[tuple[Path, Join | None]]:
    """As ``write_film``; yields the film before it is edited as well, for as long as it is there."""
    edit = None if request is None else request.timeline.edit()
    if edit is None or not edit.changes_film:
        yield path, _write_unedited(work, plan, longvid, path, request)
        return
    with tempfile.TemporaryDirectory(dir=work.path, prefix=".joining.", suffix=".part") as folder:
        unedited = Path(folder) / "film.mp4"
        join = _write_unedited(work, plan, longvid, unedited, request)
        editing.write(unedited, edit, path)
        yield unedited, join


def _write_unedited(
    work: WorkDirectory, plan: Mapping[str, Any], longvid: str, path: Path, request: Request | None
) -> Join | None:
    plan = {key: value for key, value in plan.items() if key != "sha256"}
    shots = [{key: shot[key] for key in SHOT} for shot in plan["shots"]]
    metadata = {
        "title": plan["title"],
        "seed": str(plan["seed"]),
        "model": plan["model"],
        "longvid": longvid,
        "plan": digest(plan),
    }
    if request is not None and request.extension is not None:
        return _write_extended(work, plan, request.extension, shots, metadata, path)
    segments = work.segments(sum(plan["runs"]))
    writer.remux(segments, path, Fraction(plan["fps"]), _chapters(shots), _with_shots(metadata, shots))
    return None


def rehearse(planned: RenderPlan, request: Request, output: Path) -> None:
    """Raise UserError, before anything is spent, for what could not be done to the film in the end."""
    edit, extension = request.timeline.edit(), request.extension
    size = (planned.size[0] * planned.scale, planned.size[1] * planned.scale)
    fps, frames = planned.fps, planned.frames
    if extension is not None:
        from longvid.video import source

        check_clip(extension)
        clip = source.probe(extension.clip)
        if not extension.native:
            size, fps = clip.size, clip.fps
        seconds = extension.seconds + (0 if extension.tail_only else clip.seconds)
        frames = round_half_up(seconds * fps)
    if not (edit.changes_film or edit.pictures):
        return
    shots = [{key: getattr(shot, key) for key in SHOT} for shot in planned.shots]
    metadata = _with_shots({"title": planned.title}, shots)
    editing.rehearse(edit, size, fps, frames, metadata, output)


def check_clip(extension: Extension) -> None:
    """Raise UserError where the clip that a film follows is not there."""
    if not extension.clip.is_file():
        message = "there is no such file any more, and the film follows this clip"
        raise UserError(f"{extension.clip}: {message}; put it back, or extend it anew where it is now")


def _write_extended(
    work: WorkDirectory,
    plan: Mapping[str, Any],
    extension: Extension,
    shots: list[dict[str, Any]],
    metadata: Mapping[str, str],
    path: Path,
) -> Join:
    from longvid.video import continuation, source

    fps, start = Fraction(plan["fps"]), Start.of(plan["start"])
    clip = source.probe(extension.clip)
    records = (read_sealed(work.record(unit)) or {"frames": 0} for unit in range(sum(plan["runs"])))
    pieces = [
        (work.segment(unit), record["frames"]) for unit, record in enumerate(records) if record["frames"]
    ]
    anew = start.lead - start.hidden
    replaced_frames = plan["frames"] - round_half_up(extension.seconds * fps)
    way = continuation.Way(
        extension.native, extension.fit, extension.tail_only, extension.audio, plan["output"]["crf"]
    )
    behind = _Behind(
        continuation.timing(
            clip,
            fps,
            plan["frames"],
            replaced_frames=replaced_frames,
            crossfade_frames=replaced_frames // anew if anew else 0,
            seconds=extension.seconds,
            way=way,
        ),
        way.tail_only,
    )
    shots = [behind.shot(shot) for shot in shots]
    if not way.tail_only:
        ends = shots[0]["start_frame"]
        clip_shot = {
            "title": extension.clip.stem,
            "prompt": "",
            "start_frame": 0,
            "end_frame": ends,
            "cut": False,
        }
        shots.insert(0, clip_shot)
    return continuation.write(
        clip,
        pieces,
        fps,
        path,
        replaced_frames=replaced_frames,
        crossfade_frames=behind.timing.crossfade_frames,
        seconds=extension.seconds,
        way=way,
        chapters=_chapters(shots),
        metadata=_with_shots(metadata, shots),
    )


@dataclass(frozen=True)
class _Behind:
    """Frames of what was rendered, as frames of the film in which it follows a clip, or of its tail."""

    timing: Timing
    tail_only: bool

    def shot(self, shot: Mapping[str, Any]) -> dict[str, Any]:
        return {**shot, **{key: self.frame(shot[key]) for key in ("start_frame", "end_frame")}}

    def frame(self, frame: int) -> int:
        timing = self.timing
        since = round_half_up((frame - timing.replaced_frames) * timing.fps / timing.new_fps)
        begin = 0 if self.tail_only else timing.join_frame
        return min(max(begin + since, 0), timing.frames - timing.join_frame + begin)


def _chapters(shots: list[dict[str, Any]]) -> list[writer.Chapter]:
    return [
        writer.Chapter(shot["title"] or shot["prompt"] or "goes on", shot["start_frame"], shot["end_frame"])
        for shot in shots
    ]


def _with_shots(metadata: Mapping[str, str], shots: list[dict[str, Any]]) -> dict[str, str]:
    return {**metadata, "shots": json.dumps(shots, ensure_ascii=False)}
