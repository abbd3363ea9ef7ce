"""Prompts at frames, ``{"0": "...", "48": "..."}``: what Deforum and FizzNodes have in common."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import groupby
from typing import Any

from longvid.document import show
from longvid.schedules.imports import DEFAULT_SECONDS, Asked, Notes, plain_weighted
from longvid.times import MAX_FPS, MAX_SECONDS, Time

MAX_FRAMES = MAX_SECONDS * MAX_FPS
MAX_KEY_CHARACTERS = 100


@dataclass(frozen=True)
class Keyframe:
    """A prompt, and the frame at which it is alone."""

    frame: int
    prompt: str
    negative: str
    line: int


_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")


def loads(text: str, asked: Asked) -> Any:
    """What a JSON text says, numbers with a point as Decimal. Raises UserError; no key may come twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key, value in pairs:
            if key in mapping:
                line = _key_lines(text).get(key, [0])[-1]
                raise asked.error(line, f"{show(key)} is given twice; keep one")
            if isinstance(value, str) and (control := _CONTROL.search(value)):
                message = f"{show(key)} holds the control character U+{ord(control[0]):04X}"
                raise asked.error(_key_lines(text).get(key, [0])[0], message)
            mapping[key] = value
        return mapping

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON number")

    try:
        # Not strict: a line break inside a prompt is what people paste.
        return json.loads(
            text, strict=False, object_pairs_hook=once, parse_float=Decimal, parse_constant=refuse
        )
    except json.JSONDecodeError as error:
        raise asked.error(error.lineno, f"is not JSON: {_explain(error, text)}") from None
    except RecursionError:
        raise asked.error(0, "is not JSON of a schedule: it is nested too deeply") from None
    except ValueError as error:
        raise asked.error(0, f"is not JSON: {error}") from None


def _key_lines(text: str) -> dict[str, list[int]]:
    """The lines on which each key of a JSON text stands, as it is written there."""
    found: dict[str, list[int]] = {}
    line, before = 1, 0
    for match in re.finditer(r'"((?:[^"\\]|\\.)*)"\s*:', text):
        line, before = line + text.count("\n", before, match.start()), match.start()
        found.setdefault(match[1], []).append(line)
    return found


def _explain(error: json.JSONDecodeError, text: str) -> str:
    before, after = text[: error.pos].rstrip(), text[error.pos :].lstrip()
    if before.endswith(",") and after[:1] in ("}", "]"):
        return f"a comma before the last {after[0]}; remove it"
    if error.msg.startswith("Illegal trailing comma"):
        return "a comma before the last brace; remove it"
    if not after:
        return "it ends too early; a quote or a brace is missing"
    if error.msg.startswith("Expecting ',' delimiter"):
        return 'a comma is missing, or a quote inside a prompt is not written as \\"'
    if error.msg.startswith("Expecting property name"):
        return 'a key must stand in double quotes, as in "48"'
    if error.msg.startswith("Extra data"):
        return "something stands behind the last brace; remove it"
    if error.msg.startswith("Expecting ':'"):
        return "a colon is missing between a frame and its prompt"
    return f"{error.msg[0].lower()}{error.msg[1:]} at column {error.colno}"


def number(value: object) -> Fraction | None:
    """A number of a settings file, also where it is written as text; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    if isinstance(value, str) and not re.fullmatch(r"\s*-?[0-9]{1,30}(\.[0-9]{1,30})?\s*", value):
        return None
    if isinstance(value, Decimal) and not (value.is_finite() and -30 < value.adjusted() < 30):
        return None
    return Fraction(value)


def end_frame(asked: Asked, max_frames: object, fps: Fraction | None) -> int | None:
    """Where the film ends: where --seconds says, else after the file's frames; None where nothing says it."""
    if asked.seconds is not None:
        return int(asked.whole(in_frames=True, fps=fps).amount)
    if max_frames is None:
        return None
    frames = number(max_frames)
    if frames is None or frames.denominator > 1 or not 1 <= frames <= MAX_FRAMES:
        raise asked.error(0, f"max_frames: {show(max_frames)} is no number of frames; give --seconds")
    return int(frames)


def keyframes(
    prompts: Mapping[str, Any], max_f: int | None, negative: str, asked: Asked, text: str, notes: Notes
) -> list[Keyframe]:
    """The prompts in order of time, the first one from frame 0 on: so both tools have it.

    ``max_f``: what it stands for in a key that is an expression, None where the film's length is not known.
    ``negative``: what the tool adds to the negative of every prompt. ``text``: the file's, for line numbers.
    """
    if not prompts:
        raise asked.error(0, 'holds no prompt; a schedule reads {"0": "a boat", "48": "a storm"}')
    found: dict[int, Keyframe] = {}
    lines = _key_lines(text)
    for key, said in prompts.items():
        line = lines.get(key, [0])[0]
        frame = _frame(key, max_f, line, asked, notes)
        if frame in found:
            raise asked.error(line, f"frame {frame} is given twice, as {show(key)} too; keep one")
        if not isinstance(said, str):
            raise asked.error(line, f"the prompt of frame {frame}, {show(said)}, is not text")
        positive, _, own = said.partition("--neg")
        prompt = plain_weighted(positive, asked, notes, line)
        if not prompt:
            raise asked.error(line, f"frame {frame} has no prompt; write what is seen from there on")
        own = plain_weighted(own.replace("--neg", " "), asked, notes, line)
        both = ", ".join(part for part in (own, negative) if part)
        found[frame] = Keyframe(frame, prompt, both, line)
    ordered = [found[frame] for frame in sorted(found)]
    if list(found) != sorted(found):
        notes.add("the frames are not in order; they are sorted, as the tool does it")
    first = ordered[0]
    if first.frame:
        notes.add(
            f"nothing stands at frame 0; the prompt of frame {first.frame} holds from there", first.line
        )
        ordered.insert(0, Keyframe(0, first.prompt, first.negative, first.line))
    return ordered


_OPERATORS: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}


_ARITHMETIC = re.compile(r"(?:max_f|[-+*/()0-9.\s])+")


def _frame(key: str, max_f: int | None, line: int, asked: Asked, notes: Notes) -> int:
    """The frame that a key names: a number, or arithmetic with ``max_f``, rounded towards 0."""
    if re.fullmatch(r"\s*[0-9]{1,9}\s*", key):
        frame = int(key)
    else:
        fix = 'write a number, as "48", or arithmetic with max_f, as "max_f/2"'
        if "max_f" in key and max_f is None:
            message = (
                f"{show(key)} counts from the film's length, which the file does not say; give --seconds"
            )
            raise asked.error(line, message)
        try:
            if len(key) > MAX_KEY_CHARACTERS or not _ARITHMETIC.fullmatch(key):
                raise ValueError
            frame = int(_value(ast.parse(key.strip(), mode="eval").body, max_f))
        except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
            raise asked.error(line, f"{show(key)} is no frame; {fix}") from None
        notes.add(f"the frame {show(key)} is {frame} here: a timeline does not calculate", line)
    if not 0 <= frame <= MAX_FRAMES:
        raise asked.error(line, f"frame {frame} is out of range; 0 to {MAX_FRAMES}")
    return frame


def _value(node: ast.expr, max_f: int | None) -> Fraction:
    """Exact arithmetic; no names, calls or powers beyond it. Raises ValueError."""
    match node:
        case ast.Constant(value=int() | float() as constant) if not isinstance(constant, bool):
            return Fraction(str(constant))
        case ast.Name(id="max_f") if max_f is not None:
            return Fraction(max_f)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, max_f)
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
            return _OPERATORS[type(operator)](_value(left, max_f), _value(right, max_f))
    raise ValueError


def held(keys: Sequence[Keyframe], end: int | None, notes: Notes) -> tuple[list[dict[str, Any]], list[int]]:
    """Shots, and their lines: each prompt holds until the next one's frame."""
    shown = [key for key in keys if end is None or key.frame < end]
    for key in keys[len(shown) :]:
        notes.add(f"the film ends at frame {end}, before this prompt: left out", key.line)
    groups = list(_groups(shown))
    shots = [_shot(group[0], group[0].frame) for group in groups]
    shots[-1] |= _last(shown, end, notes)
    return shots, [group[0].line for group in groups]


def faded(keys: Sequence[Keyframe], end: int | None, notes: Notes) -> tuple[list[dict[str, Any]], list[int]]:
    """Shots, and their lines: between two keyframes the one prompt fades into the other.

    So a shot begins at the keyframe before its own, and its blend lasts to its own. The film's first prompt
    is alone for one frame only, which is no shot: it holds for the first half of its fade.
    """
    groups = list(_groups(keys))
    shots, lines, start = [_shot(groups[0][0], 0)], [groups[0][0].line], groups[0][-1].frame
    for key, *more in groups[1:]:
        # A blend cannot stop on its way: what is not half there when the film ends is left out.
        if end is not None and start + key.frame >= 2 * end:
            notes.add(f"the film ends at frame {end}, before this prompt is half there: left out", key.line)
            continue
        if not start:
            start = max(1, key.frame // 2)
            notes.add("the first prompt holds for half of its fade: it needs a shot of its own", lines[0])
        until = key.frame
        if end is not None and until > end:
            until = end
            notes.add(f"the film ends at frame {end}, within this prompt's fade: so the fade does", key.line)
        shot = _shot(key, start)
        if until > start:
            shot["blend_seconds"] = Time(Fraction(until - start), in_frames=True)
        shots.append(shot)
        lines.append(key.line)
        start = [key, *more][-1].frame
    if len(shots) > 1:
        notes.add(
            "prompts fade from keyframe to keyframe: a shot begins where its fade does, and "
            "`blend_seconds` lasts to its keyframe"
        )
    shots[-1] |= _last(keys, end, notes)
    return shots, lines


def _groups(keys: Sequence[Keyframe]) -> Iterator[list[Keyframe]]:
    """Keyframes that say the same one after another: one shot."""
    for _, group in groupby(keys, key=lambda key: (key.prompt, key.negative)):
        yield list(group)


def _shot(key: Keyframe, start: int) -> dict[str, Any]:
    return {
        "at": Time(Fraction(start), in_frames=True),
        "prompt": key.prompt,
        **({"negative": key.negative} if key.negative else {}),
    }


def _last(keys: Sequence[Keyframe], end: int | None, notes: Notes) -> dict[str, Any]:
    """The last shot's end. Where nothing says it, the last prompt lasts as long as the one before it."""
    if end is not None:
        return {"until": Time(Fraction(end), in_frames=True)}
    if len(keys) == 1:
        notes.add("the file does not say where the film ends: 5 s; --seconds says it")
        return {"seconds": DEFAULT_SECONDS}
    before, last = keys[-2].frame, keys[-1].frame
    notes.add(
        "the file does not say where the film ends: the last prompt lasts as long as the one before it; "
        "--seconds says it"
    )
    return {"until": Time(Fraction(2 * last - before), in_frames=True)}


def film(
    shots: list[dict[str, Any]], fps: Fraction | None, style: str = "", negative: str = ""
) -> dict[str, Any]:
    """A timeline's data, in the order in which people write it; one negative for all shots is the film's."""
    negatives = {shot.get("negative", "") for shot in shots}
    common = negatives.pop() if len(negatives) == 1 else negative
    for shot in shots:
        if shot.get("negative", "") == common:
            shot.pop("negative", None)
        else:
            shot.setdefault("negative", "")
    data: dict[str, Any] = {"fps": fps, "style": style, "negative": common, "shots": shots}
    return {key: value for key, value in data.items() if value}
