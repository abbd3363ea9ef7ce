"""Prompts with times of their own, in seconds or frames: what FramePack-Studio and WanGP have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from longvid.schedules.imports import DEFAULT_SECONDS, Asked, Notes
from longvid.times import Time, length


@dataclass(frozen=True)
class Section:
    """A prompt from a time on, to its end or, where it has none, to the next one's start."""

    start: Time
    end: Time | None
    prompt: str
    line: int


def spanned(
    sections: Sequence[Section], between: str, asked: Asked, notes: Notes
) -> tuple[list[dict[str, Any]], list[int]]:
    """Shots, and their lines. Raises UserError for times that go backwards or overlap.

    ``between``: the prompt where no section is, empty for the one before (at the start: the first one).
    """
    frames = _frames_alone(sections, asked)
    sections = _filled(sections, between, asked, notes)
    whole = sections[-1].end
    if asked.seconds is not None:
        whole = asked.whole(in_frames=frames, fps=asked.fps)
        shown = [section for section in sections if section.start.amount < whole.amount]
        for section in sections[len(shown) :]:
            notes.add(f"the film ends at {_told(whole)}, before this prompt: left out", section.line)
        sections = shown
    shots: list[dict[str, Any]] = [{"at": section.start, "prompt": section.prompt} for section in sections]
    if whole is not None:
        shots[-1]["until"] = whole
    else:
        notes.add("the file does not say where the film ends: the last prompt lasts 5 s; --seconds says it")
        shots[-1]["seconds"] = DEFAULT_SECONDS
    return shots, [section.line for section in sections]


def _filled(sections: Sequence[Section], between: str, asked: Asked, notes: Notes) -> list[Section]:
    """The sections without a gap, from 0 on."""
    filled: list[Section] = []
    ended: Time | None = Time(Fraction(0), in_frames=sections[0].start.in_frames)
    for section in sections:
        if section.end is not None and section.end.amount <= section.start.amount:
            message = f"ends at {_told(section.end)}, not after its start at {_told(section.start)}"
            raise asked.error(section.line, message)
        if filled and section.start.amount <= filled[-1].start.amount:
            message = f"starts at {_told(section.start)}, the prompt before it at {_told(filled[-1].start)}"
            raise asked.error(section.line, f"{message}; put them in order of time")
        if ended is not None and section.start.amount < ended.amount:
            message = f"starts at {_told(section.start)}, before the prompt before it ends at {_told(ended)}"
            raise asked.error(section.line, f"{message}; let it end there, or leave its end out")
        if ended is not None and section.start.amount > ended.amount:
            if between:
                filled.append(Section(ended, section.start, between, section.line))
            elif filled:
                gap = f"nothing stands between {_told(ended)} and {_told(section.start)}"
                notes.add(f"{gap}: the prompt before holds on", section.line)
            else:
                gap = f"nothing stands before {_told(section.start)}"
                notes.add(f"{gap}: this prompt holds from 0, as the tool has it", section.line)
                section = Section(ended, section.end, section.prompt, section.line)
        filled.append(section)
        ended = section.end
    return filled


def _frames_alone(sections: Sequence[Section], asked: Asked) -> bool:
    """Whether the times are in frames; they cannot be in both without being compared."""
    for section in sections:
        if section.start.in_frames != sections[0].start.in_frames:
            raise asked.error(section.line, "frames here, seconds before; write one of the two throughout")
    return sections[0].start.in_frames


def _told(time: Time) -> str:
    return f"frame {time.amount}" if time.in_frames else length(time.amount)
