"""WanGP's timed prompts, in their three forms.

Relay: a text for the whole film, then ``[0%:25%] text [25%:] text``; a bound is a share of the film, a time
(``2s``, ``0:02``) or a frame, counted from 1, the last one included. Windows: a line or, where lines break
inside of a prompt, a paragraph for each sliding window, behind commands such as ``[/duration=5s,/new_shot]``.
Beats: ``(at 2 seconds: text)``, each to the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from longvid.document import show
from longvid.schedules.imports import DEFAULT_SECONDS, Asked, Imported, Notes, line_at, plain
from longvid.schedules.sections import Section, spanned
from longvid.times import Time, round_half_up

_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_SHARE = re.compile(rf"({_NUMBER})\s*%")
_SECONDS = re.compile(rf"({_NUMBER})\s*s(?:ec|ecs|econd|econds)?", re.IGNORECASE)
_CLOCK = re.compile(rf"(?:([0-9]{{1,4}}):)?([0-9]{{1,4}}):({_NUMBER})")
_FRAME = re.compile(r"[0-9]{1,9}")
_MARKER = re.compile(r"\[([^\[\]]{1,60})\]")
_BEAT = re.compile(
    rf"\(\s*at\s+({_NUMBER})\s*s(?:ec|ecs|econd|econds)?\s*:\s*((?:[^()]|\([^()]*\))*)\)", re.IGNORECASE
)
_COMMANDS = re.compile(r"\[\s*(/[^\[\]]*)\]")


def meant(text: str) -> bool:
    """Whether a text is in one of WanGP's three forms."""
    relayed = any(_bounds(match[1]) for match in _MARKER.finditer(text))
    return relayed or bool(_COMMANDS.search(text) or _BEAT.search(text))


def read(text: str, asked: Asked) -> Imported:
    """Raises UserError for times that are none, go backwards or overlap, and for a share of no length."""
    notes = Notes()
    text = _without_comments(text, asked)
    if _COMMANDS.search(text):
        shots, lines = _windows(text, asked, notes)
        extra: dict[str, Any] = {}
    elif _BEAT.search(text):
        shots, lines = _beats(text, asked, notes)
        extra = {}
    elif any(_bounds(match[1]) for match in _MARKER.finditer(text)):
        shots, lines, extra = _relayed(text, asked, notes)
    else:
        message = (
            "holds no timed prompt of WanGP; one reads [0%:25%] text, or a line begins with [/duration=5s]"
        )
        raise asked.error(0, message)
    data = {**({"fps": asked.fps} if asked.fps else {}), **extra, "shots": shots}
    return Imported("WanGP", data, {("shots", i): line for i, line in enumerate(lines)}, notes)


def _without_comments(text: str, asked: Asked) -> str:
    """With an empty line for each comment, so that lines keep their numbers."""
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if line.lstrip().startswith("!"):
            raise asked.error(number, "a macro of WanGP, which is not read; write its prompts out")
    return "\n".join("" if line.lstrip().startswith("#") else line for line in lines)


@dataclass(frozen=True)
class _Bound:
    amount: Fraction
    unit: str
    """``%``, ``s`` or ``f``."""


def _bound(text: str) -> _Bound | None:
    if match := _SHARE.fullmatch(text):
        return _Bound(Fraction(match[1]), "%")
    if match := _SECONDS.fullmatch(text):
        return _Bound(Fraction(match[1]), "s")
    if match := _CLOCK.fullmatch(text):
        hours, minutes, seconds = int(match[1] or 0), int(match[2]), Fraction(match[3])
        return _Bound(3600 * hours + 60 * minutes + seconds, "s")
    return _Bound(Fraction(text), "f") if _FRAME.fullmatch(text) else None


def _bounds(marker: str) -> tuple[_Bound, _Bound | None] | None:
    """What ``start:end`` or ``start:`` says, whose times may hold colons too; None where it is words."""
    found = None
    for colon in re.finditer(":", marker):
        start, rest = _bound(marker[: colon.start()].strip()), marker[colon.end() :].strip()
        end = _bound(rest) if rest else None
        if not start or (rest and (end is None or end.unit != start.unit)):
            continue
        # Of frames that go backwards, as [16:9], WanGP makes words too.
        if start.unit != "f" or end is None or end.amount >= start.amount:
            found = start, end
    return found


def _relayed(text: str, asked: Asked, notes: Notes) -> tuple[list[dict[str, Any]], list[int], dict[str, Any]]:
    """Shots, their lines, and what is said of the whole film: its style."""
    markers = [(match, bounds) for match in _MARKER.finditer(text) if (bounds := _bounds(match[1]))]
    whole = plain(text[: markers[0][0].start()], asked, notes, 1)
    ends = [match.start() for match, _ in markers[1:]] + [len(text)]
    sections = []
    for (match, (start, end)), stop in zip(markers, ends, strict=True):
        line = line_at(text, match.start())
        prompt = plain(text[match.end() : stop], asked, notes, line)
        if not prompt:
            raise asked.error(line, f"{match[0]} has no prompt; write what is seen then")
        # Frames count from 1, and the last one is shown: so the end is the frame behind it.
        first = _Bound(max(start.amount - 1, Fraction(0)), "f") if start.unit == "f" else start
        if end == _Bound(Fraction(100), "%"):
            end = None
        last = None if end is None else _time(end, line, asked)
        sections.append(Section(_time(first, line, asked), last, prompt, line))
    begins = [section.start.amount for section in sections]
    gapless = not begins[0] and all(
        section.end is None or section.end.amount >= following
        for section, following in zip(sections, begins[1:], strict=False)
    )
    if not gapless and not whole and begins[0]:
        raise asked.error(
            sections[0].line, "there is no prompt at 0; begin with one at 0, or with one for all"
        )
    if whole and gapless:
        notes.add("the text in front became `style`: it goes behind every prompt, not in front")
        return *spanned(sections, "", asked, notes), {"style": whole}
    joined = [
        Section(s.start, s.end, f"{whole}, {s.prompt}" if whole else s.prompt, s.line) for s in sections
    ]
    return *spanned(joined, whole, asked, notes), {}


def _time(bound: _Bound, line: int, asked: Asked) -> Time:
    if bound.unit != "%":
        return Time(bound.amount, in_frames=bound.unit == "f")
    if not bound.amount:
        return Time(Fraction(0), in_frames=bool(asked.seconds and asked.seconds.in_frames))
    if asked.seconds is None:
        raise asked.error(line, f"{float(bound.amount):g}% of what; give the film's length with --seconds")
    share = asked.seconds.amount * bound.amount / 100
    return Time(Fraction(round_half_up(share)), True) if asked.seconds.in_frames else Time(share)


def _beats(text: str, asked: Asked, notes: Notes) -> tuple[list[dict[str, Any]], list[int]]:
    sections = []
    for match in _BEAT.finditer(text):
        line = line_at(text, match.start())
        prompt = plain(match[2], asked, notes, line)
        if not prompt:
            raise asked.error(line, f"{show(match[0])} has no prompt; write what is seen then")
        sections.append(Section(Time(Fraction(match[1])), None, prompt, line))
    whole = plain(_BEAT.sub(" ", text).replace(" .", " "), asked, notes, 0).strip(" .,;")
    if sections[0].start.amount and not whole:
        raise asked.error(sections[0].line, "there is no prompt at 0; begin with (at 0 seconds: ...)")
    if not whole:
        return spanned(sections, "", asked, notes)
    joined = [Section(s.start, s.end, f"{whole}, {s.prompt}", s.line) for s in sections]
    return spanned(joined, whole, asked, notes)


def _windows(text: str, asked: Asked, notes: Notes) -> tuple[list[dict[str, Any]], list[int]]:
    shots: list[dict[str, Any]] = []
    lines: list[int] = []
    for line, window in _paragraphs(text, notes):
        prompt = plain(_COMMANDS.sub(" ", window), asked, notes, line)
        if not prompt:
            raise asked.error(line, "a window without a prompt; write what is seen in it behind its commands")
        shot: dict[str, Any] = {"prompt": prompt}
        for command in (part.strip() for found in _COMMANDS.findall(window) for part in found.split(",")):
            name, _, value = (part.strip() for part in command.partition("="))
            if name == "/duration":
                shot["seconds"] = _duration(value, line, asked)
            elif name == "/new_shot" or (name, value) == ("/overlap", "0"):
                if shots:
                    shot["cut"] = True
            elif name == "/overlap":
                notes.add("the windows' overlap is left out: longvid's windows have their own", line)
            else:
                notes.add(f"the command {show(name)} is left out", line)
        shots.append(shot)
        lines.append(line)
    _share_out(shots, asked, notes)
    return shots, lines


def _paragraphs(text: str, notes: Notes) -> Iterator[tuple[int, str]]:
    """Each window's prompt, and its line: every line; a paragraph of several where empty lines part them."""
    paragraphs = list(re.finditer(r"\S[^\n]*(?:\n[^\n]*\S[^\n]*)*", text))
    for match in paragraphs:
        window, first = "", line_at(text, match.start())
        for number, line in enumerate(match[0].split("\n"), start=first):
            if window and (len(paragraphs) == 1 or line.lstrip().startswith("[/")):
                yield first, window
                window, first = "", number
            elif window:
                notes.add("lines of one paragraph are one window's prompt", number)
            window += f" {line}"
        yield first, window


def _duration(value: str, line: int, asked: Asked) -> Time:
    bound = _bound(value)
    if bound is None or not bound.amount:
        message = f"/duration={value} is no length; write frames, as 121, seconds, as 5s, or a share, as 25%"
        raise asked.error(line, message)
    return _time(bound, line, asked)


def _share_out(shots: list[dict[str, Any]], asked: Asked, notes: Notes) -> None:
    """Windows without a duration share what the others leave of the film; 5 s each where none is said."""
    without = [shot for shot in shots if "seconds" not in shot]
    if not without:
        return
    taken = [shot["seconds"] for shot in shots if "seconds" in shot]
    whole, each = asked.seconds, DEFAULT_SECONDS
    if whole is not None and all(time.in_frames == whole.in_frames for time in taken):
        left = whole.amount - sum(time.amount for time in taken)
        share = Fraction(round_half_up(left / len(without))) if whole.in_frames else left / len(without)
        if share <= 0:
            raise asked.error(0, "the durations leave nothing of --seconds for the windows without one")
        each = Time(share, whole.in_frames)
        notes.add("windows without a duration share what the others leave of --seconds")
    else:
        notes.add("windows without a duration last 5 s: WanGP's window size is a setting beside the text")
    for shot in without:
        shot["seconds"] = each
