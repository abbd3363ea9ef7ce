"""FizzNodes' prompt schedules: Deforum's without braces, ``"0" :"...", "24" :"..."``.

From keyframe to keyframe each prompt fades into the next. In a key, ``max_f`` is ``max_frames``. That number
and the texts in front of and behind every prompt (``pre_text``, ``app_text``) are fields of the node, not of
the text: they are read from a workflow in ComfyUI's API format, or from the node's inputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from longvid.document import show
from longvid.schedules.imports import Asked, Imported, Notes, plain_weighted
from longvid.schedules.keyframes import end_frame, faded, film, keyframes, loads, number

_NODE = re.compile(r"(?:Batch)?PromptSchedule\w*")


def read(text: str, asked: Asked) -> Imported:
    """Raises UserError for what is no FizzNodes schedule."""
    inputs: Mapping[str, Any] = {}
    prompts = loads(_braced(text), asked)
    if nodes(prompts):
        inputs, asked = _inputs(prompts, asked)
        text = inputs["text"]
        prompts = loads(_braced(text), asked)
    notes = Notes()
    if asked.fps is None:
        notes.add("FizzNodes knows no rate: the frames count at the model's; --fps sets one")
    # A link to another node says no number.
    frames = inputs.get("max_frames")
    end = end_frame(asked, frames if number(frames) is not None else None, asked.fps)
    style, negative = _around(inputs, asked, notes)
    keys = keyframes(prompts, end, negative, asked, text, notes)
    shots, lines = faded(keys, end, notes)
    data = film(shots, asked.fps, style, negative)
    return Imported("FizzNodes", data, {("shots", i): line for i, line in enumerate(lines)}, notes)


def _braced(text: str) -> str:
    """As JSON: in braces, without a comma behind the last prompt."""
    body = text.strip().removeprefix("{").removesuffix("}").rstrip().removesuffix(",")
    # Lines in front of it stay, so that messages count them.
    return f"{text[: len(text) - len(text.lstrip())]}{{{body}}}"


def nodes(content: object) -> dict[str, Mapping[str, Any]]:
    """Inputs of the prompt schedules in what a JSON file says, by their node's number."""
    if not isinstance(content, dict):
        return {}
    if isinstance(content.get("text"), str):
        return {"": content}
    return {
        key: node["inputs"]
        for key, node in content.items()
        if isinstance(node, dict)
        and isinstance(node.get("inputs"), dict)
        and isinstance(node["inputs"].get("text"), str)
        and _NODE.fullmatch(str(node.get("class_type")))
    }


def _inputs(content: object, asked: Asked) -> tuple[Mapping[str, Any], Asked]:
    (key, inputs), *more = nodes(content).items()
    if more:
        others = ", ".join([key, *(other for other, _ in more)])
        raise asked.error(0, f"holds several prompt schedules (nodes {others}); save the text of one")
    return inputs, replace(asked, name=f"{asked.name}: node {key}" if key else asked.name)


def _around(inputs: Mapping[str, Any], asked: Asked, notes: Notes) -> tuple[str, str]:
    """(style, negative): what the node puts around every prompt."""
    sides = []
    for key in ("pre_text", "app_text"):
        value = inputs.get(key) or ""
        if isinstance(value, list):  # a link to another node
            notes.add(f"{key} comes from another node: left out")
            value = ""
        if not isinstance(value, str):
            raise asked.error(0, f"{key}: {show(value)} is not text")
        positive, _, negative = value.partition("--neg")
        sides.append(
            [plain_weighted(part.replace("--neg", " "), asked, notes, 0) for part in (positive, negative)]
        )
    if sides[0][0]:
        notes.add("pre_text became `style`: it goes behind every prompt, not in front")
    style, negative = (", ".join(filter(None, parts)) for parts in zip(*sides, strict=True))
    return style, negative
