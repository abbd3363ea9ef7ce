"""What is asked of an import, and what comes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from longvid.document import NodePath
from longvid.errors import UserError
from longvid.times import Time, round_half_up
from longvid.values import MAX_TEXT

DEFAULT_SECONDS = Time(Fraction(5))
"""Of a line, or of a last prompt, that nothing says the length of."""


@dataclass(frozen=True)
class Asked:
    """The file's name in messages, and what the command line says in place of the file."""

    name: str
    fps: Fraction | None = None
    """Rate at which the file's frames count."""
    seconds: Time | None = None
    """Length of each line of a list; of the whole film elsewhere."""

    def whole(self, *, in_frames: bool, fps: Fraction | None) -> Time:
        """``seconds`` in the unit in which the file's times are. Raises UserError without the rate for it."""
        assert self.seconds is not None
        if self.seconds.in_frames == in_frames:
            return self.seconds
        if fps is None and in_frames:
            fix = "give --fps as well, or the length in frames, as --seconds 120f"
            raise UserError(f"--seconds: {self.name} counts frames at no known rate; {fix}")
        if fps is None:
            fix = "give --fps as well, or the length in seconds"
            raise UserError(f"--seconds: {self.name} counts in seconds; {fix}")
        if in_frames:
            return Time(Fraction(round_half_up(self.seconds.amount * fps)), in_frames=True)
        return Time(self.seconds.amount / fps)

    def error(self, line: int, message: str) -> UserError:
        return UserError(f"{self.name}:{line}: {message}" if line else f"{self.name}: {message}")


@dataclass
class Notes:
    """What could not be carried over, or was decided: each message, and the lines that it is about."""

    lines: dict[str, list[int]] = field(default_factory=dict)

    def add(self, message: str, line: int = 0) -> None:
        """``line`` 0: about the whole file."""
        about = self.lines.setdefault(message, [])
        if line and line not in about:
            about.append(line)

    def told(self, most_lines: int = 8) -> list[str]:
        """One line each: ``line 3: message``, ``lines 3, 7: message``, or the message alone."""
        told = []
        for message, about in self.lines.items():
            shown = ", ".join(map(str, sorted(about)[:most_lines]))
            more = f" and {len(about) - most_lines} more" if len(about) > most_lines else ""
            told.append(f"line{'s' * (len(about) > 1)} {shown}{more}: {message}" if about else message)
        return told


@dataclass(frozen=True)
class Imported:
    """A schedule as a timeline's plain data, as ``timeline.build`` takes it."""

    tool: str
    """Whose schedule it is, in words."""
    data: Mapping[str, Any]
    lines: Mapping[NodePath, int]
    """Of the schedule, by what became of them: ("shots", 2, "prompt")."""
    notes: Notes


def line_at(text: str, position: int) -> int:
    """Number of the line that a position lies in, from 1."""
    return text.count("\n", 0, position) + 1


_LORA = re.compile(r"<\s*(?:lora|lyco|hypernet)\s*:[^<>]*>", re.IGNORECASE)
_EXPRESSION = re.compile(r"\s*:?\s*`[^`]*`")
_WEIGHT = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
_WEIGHTED = re.compile(rf"(?<!\\)\(([^()]*?)\s*:\s*{_WEIGHT}\s*\)")
_EMPHASIS = re.compile(r"(?<!\\)\(([^()]*)(?<!\\)\)")
_DEEMPHASIS = re.compile(r"(?<!\\)\[([^\[\]:|]*)(?<!\\)\]")
_EDITING = re.compile(r"(?<!\\)\[[^\[\]]*[:|][^\[\]]*\]")
_AND_WEIGHT = re.compile(rf"\s*:\s*{_WEIGHT}\s*(?=AND\b|$)")
_EMPTY_PARTS = re.compile(r"\s*,(?:\s*,)+")

LORA = "LoRA tags such as <lora:name:1> are left out: longvid loads no LoRA"
WEIGHTS = "weights such as (word:1.2) or ((word)) are left out: the words stay"
EXPRESSIONS = "expressions between backticks are left out: a prompt does not change from frame to frame"
EDITING = "prompt editing such as [from:to:0.5] stays as text: a model reads it as words"
COMPOSED = "AND between prompts became a comma: longvid does not compose prompts"


def plain(text: str, asked: Asked, notes: Notes, line: int) -> str:
    """A prompt without LoRA tags, on one line. Raises UserError for one that is far too long."""
    _check_length(text, asked, line)
    return _without(_LORA, text, LORA, notes, line)


def plain_weighted(text: str, asked: Asked, notes: Notes, line: int) -> str:
    """The words alone of a prompt in the syntax of Stable Diffusion's interfaces, on one line.

    Raises UserError for one that is far too long.
    """
    _check_length(text, asked, line)
    text = _without(_LORA, text, LORA, notes, line)
    text = _without(_EXPRESSION, text, EXPRESSIONS, notes, line)
    if re.search(r"\bAND\b", text):
        notes.add(COMPOSED, line)
        text = re.sub(r"\s*\bAND\b\s*", ", ", _AND_WEIGHT.sub(" ", text))
    unweighted = text
    while (inner := _unwrapped(unweighted)) != unweighted:  # from the inside out
        unweighted = inner
    if unweighted != text:
        notes.add(WEIGHTS, line)
    if _EDITING.search(unweighted):
        notes.add(EDITING, line)
    return _tidy(re.sub(r"\\([()\[\]])", r"\1", unweighted))


def _check_length(text: str, asked: Asked, line: int) -> None:
    """What is left of a prompt counts; but nobody wrote so much around it, and it would take long."""
    if len(text) > 4 * MAX_TEXT:
        raise asked.error(line, f"a prompt of {len(text)} characters; at most {MAX_TEXT}")


def _unwrapped(text: str) -> str:
    """Without the innermost parentheses and brackets, and the weights in them."""
    for pattern in (_WEIGHTED, _EMPHASIS, _DEEMPHASIS):
        text = pattern.sub(r"\1", text)
    return text


def _without(pattern: re.Pattern[str], text: str, message: str, notes: Notes, line: int) -> str:
    if pattern.search(text):
        notes.add(message, line)
    return _tidy(pattern.sub(" ", text))


def _tidy(text: str) -> str:
    """On one line, without the commas of parts that are gone."""
    text = _EMPTY_PARTS.sub(",", " ".join(text.split()))
    return re.sub(r"\s+([,.;])", r"\1", text).strip(", ")
