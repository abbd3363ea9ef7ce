"""diorama: a small text-to-video model of a small world, whose weights ship in the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longvid.backends import RESIDENT, FilmSpec, Geometry, Rung, Runtime
from longvid.backends.diorama import captions
from longvid.errors import UserError

if TYPE_CHECKING:
    from longvid.backends.diorama.film import DioramaFilm
    from longvid.downloads import Download

NAME = "diorama"
WEIGHTS = Path(__file__).parent / "weights"
FILES = ("codec.safetensors", "text.safetensors", "denoiser.safetensors")

PEAK_BYTES = 505_000_000
"""Of a whole render on a CPU, PyTorch included, by `longvid bench`; the same for any length."""

GEOMETRY = Geometry(
    chunk_latents=4,
    chunk_frames=16,
    first_chunk_frames=16,
    channels=24,
    pixel_stride=16,
    window_units=4,
    steps=16,
    guidance=3.0,
    sizes=((192, 128),),
    any_size=False,
    fps=Fraction(12),
    fps_min=Fraction(12),
    fps_max=Fraction(12),
    output_width_px=384,
)


@dataclass(frozen=True)
class Diorama:
    """The backend over a folder of weights, the package's own by default."""

    folder: Path = WEIGHTS
    name: str = NAME
    licence: str = "Apache-2.0, as longvid itself"
    expects: str = ""
    geometry: Geometry = GEOMETRY
    downloads: tuple[Download, ...] = ()

    def check_options(self, options: Mapping[str, Any]) -> None:
        if options:
            raise UserError(
                f"model_options.{next(iter(options))}: diorama has no options; leave model_options out"
            )

    def unknown_words(self, prompt: str) -> list[str]:
        return captions.unknown_words(prompt)

    def missing_files(self) -> list[str]:
        return [str(self.folder / name) for name in FILES if not (self.folder / name).is_file()]

    def check_weights(self) -> list[str]:
        from longvid.backends.diorama.film import check_weights

        return check_weights(self.folder)

    def with_random_weights(self) -> Diorama:
        raise UserError("--random-weights: diorama's own come with longvid; leave it out")

    def lora_layers(self) -> Mapping[str, tuple[int, int]]:
        from longvid.backends.diorama.film import linear_layers

        return linear_layers(self.folder)

    def rungs(self, spec: FilmSpec, value_bytes: int) -> list[Rung]:
        return [Rung(RESIDENT, PEAK_BYTES, "everything stays in memory")]

    def for_film(self, spec: FilmSpec, runtime: Runtime) -> DioramaFilm:
        from longvid.backends.diorama.film import DioramaFilm

        return DioramaFilm.load(self.folder, runtime, spec.loras)


def backend(folder: Path | None) -> Diorama:
    """The entry point: the shipped weights, or a folder of weights of the same layout."""
    return Diorama(folder or WEIGHTS)
