"""A folder that tells how films were measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from longvid.errors import RenderError, UserError
from longvid.evaluation import curves
from longvid.files import write as write_file


def check(folder: Path) -> None:
    """Raise UserError, before anything is measured, for what a report could not be written for."""
    if find_spec("matplotlib") is None:
        raise UserError("--report: curves take matplotlib: pip install 'longvid[metrics]'")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--report {folder}: is a file; name a folder")


def write(folder: Path, values: Mapping[str, Any]) -> None:
    """``values.json`` and ``curves.png``. Raises RenderError where the disk refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RenderError(f"{folder}: cannot be made: {error.strerror or error}") from error
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
    # With JSON's own escapes for a file name that is no text.
    write_file(folder / "values.json", f"{text}\n".encode(errors="backslashreplace"))
    films = values["films"]
    title = Path(films[0]["film"]).name if len(films) == 1 else f"{len(films)} films"
    curves.draw([film["curves"] for film in films], title, folder / "curves.png")
