"""A backend that can be planned with and nothing else, and the command line run in this process."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from longvid.backends import RESIDENT, FilmSpec, Geometry, Rung
from longvid.cli import main
from longvid.downloads import Download
from longvid.errors import UserError

GEOMETRY = Geometry(
    chunk_latents=4,
    chunk_frames=16,
    first_chunk_frames=16,
    channels=16,
    pixel_stride=8,
    window_units=4,
    steps=16,
    guidance=2.0,
    sizes=((96, 64), (192, 128)),
    any_size=False,
    fps=Fraction(12),
    fps_min=Fraction(6),
    fps_max=Fraction(24),
    output_width_px=384,
)


@dataclass(frozen=True)
class PlanBackend:
    """A word that begins with "zz" is unknown to it; its one option is `gain`."""

    name: str = "planned"
    geometry: Geometry = GEOMETRY
    memory: int | None = None
    licence: str = "none: it has no weights"
    expects: str = ""
    folder: Path = Path(__file__).parent
    downloads: tuple[Download, ...] = ()

    def check_options(self, options: Mapping[str, Any]) -> None:
        for key in options:
            if key != "gain":
                raise UserError(f"model_options.{key}: unknown; known: gain")

    def unknown_words(self, prompt: str) -> list[str]:
        return re.findall(r"\bzz\w*", prompt)

    def missing_files(self) -> list[str]:
        return []

    def check_weights(self) -> list[str]:
        return []

    def with_random_weights(self) -> PlanBackend:
        return self

    def lora_layers(self) -> dict[str, tuple[int, int]]:
        return {}

    def rungs(self, spec: FilmSpec, value_bytes: int) -> list[Rung]:
        return [Rung(RESIDENT, self.memory, "everything stays in memory")]

    def for_film(self, *args: object) -> Any:
        raise AssertionError("a plan loads no weights")

    def but(self, **changes: Any) -> PlanBackend:
        return replace(self, geometry=replace(self.geometry, **changes))


def backend(folder: Path | None) -> PlanBackend:
    """An entry point."""
    return PlanBackend(name="planned" if folder is None else str(folder))


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


def longvid(*args: object) -> Ran:
    """`longvid` with these arguments; whatever is no exit is raised, as a traceback would be."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main([str(arg) for arg in args])
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return Ran(code, out.getvalue(), err.getvalue())
