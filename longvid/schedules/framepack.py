"""FramePack-Studio's timed prompts: ``[0s-2s: text] [2s: text]``, each in brackets of its own.

The first time is a start; an end may follow, else the next section's start is it, and the film's own end the
last one's. Text outside of the brackets stands before the first section. FramePack-Studio moves every time to
the nearest border of its sections (33 frames at 30 a second, 1.1 s); a timeline keeps what was written, and
moves it to the model's own borders. How long prompts blend is a setting beside the text.
"""

from __future__ import annotations

import re
from fractions import Fraction

from longvid.document import show
from longvid.schedules.imports import Asked, Imported, Notes, line_at, plain
from longvid.schedules.sections import Section, spanned
from longvid.times import Time

SECTION_SECONDS = Fraction(33, 30)

_NUMBER = r"[0-9]{1,7}(?:\.[0-9]{1,9})?"
_SECTION = re.compile(rf"\[\s*({_NUMBER})s(?:\s*-\s*(?:({_NUMBER})s)?)?\s*:([^\[\]]*)\]")
_MEANT = re.compile(
    r"\[\s*[0-9][0-9.]*\s*(?:s|sec|secs|seconds?|f)?\s*(?:-[^:\[\]]*)?:[^\[\]]*\]?", re.IGNORECASE
)
_BOUND = re.compile(r"[0-9.:]+\s*(?:%|s|sec|secs|seconds?)?", re.IGNORECASE)


def meant(text: str) -> bool:
    """Whether a text has brackets that begin with a time and go on with words, not with another time."""
    inside = (match[0].strip("[] ").partition(":")[2].strip() for match in _MEANT.finditer(text))
    return any(words and not _BOUND.fullmatch(words) for words in inside)


def read(text: str, asked: Asked) -> Imported:
    """Raises UserError for times that are none, go backwards or overlap."""
    notes = Notes()
    sections: list[Section] = []
    for match in _SECTION.finditer(text):
        line = line_at(text, match.start())
        start, end = (Time(Fraction(said)) if said else None for said in match.group(1, 2))
        assert start is not None
        prompt = plain(match[3], asked, notes, line)
        if not prompt:
            raise asked.error(line, f"{show(match[0])} has no prompt; write what is seen from there on")
        sections.append(Section(start, end, prompt, line))
    outside = _SECTION.sub(lambda match: "\n" * match[0].count("\n"), text)
    if wrong := _MEANT.search(outside):
        message = f"{show(wrong[0])} is no timed prompt; write [2s: text] or [0s-2s: text]"
        raise asked.error(line_at(outside, wrong.start()), message)
    if not sections:
        raise asked.error(0, "holds no timed prompt; one reads [2s: text] or [0s-2s: text]")
    if lead := plain(outside, asked, notes, 0):
        if sections[0].start.amount:
            sections.insert(0, Section(Time(Fraction(0)), None, lead, 1))
        else:
            message = "is left out: a prompt begins at 0 s; `style` of a film adds words to every prompt"
            notes.add(f"text outside of the brackets, {show(lead)}, {message}")
    times = [time for section in sections for time in (section.start, section.end) if time]
    if any(time.amount % SECTION_SECONDS for time in times):
        notes.add("the times are as written: FramePack-Studio moves them to its sections of 1.1 s")
    shots, lines = spanned(sections, "", asked, notes)
    if len(shots) > 1:
        notes.add("how long prompts blend is no part of the text: `blend_seconds` of a shot says it")
    data = {**({"fps": asked.fps} if asked.fps else {}), "shots": shots}
    return Imported("FramePack-Studio", data, {("shots", i): line for i, line in enumerate(lines)}, notes)
