"""Backends by name: the entry points of the group ``longvid.backends``, ours among them.

A model is named by a registered name, or by a checkpoint's folder: a name with a slash or backslash, or one
that begins with ``.`` or ``~``, is always a folder. A checkpoint's folder says which backend reads it in
``longvid.json``: ``{"backend": "diorama"}``.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

from longvid.backends import Backend, BackendFactory
from longvid.document import show
from longvid.errors import UserError
from longvid.memory import cards
from longvid.timeline import Timeline

GROUP = "longvid.backends"
DEFAULT = "diorama"
BEST = "opensora-v1.2"
"""The default where its weights and a CUDA card are there; elsewhere it is far too slow."""
FOLDER_FILE = "longvid.json"


@dataclass(frozen=True)
class Choice:
    """A backend and who chose it; ``str()`` of it is what a command says in its first line."""

    backend: Backend
    by: str

    def __str__(self) -> str:
        return f"model {self.backend.name} ({self.by})"


def choose(timeline: Timeline, model: str | None = None) -> Choice:
    """The backend of a film: the one ``--model`` names, else the timeline's, else the default.

    A relative folder is taken from the current folder on the command line, from the timeline's inside a
    timeline. Raises UserError for an unknown name and for a folder that is no checkpoint.
    """
    if model is not None:
        try:
            return Choice(backend(model), "named by --model")
        except UserError as error:
            raise UserError(f"--model: {error}") from error
    if timeline.model is not None:
        source = timeline.source
        try:
            return Choice(backend(timeline.model, source.folder), f"named in {source.name}")
        except UserError as error:
            raise source.error(("model",), str(error)) from error
    with suppress(UserError):  # not installed, or there is no folder for models
        best = backend(BEST)
        if not best.missing_files() and cards():
            return Choice(best, "the default with a CUDA card; `model:` or --model names another")
    return Choice(backend(DEFAULT), "the default; `model:` or --model names another")


def backend(model: str, base: Path = Path()) -> Backend:
    """The backend of a registered name, or of a folder relative to ``base``; loads no weight."""
    if not is_folder(model):
        return _factory(model)(None)
    folder = base / os.path.expanduser(model)
    if not os.path.isdir(folder):
        raise UserError(f"there is no folder {folder}; a model's name has no slash. {_installed()}")
    try:
        name = json.loads((folder / FOLDER_FILE).read_text("utf-8"))["backend"]
    except FileNotFoundError:
        from longvid import lora  # which knows of models

        if (folder / lora.CONFIG).is_file():
            raise UserError(
                f"{folder} is a LoRA, not a model; give it as `lora:` in the timeline or with --lora"
            ) from None
        raise UserError(
            f"{folder} holds no {FOLDER_FILE}, which says what reads it; write one there, "
            f'as {{"backend": "{BEST}"}}'
        ) from None
    except (OSError, ValueError, KeyError, TypeError):
        name = None
    if not isinstance(name, str):
        raise UserError(f'{folder / FOLDER_FILE} does not read {{"backend": "a model\'s name"}}')
    return _factory(name)(folder)


def is_folder(model: str) -> bool:
    """Whether a model's name means a folder."""
    return "/" in model or "\\" in model or model.startswith((".", "~"))


def registered(group: str = GROUP) -> list[str]:
    """Names of every installed plug-in of a group, backends by default; sorted."""
    return sorted(entry_points(group=group).names)


def factory(group: str, kind: str, name: str) -> Any:
    """What a registered name of a group stands for; ``kind``: what a person calls such a thing.

    Raises UserError for an unknown name, and for one whose package cannot be loaded.
    """
    found = entry_points(group=group, name=name)
    if not found:
        near = get_close_matches(name, registered(group), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"a folder is written with a slash, as ./{name}."
        raise UserError(f"no {kind} {show(name)}; {hint} {_installed(group)}")
    entry = next(iter(found))
    try:
        return entry.load()
    except ImportError as error:
        raise UserError(f"the {kind} {name} cannot be loaded: {error}") from error


def _installed(group: str = GROUP) -> str:
    return f"Installed: {', '.join(registered(group)) or 'none'}"


def _factory(name: str) -> BackendFactory:
    return cast(BackendFactory, factory(GROUP, "model", name))
