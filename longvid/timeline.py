"""YAML -> Timeline: what a person wrote, checked key by key, times exact and not yet rounded to frames."""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import ErrorDetails, core_schema

from longvid.document import NodePath, Source, lacks, read, show
from longvid.errors import UserError
from longvid.values import (
    MAX_CREDITS,
    MAX_STEPS,
    MAX_TITLE,
    AnyTime,
    BoardName,
    Captions,
    FileName,
    Guidance,
    MaybeText,
    Options,
    PictureName,
    Rate,
    Seed,
    Size,
    Strength,
    Text,
    as_loras,
    some_shots,
)

if TYPE_CHECKING:
    from longvid.editing import Edit


class Shot(BaseModel):
    """One prompt and its span of the film."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    prompt: MaybeText = Field(
        description="What is seen, in words. Empty only in a film that starts from a clip, which then goes "
        "on by itself."
    )
    seconds: AnyTime | None = Field(
        default=None, description="How long the shot lasts. Not together with `until`."
    )
    at: AnyTime | None = Field(
        default=None,
        description="When it starts, from the film's start; left out: where the shot before it ends.",
    )
    until: AnyTime | None = Field(
        None,
        description="When it ends, from the film's start; left out: after `seconds`, or at the next `at`.",
    )
    blend_seconds: AnyTime | None = Field(
        default=None,
        description="Over how long the shot before it fades into this one's prompt, from its start.",
    )
    cut: bool = Field(
        default=False, description="Start anew with a hard cut, exact to the frame, instead of flowing on."
    )
    negative: MaybeText | None = Field(
        default=None, description="What to keep out, in place of the film's; empty for nothing."
    )
    guidance: Guidance | None = Field(
        default=None, description="How strictly to follow the prompt; 1 turns it off."
    )
    seed: Seed | None = Field(default=None, description="Seed of this shot's noise, in place of the film's.")
    image: FileName | None = Field(
        default=None,
        description="A picture that the shot begins like; on the first shot or on one with `cut: true`. "
        "Relative to the timeline's folder.",
    )
    title: Text | None = Field(default=None, description="Name of the shot's chapter in the film.")


class Output(BaseModel):
    """How the film is written."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    scale: Annotated[int, Field(ge=1, le=16)] | None = Field(
        default=None,
        description="Whole factor by which the picture is enlarged; left out: to a size worth watching.",
    )
    crf: Annotated[int, Field(ge=1, le=51)] = Field(
        default=18,
        description="H.264 constant rate factor: 18 is hard to tell from the original, 28 is small.",
    )
    title: Annotated[str, Field(min_length=1, max_length=MAX_TITLE)] | None = Field(
        default=None, description="Shown over the first seconds of the picture."
    )
    credits: Annotated[str, Field(min_length=1, max_length=MAX_CREDITS)] | None = Field(
        default=None,
        description="Shown on black behind the last picture: a text of one line or more, or a .txt file.",
    )
    captions: Captions | None = Field(
        default=None,
        description="Each shot's prompt: `burn` it into the picture, or add a `track` that players show.",
    )
    music: FileName | None = Field(
        default=None,
        description="A song under the film, cut or looped to its length. Relative to the timeline's folder.",
    )
    fade: AnyTime | None = Field(
        default=None, description="How long picture and sound come from black and silence, and go there."
    )
    crossfade: AnyTime | None = Field(
        default=None, description="How long a shot dissolves into one that begins with a cut; no time moves."
    )
    font: FileName | None = Field(
        default=None, description="A .ttf or .otf file for all letters. Relative to the timeline's folder."
    )
    poster: PictureName | None = Field(
        default=None, description="Where to write a good frame, as .png. Relative to the timeline's folder."
    )
    contact_sheet: PictureName | None = Field(
        default=None,
        description="Where to write frames from all over the film, as .png. Relative to the timeline's "
        "folder.",
    )
    storyboard: BoardName | None = Field(
        default=None,
        description="Where to write a row for each shot, as .html or .png. Relative to the timeline's "
        "folder.",
    )


class LoraUse(BaseModel):
    """A LoRA that the film is rendered with."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    path: FileName = Field(
        description="The LoRA's folder, or its safetensors file. Relative to the timeline's folder."
    )
    strength: Strength = Field(default=1.0, description="How strongly it acts: 1 as it was trained.")


LoraUses = Annotated[
    tuple[LoraUse, ...],
    BeforeValidator(as_loras, json_schema_input_type=FileName | LoraUse | list[FileName | LoraUse]),
]


class Timeline(BaseModel):
    """A film as a person wrote it. Keys left out are None: the model's defaults come in with the plan."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    title: Text | None = Field(default=None, description="The film's title, written into the file.")
    model: Text | None = Field(
        default=None, description="A model's name, or a checkpoint's folder (with a slash)."
    )
    lora: LoraUses | None = Field(
        default=None,
        description="A LoRA that changes what the model makes: its path, or a list of `path` and `strength`.",
    )
    size: Size | None = Field(
        default=None, description="[width, height] of the model's own picture, in pixels."
    )
    fps: Rate | None = Field(default=None, description="Frames a second, such as 24 or 30000/1001.")
    seed: Seed | None = Field(
        default=None, description="Seed of all noise: the same seed gives the same film."
    )
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] | None = Field(
        default=None, description="Denoising steps of each chunk; a multiple of the window."
    )
    window: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None, description="Chunks that are denoised together, each noisier than the one before it."
    )
    method: Text | None = Field(
        default=None,
        description="How the window moves: `progressive`, or `replace` (whole windows after one another).",
    )
    style: Text | None = Field(default=None, description="Added to every prompt, behind a comma.")
    negative: MaybeText | None = Field(default=None, description="What to keep out of every shot.")
    guidance: Guidance | None = Field(
        default=None, description="How strictly to follow the prompts; 1 turns it off."
    )
    start_from: FileName | None = Field(
        default=None,
        description="A clip that the film goes on from, or a picture that it begins like. Relative to the "
        "timeline's folder.",
    )
    output: Output = Field(default_factory=Output, description="Size and quality of the film's file.")
    model_options: Options = Field(default={}, description="Options of the model's own.")
    shots: Annotated[tuple[Shot, ...], BeforeValidator(some_shots)] = Field(
        description="The film's shots, in order.", json_schema_extra={"minItems": 1}
    )
    _source: Source = PrivateAttr(default_factory=Source)
    _data: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def source(self) -> Source:
        """Where it was written: file, folder, and the line of every key."""
        return self._source

    @property
    def data(self) -> Mapping[str, Any]:
        """What was written, as ``build`` got it."""
        return self._data

    @property
    def start_path(self) -> Path | None:
        """The clip or picture that the film starts from, if any."""
        return self._path(self.start_from)

    def picture_of(self, shot: int) -> Path | None:
        """The picture in a shot's own ``image``, if any. (``start_from`` may be one for the first.)"""
        return self._path(self.shots[shot].image)

    def lora_paths(self) -> list[tuple[Path, float]]:
        """The LoRAs' folders or files, and their strengths."""
        folder = self._source.folder
        return [(folder / os.path.expanduser(use.path), use.strength) for use in self.lora or ()]

    def edit(self) -> Edit:
        """What is done to the film once it is rendered. Raises UserError where its credits cannot be read."""
        from longvid.editing import NOTHING, Edit, read_credits

        wanted = self.output
        try:
            credits = read_credits(wanted.credits or "", self._source.folder)
        except UserError as error:
            raise self._source.error(("output", "credits"), str(error)) from error
        return Edit(
            title=(wanted.title or "").strip(),
            credits=credits,
            captions=wanted.captions or "off",
            music=self._path(wanted.music),
            fade=wanted.fade or NOTHING,
            crossfade=wanted.crossfade or NOTHING,
            font=self._path(wanted.font),
            crf=wanted.crf,
            poster=self._path(wanted.poster),
            contact_sheet=self._path(wanted.contact_sheet),
            storyboard=self._path(wanted.storyboard),
        )

    def _path(self, written: str | None) -> Path | None:
        return None if written is None else self._source.folder / os.path.expanduser(written)


def load(path: Path) -> Timeline:
    """The timeline in a YAML file. Raises UserError for anything wrong with it, in one line.

    Clips and pictures that it starts from must be there. (``build`` doesn't look: a film that is under way
    goes on without them.)
    """
    timeline = build(*read(path))
    files: list[tuple[NodePath, Path | None]] = [(("start_from",), timeline.start_path)]
    files += [(("shots", i, "image"), timeline.picture_of(i)) for i in range(len(timeline.shots))]
    edit = timeline.edit()
    files += [(("output", "music"), edit.music), (("output", "font"), edit.font)]
    for node, file in files:
        if file is not None and (problem := lacks(file)):
            raise timeline.source.error(node, problem)
    return timeline


def build(data: Mapping[str, Any], source: Source | None = None) -> Timeline:
    """A timeline from plain data, as YAML gives it (numbers, text, lists, mappings). Raises UserError."""
    source = source or Source()
    try:
        _refuse_empty(data, source)
        timeline = Timeline.model_validate(dict(data))
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False)
        # What is missing is told last: most often it is there, under a name with a slip.
        first = min(errors, key=lambda error: (error["type"] == "missing", source.line(error["loc"])))
        raise source.error(first["loc"], _explain(first)) from None
    timeline._source = source
    timeline._data = dict(data)
    _check_starts(timeline)
    return timeline


def _refuse_empty(data: Mapping[str, Any], source: Source) -> None:
    """A key with nothing behind it is a slip of the pen, not a way to ask for the default."""
    shots = data.get("shots")
    mappings: list[tuple[NodePath, object]] = [((), data), (("output",), data.get("output"))]
    mappings += [
        (("shots", i), shot) for i, shot in enumerate(shots if isinstance(shots, list | tuple) else ())
    ]
    for path, mapping in mappings:
        if not isinstance(mapping, Mapping):
            continue
        for key, value in mapping.items():
            if value is None:
                raise source.error((*path, key), "is empty; give it a value or leave the key out")


def _check_starts(timeline: Timeline) -> None:
    """A picture is what a run begins with; and without words there must be something to go on from."""
    for index, shot in enumerate(timeline.shots):
        if not shot.prompt and timeline.start_from is None:
            raise timeline.source.error(("shots", index, "prompt"), "is empty; write what it should say")
        if shot.image is not None and index > 0 and not shot.cut:
            raise timeline.source.error(
                ("shots", index, "image"),
                "this shot flows on from the one before it; add `cut: true` to begin anew from a picture",
            )
    if timeline.start_from is not None and timeline.shots[0].image is not None:
        message = "the first shot has an `image` already; leave one of the two out"
        raise timeline.source.error(("start_from",), message)


_KEYS: Mapping[str, Mapping[str, Any]] = {
    "the film": Timeline.model_fields,
    "a shot": Shot.model_fields,
    "output": Output.model_fields,
    "a LoRA": LoraUse.model_fields,
}


def _explain(error: ErrorDetails) -> str:
    """A validation error in one clause: what is wrong, and the nearest fix."""
    path, given, limits = error["loc"], error["input"], error.get("ctx", {})
    below = {"output": "output", "shots": "a shot", "lora": "a LoRA"} if len(path) > 1 else {}
    owner = below.get(str(path[0]), "the film")
    match error["type"]:
        case "value_error":
            return str(limits["error"])
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return _unknown_key(str(path[-1]), owner)
        case "string_type" if isinstance(given, bool | int | float | Decimal):
            return f"{show(given)} is not text; put it in quotes"
        case "string_type":
            return f"{show(given)} is not text"
        case "string_too_short":
            return "is empty; write what it should say"
        case "string_too_long":
            return f"has {len(str(given))} characters; at most {limits['max_length']}"
        case "int_type" | "int_from_float":
            return f"{show(given)} is not a whole number"
        case "float_type":
            return f"{show(given)} is not a number"
        case "finite_number":
            return f"{show(given)} is not a finite number"
        case "literal_error":
            return f"{show(given)} is none of {limits['expected'].replace(' or ', ', ')}".replace("'", "")
        case "bool_type":
            return f"{show(given)} is neither true nor false"
        case "greater_than_equal":
            return f"{show(given)} is too small; at least {limits['ge']:g}"
        case "less_than_equal":
            return f"{show(given)} is too large; at most {limits['le']}"
        case "model_type" | "dict_type":
            return f"{show(given)} is not a mapping of keys"
        case _:
            return f"{show(given)}: {error['msg']}"


def _unknown_key(key: str, owner: str) -> str:
    elsewhere = [other for other, keys in _KEYS.items() if key in keys and other != owner]
    if elsewhere:
        return f"is a key of {elsewhere[0]}, not of {owner}"
    near = get_close_matches(key, _KEYS[owner], n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"the keys of {owner}: {', '.join(_KEYS[owner])}"
    return f"is no key of {owner}; {hint}"


class _EditorSchema(GenerateJsonSchema):
    """As editors want it: a key left out is never null, and a key's name is title enough."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default") is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema() -> dict[str, Any]:
    """The JSON schema of a timeline, with a description for every key."""
    schema = Timeline.model_json_schema(schema_generator=_EditorSchema)
    return {"$schema": _EditorSchema.schema_dialect, **schema, "title": "longvid timeline"}
