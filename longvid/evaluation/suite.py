"""SUITE.yaml -> the films of a comparison: every prompt by every method with every seed.

    title: Six methods, one minute
    model: diorama
    seconds: 60
    seeds: [1, 2]
    prompts:
      - a red boat on a calm sea at dawn
      - {prompt: a kite over the desert, start: kite.png}
      - {name: three-shots, shots: [{prompt: ..., seconds: 10}, ...]}
      - {timeline: storm.yaml}
    methods: [progressive, replace, "progressive:overlap=0"]
    steps: [16, 32]

Each film has a timeline of its own, with whole paths, that renders it anywhere on this machine.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from longvid import document, plugins, walks
from longvid import timeline as timelines
from longvid.document import NodePath, Source, lacks
from longvid.errors import UserError
from longvid.evaluation.clips import CLIP_SECONDS
from longvid.files import digest
from longvid.plan import RenderPlan
from longvid.request import Request
from longvid.timeline import Timeline
from longvid.times import length
from longvid.values import MAX_STEPS, AnyTime, FileName, Seed, Text, some_shots

FILM_KEYS = ("model", "size", "fps", "window", "style", "negative", "guidance", "model_options")
"""Keys of a timeline that a suite has for all of its prompts."""
PATHS = ("start_from", "image", "path")
"""Keys of a timeline, at any depth but in `output`, that name files."""
MAX_FILMS = 10_000
MAX_SLUG = 40


def _listed(value: object) -> tuple[object, ...]:
    """One value is a list of one."""
    items = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not items:
        raise ValueError("is an empty list; name at least one")
    return items


def _as_prompts(value: object) -> object:
    return tuple({"prompt": item} if isinstance(item, str) else item for item in _listed(value))


def _as_methods(value: object) -> object:
    return tuple({"method": item} if isinstance(item, str) else item for item in _listed(value))


Steps = Annotated[int, Field(ge=1, le=MAX_STEPS)]


class Prompt(BaseModel):
    """What a film is of: one prompt, shots, or a whole timeline."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    prompt: Text | None = None
    shots: Annotated[tuple[Any, ...], BeforeValidator(some_shots)] | None = None
    timeline: FileName | None = None
    start: FileName | None = None
    """A picture or a clip, for its real first frame."""
    name: Text | None = None


class Row(BaseModel):
    """A method as a suite names it, which may have a name and steps of its own."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    method: Text
    name: Text | None = None
    steps: Steps | None = None


class Written(BaseModel):
    """A suite as a person wrote it; FILM_KEYS are the timeline's, and checked there."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    title: Text | None = None
    prompts: Annotated[tuple[Prompt, ...], BeforeValidator(_as_prompts)]
    methods: Annotated[tuple[Row, ...], BeforeValidator(_as_methods)]
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(_listed)] = (0,)
    steps: Annotated[tuple[Steps, ...], BeforeValidator(_listed)] | None = None
    seconds: AnyTime | None = None
    model: Any = None
    size: Any = None
    fps: Any = None
    window: Any = None
    style: Any = None
    negative: Any = None
    guidance: Any = None
    model_options: Any = None


_KEYS: Mapping[str, Mapping[str, Any]] = {
    "a suite": Written.model_fields,
    "a prompt": Prompt.model_fields,
    "a method": Row.model_fields,
}


@dataclass(frozen=True)
class Variant:
    """A row of the comparison: a method, with so many steps (None: as many as the model takes)."""

    name: str
    method: str
    steps: int | None


@dataclass(frozen=True)
class Film:
    """One film of a comparison. ``name``: of its files, without an ending; other content, another name."""

    name: str
    prompt: int
    variant: int
    seed: int
    timeline: Timeline
    plan: RenderPlan

    def written(self) -> bytes:
        """Its timeline as a file. (JSON is YAML.)"""
        text = json.dumps(self.timeline.data, default=_plain, indent=2, ensure_ascii=False)
        return f"{text}\n".encode()


@dataclass(frozen=True)
class Suite:
    """A comparison. ``prompts``: what each film is of, in words; ``films`` by prompt, seed, and variant."""

    title: str
    prompts: tuple[str, ...]
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    films: tuple[Film, ...]

    @cached_property
    def digest(self) -> str:
        """Of the films: what votes are on."""
        return digest([film.name for film in self.films])

    def __str__(self) -> str:
        """What is compared, in a line."""
        lengths = sorted({film.plan.frames / film.plan.fps for film in self.films})
        lasting = " to ".join(dict.fromkeys(map(length, (lengths[0], lengths[-1]))))
        counts = {"method": len(self.variants), "prompt": len(self.prompts), "seed": len(self.seeds)}
        product = " by ".join(f"{count} {noun}{'s' * (count > 1)}" for noun, count in counts.items())
        models = ", ".join(sorted({film.plan.model for film in self.films}))
        count = f"{len(self.films)} film{'s' * (len(self.films) > 1)}"
        return f"{count} of {lasting}: {product}, {models}"


def load(path: Path) -> Suite:
    """The films of a suite, each planned. Raises UserError, one line, for what is wrong with any of them."""
    data, source = document.read(path, "suite")
    written = _checked(data, source)
    variants = _variants(written, source)
    count = len(written.prompts) * len(written.seeds) * len(variants)
    if count > MAX_FILMS:
        raise source.error((), f"is {count:,} films; at most {MAX_FILMS:,}")
    films, prompts = [], []
    made_by: dict[str, str] = {}
    for index, prompt in enumerate(written.prompts):
        content, place = _story(written, index, data, source)
        for seed in written.seeds:
            for number, variant in enumerate(variants):
                own = {**content, "method": variant.method, "seed": seed}
                own |= {} if variant.steps is None else {"steps": variant.steps}
                timeline = timelines.build(own, place)
                request = Request(timeline)
                backend = request.choose().backend
                plan = request.settled(backend).plan(backend)
                if plan.frames / plan.fps < CLIP_SECONDS:
                    short = (
                        f"lasts {length(plan.frames / plan.fps)}; films are measured in clips of two seconds"
                    )
                    raise source.error(("prompts", index), short)
                parts = [f"{index + 1:02}", prompt.name or plan.shots[0].prompt, variant.name, f"seed {seed}"]
                name = "-".join([*map(_slug, parts), plan.effective()["sha256"][:8]])
                if (twin := made_by.setdefault(name, variant.name)) != variant.name:
                    same = f"{variant.name} makes the same film as {twin}; keep one"
                    raise source.error(("methods",), same)
                films.append(Film(name, index, number, seed, timeline, plan))
        prompts.append(prompt.name or " / ".join(shot.prompt for shot in films[-1].plan.shots))
    return Suite(written.title or path.stem, tuple(prompts), tuple(variants), written.seeds, tuple(films))


def _checked(data: Mapping[str, Any], source: Source) -> Written:
    for key, value in data.items():
        if value is None:
            raise source.error((key,), "is empty; give it a value or leave the key out")
    try:
        written = Written.model_validate(dict(data))
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False)
        first = min(errors, key=lambda error: (error["type"] == "missing", source.line(error["loc"])))
        owners = {"prompts": "a prompt", "methods": "a method"} if len(first["loc"]) > 1 else {}
        owner = owners.get(str(first["loc"][0]), "a suite")
        raise source.error(first["loc"], timelines.explain(first, owner, _KEYS)) from None
    for key, values in (("seeds", written.seeds), ("steps", written.steps or ())):
        if len(set(values)) < len(values):
            raise source.error((key,), "names one of them twice; keep one")
    return written


def _variants(written: Written, source: Source) -> list[Variant]:
    """Each method with each of the steps. Raises UserError for a method that there is not, or twice."""
    found: dict[str, Variant] = {}
    for index, row in enumerate(written.methods):
        try:
            method = str(walks.read(row.method))
        except UserError as error:
            raise source.error(("methods", index), str(error)) from error
        all_steps: Sequence[int | None] = [row.steps] if row.steps else written.steps or [None]
        for steps in all_steps:
            name = row.name or method
            if len(all_steps) > 1 or (row.steps and not row.name):
                name = f"{name}, {steps} steps"
            if name in found:
                raise source.error(("methods", index), f"{name} is there twice; leave one out or `name` it")
            found[name] = Variant(name, method, steps)
    return list(found.values())


def _story(
    written: Written, index: int, data: Mapping[str, Any], source: Source
) -> tuple[dict[str, Any], Source]:
    """A prompt's timeline as plain data with whole paths, and where each of its keys was written."""
    prompt, path = written.prompts[index], ("prompts", index)
    if sum(each is not None for each in (prompt.prompt, prompt.shots, prompt.timeline)) != 1:
        raise source.error(path, "takes one of prompt, shots and timeline")
    if prompt.timeline is not None:
        file = source.folder / os.path.expanduser(prompt.timeline)
        if problem := lacks(file):
            raise source.error((*path, "timeline"), problem)
        loaded = timelines.load(file)
        content, place = dict(loaded.data), loaded.source
        content.pop("output", None)  # what is compared is the film alone
        if "model" in data:
            content["model"] = _whole({"model": data["model"]}, source.folder)["model"]
    else:
        content = {key: data[key] for key in FILM_KEYS if key in data}
        if prompt.shots is not None:
            content["shots"] = data["prompts"][index]["shots"]
        elif written.seconds is None:
            raise source.error((), "does not say how long a film is; add `seconds:`, as seconds: 60")
        else:
            content["shots"] = [{"prompt": prompt.prompt, "seconds": data["seconds"]}]
        content["title"] = prompt.name or prompt.prompt or f"{len(content['shots'])} shots"
        lines = {**source.lines, ("method",): source.line(("methods",)), **_moved(source.lines, path)}
        place = Source(source.name, source.folder, lines)
    whole = _whole(content, place.folder)
    if prompt.start is not None:
        start = source.folder / os.path.expanduser(prompt.start)
        if problem := lacks(start):
            raise source.error((*path, "start"), problem)
        whole["start_from"] = str(start.absolute())
    return whole, place


def _moved(lines: Mapping[NodePath, int], path: NodePath) -> dict[NodePath, int]:
    """The lines of what is below a prompt, as if it were a timeline; its own is that of all shots."""
    return {
        node[len(path) :] or ("shots",): line for node, line in lines.items() if node[: len(path)] == path
    }


def _whole(content: Any, folder: Path) -> Any:
    """The same with whole paths."""
    if isinstance(content, list | tuple):
        return [_whole(item, folder) for item in content]
    if not isinstance(content, Mapping):
        return content
    made = {key: _whole(value, folder) for key, value in content.items()}
    for key in PATHS:
        if isinstance(made.get(key), str):
            made[key] = _absolute(made[key], folder)
    if isinstance(lora := made.get("lora"), str):
        made["lora"] = _absolute(lora, folder)
    elif isinstance(lora, list):
        made["lora"] = [_absolute(use, folder) if isinstance(use, str) else use for use in lora]
    if isinstance(model := made.get("model"), str) and plugins.is_folder(model):
        made["model"] = _absolute(model, folder)
    return made


def _absolute(path: str, folder: Path) -> str:
    return str((folder / os.path.expanduser(path)).absolute())


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:MAX_SLUG].strip("-")


def _plain(value: object) -> float | str:
    return float(value) if isinstance(value, Decimal) else str(value)
