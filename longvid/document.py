"""YAML text -> plain data, and the line of every node: safe, exact and small.

YAML 1.2 core scalars only: ``true``/``false``, ``null``, decimal numbers; all else is text, so that
``prompt: no`` and ``at: 1:30`` are what they look like. Numbers with a point or an exponent come as Decimal,
so that nothing is rounded before it is a time.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from longvid.errors import UserError

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_NODES = 100_000
MAX_DIGITS = 40
KEY_OF = {"timeline": "shots", "suite": "prompts"}
"""What is read here, and a key that each of it has."""

NodePath = tuple[str | int, ...]
"""Keys and indices from the root: ("shots", 2, "blend_seconds")."""


@dataclass(frozen=True)
class Source:
    """Where a timeline comes from, and the line of each of its nodes."""

    name: str = "timeline"
    folder: Path = Path()
    """What relative paths inside the timeline are relative to."""
    lines: Mapping[NodePath, int] = field(default_factory=dict)

    def line(self, path: NodePath) -> int:
        """The line of a node, or of the nearest node above it that was written; 0 if there is none."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)

    def error(self, path: NodePath, message: str) -> UserError:
        """``film.yaml:7: shots[2].blend_seconds: message``."""
        line = self.line(path)
        place = f"{self.name}:{line}" if line else self.name
        return UserError(f"{place}: {spell(path)}: {message}" if path else f"{place}: {message}")


def spell(path: NodePath) -> str:
    """``shots[2].blend_seconds``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{_printable(part)}" for part in path)
    return "".join(parts).removeprefix(".")


def show(value: object, limit: int = 60) -> str:
    """A value in a message: one short printable line."""
    text = str(value).lower().replace("e+", "e") if isinstance(value, int | float | Decimal) else repr(value)
    text = {"None": "nothing"}.get(text, text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _printable(key: str) -> str:
    return key if key.isprintable() and len(key) <= 60 else show(key)


def lacks(path: Path) -> str | None:
    """Why a document cannot name this path as a file, in one clause; None where an ordinary file is there."""
    try:
        if path.is_file():
            return None
        if path.exists():
            what = "a folder; name a file in it" if path.is_dir() else "not an ordinary file"
            return f"{show(str(path), 200)} is {what}"
        near = get_close_matches(path.name, os.listdir(path.parent), n=1)
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return f"there is no folder {show(str(path.parent), 200)}"
        return f"{show(str(path), 200)} cannot be read: {error.strerror}"
    hint = f"; did you mean {show(near[0])}?" if near else ""
    return f"there is no file {show(str(path), 200)}{hint}"


def read(path: Path, kind: str = "timeline") -> tuple[dict[str, Any], Source]:
    """The mapping in a YAML file, of a ``kind`` in KEY_OF. Raises UserError for anything that is not a
    readable, sane YAML mapping."""
    try:
        if path.is_dir():
            raise UserError(f"{path}: is a folder, not a {kind}")
        if not path.exists():
            hint = f"`longvid new {path.name}` writes a timeline to start from"
            hint = hint if kind == "timeline" else f"a {kind} is a YAML file"
            raise UserError(f"{path}: no such file; {hint}")
        if not path.is_file():
            raise UserError(f"{path}: is not an ordinary file")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise UserError(f"{path}: has {path.stat().st_size:,} bytes; a {kind} has at most {MAX_BYTES:,}")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: is not UTF-8 text; a {kind} is a YAML file") from error
    return parse(text, str(path), path.parent, kind)


def parse(
    text: str, name: str = "timeline", folder: Path = Path(), kind: str = "timeline"
) -> tuple[dict[str, Any], Source]:
    """The mapping in a YAML text, as ``read`` gives it."""
    is_mapping = f"a {kind} is a mapping of keys such as `{KEY_OF[kind]}:`"
    try:
        root = _Loader(text).get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(f"{name}:{line}: holds a control character, so it is not YAML text") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UserError(f"{name}:{mark.line + 1 if mark else 1}: {_explain(error)}") from error
    if root is None:
        hint = "`longvid new` writes a timeline to start from"
        raise UserError(f"{name}: is empty; {hint if kind == 'timeline' else is_mapping}")
    if not isinstance(root, yaml.MappingNode):
        what = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
        line = root.start_mark.line + 1
        raise UserError(f"{name}:{line}: is {what}; {is_mapping}")
    lines: dict[NodePath, int] = {(): 1}
    data: dict[str, Any] = _plain(root, (), Source(name, folder, lines), lines)
    return data, Source(name, folder, lines)


def _plain(node: yaml.Node, path: NodePath, source: Source, lines: dict[NodePath, int]) -> Any:
    """Plain data of a node, aliases expanded; fills ``lines``, which counts the nodes as well."""
    if len(path) > MAX_DEPTH:
        raise source.error((), f"is more than {MAX_DEPTH} levels deep, or holds itself through an alias")
    if len(lines) > MAX_NODES:
        raise source.error((), f"expands to more than {MAX_NODES} values; use fewer aliases")
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise UserError(f"{source.name}:{line}: a key must be a word, not a list or mapping")
            below = (*path, str(key.value))
            lines.setdefault(below, line)
            _check_text(key.value, below, source)
            if key.value in mapping:
                first, lines[below] = lines[below], line
                raise source.error(below, f"is given twice, first on line {first}; keep one")
            mapping[key.value] = _plain(value, below, source, lines)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            lines[*path, index] = item.start_mark.line + 1
            items.append(_plain(item, (*path, index), source, lines))
        return items
    return _scalar(node, path, source)


def _scalar(node: yaml.Node, path: NodePath, source: Source) -> str | bool | int | Decimal | None:
    text = str(node.value)
    match node.tag.rpartition(":")[2]:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int" | "float" if len(text) > MAX_DIGITS:
            raise source.error(path, f"is a number of {len(text)} characters; at most {MAX_DIGITS}")
        case "int":
            return int(text)
        case "float":
            try:
                return Decimal(text)
            except InvalidOperation:
                raise source.error(path, f"{text} is too large or too small a number") from None
        case _:
            _check_text(text, path, source)
            return text


def _check_text(text: str, path: NodePath, source: Source) -> None:
    """Escapes in quotes can spell what no terminal, file name or JSON should be given."""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t":
            raise source.error(path, f"holds the control character U+{ord(character):04X}")


def _explain(error: yaml.MarkedYAMLError) -> str:
    """YAML's own words, or better ones for what happens to people."""
    problem = error.problem or error.context or "is not YAML"
    if "'\\t'" in problem:
        return "a tab; YAML takes spaces"
    if "mapping values are not allowed" in problem:
        return "a colon and a space where no key can be; put a text that holds ': ' in quotes"
    if "another document" in problem:
        return "a second document begins here; remove the second ---"
    if "<block end>" in problem:
        return "does not belong here; the keys of one shot begin in the same column"
    return " ".join(problem.split())


class _Loader(yaml.SafeLoader):
    """YAML 1.2 core scalars, no tags, bounded depth (a composer recurses)."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own; filled below)
    depth = 0
    nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        tag = getattr(event, "tag", None)
        if tag is not None:
            problem = f"the tag {show(tag)} is not allowed; a timeline is plain data"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        self.depth += 1
        self.nodes += 1
        if self.depth > MAX_DEPTH or self.nodes > MAX_NODES:
            problem = f"is more than {MAX_DEPTH} levels deep, or more than {MAX_NODES} values"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)
