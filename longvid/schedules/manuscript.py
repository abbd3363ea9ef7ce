"""A timeline's plain data -> YAML as a person writes it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from longvid.document import parse
from longvid.errors import UserError
from longvid.times import Time

WIDTH = 100
MOST_DECIMALS = 3
"""Of seconds that a person reads; frames are written where more would be needed."""


def written(data: Mapping[str, Any], heading: Sequence[str]) -> str:
    """The YAML text of what ``timeline.build`` takes; ``heading``: comments on top, a line each.

    Frames become seconds, with the frame behind them, where the rate is known and all of them are short
    decimals. Reading it back gives the same film.
    """
    fps: Fraction | None = data.get("fps")
    times = [value for shot in data["shots"] for value in shot.values() if isinstance(value, Time)]
    in_seconds = fps is not None and all(_decimals(time.seconds(fps)) is not None for time in times)
    lines = [line for comment in heading for line in _comment(comment)]
    lines += ["", *(_entry(key, value, None, "") for key, value in data.items() if key != "shots")]
    lines += ["", "shots:"] if len(data) > 1 else ["shots:"]
    for index, shot in enumerate(data["shots"]):
        lines += [""] * (index > 0)
        entries = [_entry(key, value, fps if in_seconds else None, "    ") for key, value in shot.items()]
        entries[0] = f"  - {entries[0].lstrip()}"
        lines += entries
    return "\n".join(lines).lstrip("\n") + "\n"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        "".join(c if c.isprintable() else "?" for c in text),
        WIDTH,
        initial_indent="# ",
        subsequent_indent="#   ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _entry(key: str, value: Any, fps: Fraction | None, indent: str) -> str:
    """``key: value``; times in frames become seconds where ``fps`` is given."""
    match value:
        case Time(in_frames=True) if fps is not None and value.amount:
            said = f"{indent}{key}: {_decimal(value.seconds(fps))}"
            frames = f"frame {value.amount}" if key in ("at", "until") else f"{value.amount} frames"
            return f"{said:<26} # {frames}"
        case Time(in_frames=True) if value.amount:
            return f"{indent}{key}: {value.amount}f"
        case Time():
            return f"{indent}{key}: {_decimal(value.amount)}"
        case Fraction():
            return f"{indent}{key}: {value if _decimals(value) is None else _decimal(value)}"
        case bool():
            return f"{indent}{key}: {str(value).lower()}"
        case str() if value and len(indent) + len(key) + len(value) + 2 > WIDTH:
            body = textwrap.wrap(
                value, WIDTH - len(indent) - 2, break_long_words=False, break_on_hyphens=False
            )
            return "\n".join([f"{indent}{key}: >-", *(f"{indent}  {line}" for line in body)])
        case str():
            return f"{indent}{key}: {_scalar(value)}"
        case _:
            return f"{indent}{key}: {value}"


def _scalar(text: str) -> str:
    """A text as it is, or in quotes where YAML would read something else."""
    try:
        if text and parse(f"key: {text}\n")[0] == {"key": text}:
            return text
    except UserError:
        pass
    return json.dumps(text, ensure_ascii=False)


def _decimals(value: Fraction, most: int = MOST_DECIMALS) -> int | None:
    """How many decimals write it exactly; None where more than ``most`` would."""
    return next((places for places in range(most + 1) if (value * 10**places).denominator == 1), None)


def _decimal(value: Fraction) -> str:
    """In as many decimals as it needs, at most nine: so many a time may have."""
    text = f"{round(value * 10**9):010d}"
    return f"{text[:-9]}.{text[-9:]}".rstrip("0").rstrip(".")
