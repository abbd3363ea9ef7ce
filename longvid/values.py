"""What a key of a timeline may hold: types that check a value, each wrong one in a clause for a person."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, WithJsonSchema

from longvid.document import show
from longvid.times import FPS_SCHEMA, TIME_SCHEMA, Time, parse_fps, parse_time

MAX_TEXT = 2000
MAX_SIDE_PX = 8192
MAX_TITLE = 200
"""Characters of a title that is shown."""
MAX_CREDITS = 20_000
MAX_SEED = 2**63 - 1
MAX_GUIDANCE = 100
MAX_STEPS = 1000
MAX_STRENGTH = 10
"""Of a LoRA, in either direction."""


def _one_line(value: object) -> object:
    return " ".join(value.split()) if isinstance(value, str) else value


def _plain_number(value: object) -> object:
    return float(value) if isinstance(value, Decimal) else value


def _size(value: object) -> object:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"{show(value)} is not a size; write [width, height] in pixels")
    return tuple(value)


def some_shots(value: object) -> object:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("needs a list of at least one shot, each beginning with a dash: `- prompt: ...`")
    return tuple(value)


def as_loras(value: object) -> object:
    if isinstance(value, str | Mapping):
        value = (value,)
    if not isinstance(value, list | tuple):
        raise ValueError(f"{show(value)} is no LoRA; write its path, or {{path: my-lora, strength: 0.8}}")
    return tuple({"path": item} if isinstance(item, str) else item for item in value)


def _ending(*endings: str) -> Callable[[str], str]:
    def check(name: str) -> str:
        if not name.lower().endswith(endings):
            raise ValueError(f"{show(name)} is none of the files that can be written: {', '.join(endings)}")
        return name

    return check


def _plain_options(value: object) -> object:
    """Options are the backend's own: plain JSON values, which it checks."""
    if isinstance(value, Mapping):
        return {key: _plain_options(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain_options(item) for item in value]
    if isinstance(value, Decimal) and not math.isfinite(float(value)):
        raise ValueError(f"{show(value)} is too large")
    return _plain_number(value)


AnyTime = Annotated[Time, PlainValidator(parse_time), WithJsonSchema(TIME_SCHEMA)]
Rate = Annotated[Fraction, PlainValidator(parse_fps), WithJsonSchema(FPS_SCHEMA)]
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT), BeforeValidator(_one_line)]
FileName = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
PictureName = Annotated[FileName, AfterValidator(_ending(".png"))]
BoardName = Annotated[FileName, AfterValidator(_ending(".html", ".png"))]
MaybeText = Annotated[str, Field(max_length=MAX_TEXT), BeforeValidator(_one_line)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Guidance = Annotated[float, Field(ge=0, le=MAX_GUIDANCE), BeforeValidator(_plain_number)]
Strength = Annotated[float, Field(ge=-MAX_STRENGTH, le=MAX_STRENGTH), BeforeValidator(_plain_number)]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE_PX)]
Size = Annotated[tuple[Side, Side], BeforeValidator(_size)]
Captions = Literal["off", "track", "burn"]
Options = Annotated[dict[str, Any], BeforeValidator(_plain_options)]
