"""Where shots begin and end: exact times, then frames, then borders of chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from longvid.backends import Geometry
from longvid.errors import UserError
from longvid.timeline import Timeline
from longvid.times import MAX_SECONDS, clock, length, round_half_up


@dataclass(frozen=True)
class Span:
    """A shot's time as requested, in seconds and frames from the film's start; ends excluded."""

    start: Fraction
    end: Fraction
    start_frame: int
    end_frame: int


def spans(timeline: Timeline, fps: Fraction) -> list[Span]:
    """The requested span of every shot. Raises UserError for gaps, overlaps and shots without an end.

    Start: ``at``, else the previous end, else 0. End: ``until``, else start + ``seconds``, else the next
    shot's ``at``. Gaps and overlaps are judged on the exact times; frames = round-half-up(time x fps) of each
    absolute time, so that errors don't add up.
    """
    found: list[Span] = []
    for index in range(len(timeline.shots)):
        start = _start(timeline, index, found[-1].end if found else Fraction(0), fps)
        end = _end(timeline, index, start, fps)
        if end > MAX_SECONDS:
            raise end_error(timeline, index, f"ends at {clock(end)}; a film lasts at most a day")
        span = Span(start, end, round_half_up(start * fps), round_half_up(end * fps))
        if span.start_frame == span.end_frame:
            message = f"{length(end - start)} is less than a frame; at least 1f ({length(1 / fps)})"
            raise end_error(timeline, index, message)
        found.append(span)
    return found


def _start(timeline: Timeline, index: int, previous_end: Fraction, fps: Fraction) -> Fraction:
    at = timeline.shots[index].at
    if at is None:
        return previous_end
    start = at.seconds(fps)
    if start == previous_end:
        return start
    if index == 0:
        raise _error(timeline, 0, "at", f"is {clock(start)}; the first shot starts at 0")
    what = "a gap" if start > previous_end else "an overlap"
    message = (
        f"is {clock(start)}, but shots[{index - 1}] ends at {clock(previous_end)}: "
        f"{what} of {length(abs(start - previous_end))}; leave `at` out, or write {clock(previous_end)}"
    )
    raise _error(timeline, index, "at", message)


def _end(timeline: Timeline, index: int, start: Fraction, fps: Fraction) -> Fraction:
    shot = timeline.shots[index]
    following = timeline.shots[index + 1].at if index + 1 < len(timeline.shots) else None
    if shot.until is not None:
        if shot.seconds is not None:
            raise _error(timeline, index, "until", "stands beside `seconds`; keep one of the two")
        end = shot.until.seconds(fps)
        if end <= start:
            message = f"is {clock(end)}, not after the shot's start at {clock(start)}"
            raise _error(timeline, index, "until", message)
        return end
    if shot.seconds is not None:
        return start + shot.seconds.seconds(fps)
    if following is None:
        message = "has no end; give it `seconds` or `until`, or the next shot `at`"
        raise timeline.source.error(("shots", index), message)
    end = following.seconds(fps)
    if end <= start:
        message = f"is {clock(end)}, not after the start of shots[{index}], {clock(start)}"
        raise _error(timeline, index + 1, "at", message)
    return end


def snap(geometry: Geometry, ends: Sequence[int]) -> list[int]:
    """Units of each shot of a run, from the frames at which its shots are asked to end (the run begins at 0).

    A switch goes to the nearest border of two chunks, ties to the earlier; the run's own end stays where it
    is, inside its last chunk. A shot that is left with no unit is too short.
    """
    switches = [_nearest_border(geometry, end) for end in ends[:-1]]
    borders = [0, *switches, geometry.run_chunks(ends[-1])]
    return [after - before for before, after in pairwise(borders)]


def _nearest_border(geometry: Geometry, frame: int) -> int:
    """Number of the chunk border nearest to a frame of a run; 0 is the run's start."""
    first, chunk = geometry.first_chunk_frames, geometry.chunk_frames
    if frame <= first:
        return int(2 * frame > first)
    whole, rest = divmod(frame - first, chunk)
    return 1 + whole + int(2 * rest > chunk)


def end_error(timeline: Timeline, index: int, message: str) -> UserError:
    """An error about how long a shot lasts, at the key that says so."""
    shot = timeline.shots[index]
    key = "until" if shot.until is not None else "seconds" if shot.seconds is not None else None
    return _error(timeline, index, key, message) if key else timeline.source.error(("shots", index), message)


def _error(timeline: Timeline, index: int, key: str, message: str) -> UserError:
    return timeline.source.error(("shots", index, key), message)
