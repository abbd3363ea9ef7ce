"""What `longvid extend` asks of a render: to go on with a film of its own, or from any clip."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from longvid import exchange, timeline
from longvid.backends import Geometry
from longvid.document import Source as Document
from longvid.errors import UserError
from longvid.files import read_sealed
from longvid.keeping import own_start, read_request
from longvid.locks import locked
from longvid.outputs import check_output, made_here, work_path
from longvid.plan import RenderPlan
from longvid.request import Extension, Request, picture_digests
from longvid.settings import settle
from longvid.spans import spans
from longvid.starts import Handoff
from longvid.state import WorkDirectory, link_tree
from longvid.timeline import Timeline
from longvid.times import length, parse_time, round_half_up
from longvid.video import source

UNPROMPTED = {"prompt": "", "guidance": 1}
"""Under the null text: what the clip shows is all that says how it goes on."""


@dataclass(frozen=True)
class Longer:
    """What is added: so much under one ``prompt`` (None: as the clip tells), or all shots of ``shots``; with
    a ``seed`` and a ``guidance`` of their own, where given."""

    seconds: str | None
    prompt: str | None
    shots: Timeline | None
    seed: int | None = None
    guidance: float | None = None

    def __post_init__(self) -> None:
        if (self.seconds is None) == (self.shots is None):
            raise UserError("extend takes --seconds, or a --timeline that says how long: one of the two")
        if self.prompt is not None and self.shots is not None:
            raise UserError("--prompt: the shots of --timeline have their own; keep one of the two")
        if self.prompt is not None and not self.prompt.strip():
            raise UserError('--prompt "": is empty; leave it out to go on without a prompt')


def is_own(clip: Path) -> bool:
    """Whether the clip is a film as a render here left it, whose chunks are there to go on with."""
    with suppress(OSError, ValueError):  # a name that is none
        work = work_path(clip)
        return any((work / "chunks").glob("*.json")) and clip.is_file() and made_here(clip)
    return False


# A film of our own


def own_request(film: Path, longer: Longer, handoff: Handoff) -> Request:
    """The film's own request, and what is added: its chunks are kept, or the last ones made anew.

    Raises UserError where the film is not finished, or was asked for otherwise than can go on.
    """
    work = work_path(film)
    if (read_sealed(work / "run.json") or {}).get("status") != "finished" or exchange.pending(work):
        raise UserError(f"{film}: is not finished; `longvid resume {work}` goes on with it first")
    before = read_request(work)
    planned = before.plan(before.choose().backend)
    flags = before.overrides
    if flags.branch_at is not None and longer.seed is not None:
        raise UserError(f"--seed: {film} has one of its own from {flags.branch_at} on; leave it out")
    old = [dict(shot) for shot in before.timeline.data["shots"]]
    if flags.guidance is not None:  # a flag goes before what shots say, and what is added may say otherwise
        old = [{**shot, "guidance": flags.guidance} for shot in old]
    added = _added(film, longer, before, planned, old[-1])
    if flags.guidance is not None:
        added = [{"guidance": flags.guidance, **shot} for shot in added]
    said = {"seed": longer.seed, "guidance": longer.guidance}
    added = [shot | {key: value for key, value in said.items() if value is not None} for shot in added]
    noised = min(planned.window, planned.runs[-1]) - 1 if handoff == "noised" else 0
    if handoff == "noised" and (not noised or added[0].get("cut")):
        raise UserError(
            f"--handoff noised: takes two chunks at least, in the window and since the last cut of {film}, "
            "and no cut behind them; leave it out"
        )
    shots = _behind(old, added, planned, longer)
    grown = timeline.build({**before.timeline.data, "shots": shots}, before.timeline.source)
    extension = before.extension
    if extension is not None:
        more = spans(grown, planned.fps)[-1].end - spans(before.timeline, planned.fps)[-1].end
        extension = replace(extension, seconds=extension.seconds + more)
    return replace(
        before,
        timeline=grown,
        overrides=replace(flags, guidance=None),
        handoff=handoff,
        start=own_start(work, len(planned.units), planned, noised),
        pictures={**(before.pictures or {}), **picture_digests(grown, len(old))},
        extension=extension,
    )


def _added(
    film: Path, longer: Longer, before: Request, planned: RenderPlan, last: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The shots that are added behind the ``last`` one, their lengths in frames."""
    if longer.shots is not None:
        _check_added(longer.shots, film, before, planned)
        return _shots(longer.shots, planned.fps)
    assert longer.seconds is not None
    frames = round_half_up(parse_seconds("--seconds", longer.seconds, planned.fps) * planned.fps)
    if not frames:
        least = length(1 / planned.fps)
        raise UserError(f"--seconds {longer.seconds}: is less than a frame of {film}; at least {least}")
    words = {key: last[key] for key in ("prompt", "negative", "guidance") if key in last}
    if longer.prompt is not None:
        words = {"prompt": longer.prompt}
    return [{**words, "seconds": f"{frames}f"}]


def _behind(
    old: list[dict[str, Any]], added: list[dict[str, Any]], planned: RenderPlan, longer: Longer
) -> list[dict[str, Any]]:
    """All shots. Those that are added begin where the last chunk ends: what was trimmed of it is shown now,
    under the prompt that it has. But a cut is where the film ended."""
    last, first = planned.units[-1], added[0]
    hidden, lead = (planned.start.hidden, planned.start.lead) if planned.start else (0, 0)
    anew_frames = sum(unit.decoded_frames for unit in planned.units[hidden:lead])
    trimmed, frames = last.decoded_frames - last.frames, int(first["seconds"][:-1])
    if not trimmed or first.get("cut"):
        return [*old, *added]
    if frames <= trimmed and (longer.prompt is not None or longer.shots is not None):
        raise UserError(
            f"the film's last chunk, under its own prompt, is {length(trimmed / planned.fps)} longer than "
            "what is shown of it; what is added must last longer than that"
        )
    end_frame = planned.frames - anew_frames + min(trimmed, frames)
    lengthened = {key: value for key, value in old[-1].items() if key != "seconds"}
    old = [*old[:-1], lengthened | {"until": f"{end_frame}f"}]
    return [*old, first | {"seconds": f"{frames - trimmed}f"}, *added[1:]] if frames > trimmed else old


def _check_added(added: Timeline, film: Path, before: Request, planned: RenderPlan) -> None:
    """Raise UserError where another timeline wants of the whole film what it is not."""
    first = added.shots[0]
    if first.image is not None and not first.cut:
        message = f"this shot flows on from {film}; add `cut: true` to begin anew from a picture"
        raise added.source.error(("shots", 0, "image"), message)
    own: dict[str, Any] = {
        key: getattr(planned, key) for key in ("model", "size", "fps", "steps", "window", "method")
    }
    own |= {key: getattr(before.timeline, key) for key in ("title", "style", "model_options", "output")}
    for key in added.data:
        if key == "start_from" or (key in own and getattr(added, key) != own[key]):
            raise added.source.error((key,), f"{film} goes on as it was made; leave it out")


def _shots(added: Timeline, fps: Fraction) -> list[dict[str, Any]]:
    """The shots of another timeline, wherever they are put: with lengths instead of times, and with what it
    says of all of them."""
    of_all = {key: added.data[key] for key in ("negative", "guidance", "seed") if key in added.data}
    written = []
    for index, span in enumerate(spans(added, fps)):
        said = of_all | added.data["shots"][index]
        shot = {**said, "seconds": f"{span.end_frame - span.start_frame}f"}
        shot = {key: value for key, value in shot.items() if key not in ("at", "until")}
        if (picture := added.picture_of(index)) is not None:
            shot["image"] = str(picture.absolute())
        written.append(shot)
    return written


def copy_work(film: Path, output: Path, request: Request) -> None:
    """The film's work directory for another output, by links, and in it what is asked for now: whenever a
    render there is stopped, `longvid resume` knows. Raises UserError where there is one already, or the
    output can be no film."""
    check_output(output)
    work = work_path(output)
    if work.exists():
        raise UserError(
            f"--output {output}: {work} is there; `longvid resume` goes on with it, or name another"
        )
    if output.exists():
        raise UserError(f"--output {output}: is there; name another")
    with locked(work_path(film)):
        link_tree(work_path(film), work)
    copied = WorkDirectory(work)
    copied.write_request(request.content())
    copied.write_run({**(read_sealed(work / "run.json") or {}), "status": "unfinished"})


# Any other clip


def clip_request(
    clip: Path, longer: Longer, asked: Callable[[Timeline], Request], extension: Mapping[str, Any]
) -> Request:
    """A request for what follows the clip. ``asked``: makes one of a timeline, by the flags that were given.
    ``extension``: of Extension, what was said of it.

    The picture's size is the model's that is nearest to the clip's in shape, its rate the clip's own where
    the model runs at it. Raises UserError for a clip or a timeline that is no use.
    """
    found = source.probe(clip)
    if found.picture:
        raise UserError(
            f"{clip}: is a picture; write it as `image:` of a timeline's first shot, and render that"
        )
    if longer.seconds is not None:
        parse_seconds("--seconds", longer.seconds, found.fps)
    if longer.shots is None:
        words = {"prompt": longer.prompt} if longer.prompt is not None else _told(found.metadata)
        data: dict[str, Any] = {"shots": [{**words, "seconds": longer.seconds}]}
        document = Document(clip.name, Path())
    else:
        data, document = dict(longer.shots.data), longer.shots.source
        if longer.shots.start_from is not None:
            raise document.error(("start_from",), f"the film goes on from {clip}; leave it out")
        if longer.shots.shots[0].image is not None:
            raise document.error(("shots", 0, "image"), f"the film goes on from {clip}; leave it out")
    data["start_from"] = str(clip.absolute())
    backend = asked(timeline.build(data, document)).choose().backend
    geometry = backend.geometry
    if longer.shots is None or longer.shots.size is None:
        data["size"] = list(nearest_shape(geometry, found.size))
    if (longer.shots is None or longer.shots.fps is None) and (
        geometry.fps_min <= found.fps <= geometry.fps_max
    ):
        data["fps"] = int(found.fps) if found.fps.denominator == 1 else str(found.fps)
    built = timeline.build(data, document)
    request = asked(built)
    settings = settle(built, backend, request.overrides)
    seconds = (
        spans(built, settings.fps)[-1].end
        if longer.seconds is None
        else parse_seconds("--seconds", longer.seconds, settings.fps)
    )
    if seconds * found.fps < 1:
        raise UserError(f"{length(seconds)} is less than a frame of {clip}; at least {length(1 / found.fps)}")
    return replace(request, extension=Extension(clip=clip, seconds=seconds, **extension))


def _told(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The last shot's prompt, as a film of ours tells it in its metadata; nothing is known of other clips."""
    try:
        prompt = json.loads(metadata["shots"])[-1]["prompt"] if "longvid" in metadata else ""
    except (KeyError, ValueError, IndexError, TypeError):
        prompt = ""
    return {"prompt": prompt} if isinstance(prompt, str) and prompt else dict(UNPROMPTED)


def notes(clip: Path, request: Request) -> Iterator[str]:
    """What a person should know of the clip, and of what the model sees of it."""
    found = source.probe(clip)
    yield from (f"{clip}: {note}" for note in found.notes)
    backend = request.choose().backend
    width, height = settle(request.timeline, backend, request.overrides).size
    share = Fraction(width * found.size[1], height * found.size[0])
    seen = min(share, 1 / share)
    if request.extension and request.extension.fit == "crop" and seen < Fraction(9, 10):
        yield f"{backend.name} sees the middle {float(seen):.0%} of {clip}; --fit pad shows it all of it"


def parse_seconds(flag: str, written: str, fps: Fraction) -> Fraction:
    """A time of the command line, above 0. Raises UserError."""
    try:
        seconds = parse_time(written).seconds(fps)
    except ValueError as error:
        raise UserError(f"{flag}: {error}") from error
    if seconds <= 0:
        raise UserError(f"{flag} {written}: is no time to go on for; more than 0")
    return seconds


def nearest_shape(geometry: Geometry, size: tuple[int, int]) -> tuple[int, int]:
    """The model's (width, height) whose shape is nearest to this one; the earlier one in a tie."""

    def apart(known: tuple[int, int]) -> Fraction:
        ratio = Fraction(known[0] * size[1], known[1] * size[0])
        return max(ratio, 1 / ratio)

    return min(geometry.sizes, key=apart)
