"""Times and rates as people write and read them. Exactly: Fractions, not yet rounded to frames."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import floor

from longvid.document import show

MAX_SECONDS = 24 * 60 * 60
"""The longest film: a day."""
MAX_FPS = 240


@dataclass(frozen=True)
class Time:
    """An exact time or length: seconds, or frames where it was written as ``120f``."""

    amount: Fraction
    in_frames: bool = False

    def seconds(self, fps: Fraction) -> Fraction:
        return self.amount / fps if self.in_frames else self.amount


_SECONDS = re.compile(r"[0-9]{1,7}(?:\.[0-9]{1,9})?")
_CLOCK = re.compile(r"(?:([0-9]{1,2}):)?([0-9]{1,4}):([0-9]{1,2}(?:\.[0-9]{1,9})?)")
_UNITS = re.compile(r"(?=[0-9])(?:([0-9]{1,4})h)?(?:([0-9]{1,5})m)?(?:([0-9]{1,7}(?:\.[0-9]{1,9})?)s)?")
_FRAMES = re.compile(r"([0-9]{1,9})f")
_RATIO = re.compile(r"([0-9]{1,9})/([1-9][0-9]{0,8})")
_ANY_TEXT = f"^({'|'.join(p.pattern for p in (_SECONDS, _CLOCK, _UNITS, _FRAMES))})$"

TIME_SCHEMA = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": MAX_SECONDS},
        {"type": "string", "pattern": _ANY_TEXT},
    ],
    "examples": [8, "1m30s", "0:01:30.5", "120f"],
}
FPS_SCHEMA = {
    "anyOf": [
        {"type": "number", "minimum": 1, "maximum": MAX_FPS},
        {"type": "string", "pattern": f"^{_RATIO.pattern}$"},
    ],
    "examples": [12, 24, "30000/1001"],
}


def round_half_up(value: Fraction) -> int:
    """The nearest whole number, halves upwards: the one rule by which times become frames."""
    return floor(value + Fraction(1, 2))


def parse_time(value: object) -> Time:
    """A number of seconds, ``1m30s``, ``0:01:30.5``, ``1:30`` or ``120f``, exactly. Raises ValueError."""
    if isinstance(value, Time):
        return value
    if not isinstance(value, str):
        amount = _exact(value, "a time (seconds, 1m30s, 0:01:30.5 or 120f)")
    elif match := _FRAMES.fullmatch(value):
        return Time(Fraction(match[1]), in_frames=True)
    elif match := _SECONDS.fullmatch(value):
        amount = Fraction(match[0])
    elif match := _CLOCK.fullmatch(value):
        hours, minutes, seconds = int(match[1] or 0), int(match[2]), Fraction(match[3])
        if seconds >= 60 or (match[1] and minutes >= 60):
            raise ValueError(f"{show(value)} is not a time: minutes and seconds go to 59")
        amount = 3600 * hours + 60 * minutes + seconds
    elif match := _UNITS.fullmatch(value):
        amount = Fraction(3600 * int(match[1] or 0) + 60 * int(match[2] or 0)) + Fraction(match[3] or 0)
    else:
        raise ValueError(f"{show(value)} is not a time; write seconds, 1m30s, 0:01:30.5 or 120f")
    if amount > MAX_SECONDS:
        raise ValueError(f"{show(value)} is longer than a day (86400 s), the most a film can last")
    return Time(amount)


def parse_fps(value: object) -> Fraction:
    """Frames a second: a number, or a ratio such as ``30000/1001``. Raises ValueError."""
    if isinstance(value, str) and (match := _RATIO.fullmatch(value)):
        fps = Fraction(int(match[1]), int(match[2]))
    else:
        fps = _exact(value, "a number of frames a second, such as 24 or 30000/1001")
    if not 1 <= fps <= MAX_FPS:
        raise ValueError(f"{show(value)} is out of range; 1 to {MAX_FPS} frames a second")
    return fps


def _exact(value: object, wanted: str) -> Fraction:
    """A number without rounding. Huge exponents are refused first: their Fraction would fill the memory."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | Fraction):
        raise ValueError(f"{show(value)} is not {wanted}")
    if isinstance(value, Fraction):
        number = value
    else:
        decimal = Decimal(str(value))
        if not decimal.is_finite():
            raise ValueError(f"{show(value)} is not {wanted}")
        if decimal and not -30 <= decimal.adjusted() <= 15:
            raise ValueError(f"{show(value)} is too {'large' if decimal.adjusted() > 0 else 'small'}")
        number = Fraction(decimal) if decimal else Fraction(0)
    if number < 0:
        raise ValueError(f"{show(value)} is negative")
    return number


def clock(time: Fraction) -> str:
    """``0:08``, ``1:30.5``, ``1:00:00``: a time a person reads, to the millisecond."""
    milliseconds = round_half_up(time * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    whole, fraction = divmod(rest, 1000)
    decimals = f".{fraction:03d}".rstrip("0") if fraction else ""
    front = f"{hours}:{minutes:02d}" if hours else str(minutes)
    return f"{front}:{whole:02d}{decimals}"


def length(time: Fraction) -> str:
    """``2 s``, ``1.333 s``: a length a person reads, to the millisecond."""
    return f"{round_half_up(time * 1000) / 1000:.3f}".rstrip("0").rstrip(".") + " s"


def duration(seconds: float) -> str:
    """``0:07``, ``1:05``, ``1:02:05``: how long something takes, to the second."""
    return clock(Fraction(max(round(seconds), 0)))
