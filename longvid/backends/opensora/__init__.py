"""Open-Sora v1.2 (hpcaitech, 2024), the base of the paper's PA-O: 240p to 720p at 24 frames a second.

Its weights are fetched by `longvid models pull opensora-v1.2`, or lie in a folder of one's own, where what is
missing beside ``transformer/`` is taken from the fetched ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longvid import downloads
from longvid.backends import FilmSpec, Geometry, Rung, Runtime
from longvid.backends.opensora import memory, prompts, sizes
from longvid.backends.opensora.config import TransformerSize, VAESize, transformer_size, vae_size
from longvid.backends.opensora.published import DOWNLOADS, LICENCE, TEXT_ENCODER, TRANSFORMER, VAE
from longvid.downloads import Download

if TYPE_CHECKING:
    from longvid.backends.opensora.film import OpenSoraFilm

NAME = "opensora-v1.2"
KINDS = (".safetensors", ".bin", ".pt", ".pth")
"""Suffixes of files that may hold weights."""

GEOMETRY = Geometry(
    chunk_latents=sizes.CHUNK_LATENTS,
    chunk_frames=sizes.CHUNK_FRAMES,
    first_chunk_frames=sizes.CHUNK_FRAMES,
    channels=4,
    pixel_stride=sizes.PIXEL_STRIDE,
    window_units=6,
    steps=30,
    guidance=7.0,
    sizes=((424, 240), (240, 424), (320, 320), (640, 360), (848, 480), (480, 848), (1280, 720)),
    any_size=True,
    fps=Fraction(24),
    fps_min=Fraction(8),
    fps_max=Fraction(60),
    output_width_px=240,
)


@dataclass(frozen=True)
class OpenSora:
    """The backend over a folder of weights. ``random``: its networks' weights are random instead, and only
    the sizes in the folder's ``config.json`` files count, where there are any."""

    folder: Path
    random: bool = False
    name: str = NAME
    licence: str = f"{LICENCE}; the published copy of T5 v1.1, Google's under Apache-2.0, states none"
    expects: str = ""
    geometry: Geometry = GEOMETRY
    downloads: tuple[Download, ...] = DOWNLOADS

    def part(self, name: str) -> Path:
        """The folder of TRANSFORMER, VAE or TEXT_ENCODER: the fetched one where this folder has none."""
        own = self.folder / name
        return own if own.is_dir() else downloads.folder(NAME) / name

    def transformer_size(self) -> TransformerSize:
        config = self.part(TRANSFORMER) / "config.json"
        return TransformerSize() if self.random and not config.is_file() else transformer_size(config)

    def vae_size(self) -> VAESize:
        config = self.part(VAE) / "config.json"
        return VAESize() if self.random and not config.is_file() else vae_size(config)

    def check_options(self, options: Mapping[str, Any]) -> None:
        prompts.read_options(options)

    def unknown_words(self, prompt: str) -> list[str]:
        return prompts.unknown_words(prompt, self.part(TEXT_ENCODER) / prompts.VOCABULARY)

    def missing_files(self) -> list[str]:
        if self.random:
            return []
        missing = []
        for published in self.downloads:
            folder = self.part(published.folder)
            files: Sequence[str] = published.files
            if folder == self.folder / published.folder and self.folder != downloads.folder(NAME):
                # A folder of one's own may hold its weights in other shards, or as pickles.
                files = (
                    ["config.json"]
                    if any(any(folder.glob(f"*{kind}")) for kind in KINDS)
                    else ["config.json", "model.safetensors"]
                )
            missing += [str(folder / file) for file in files if not (folder / file).is_file()]
        return missing

    def check_weights(self) -> list[str]:
        if self.random:
            return []
        from longvid.backends.opensora.film import check_weights

        return check_weights(self)

    def with_random_weights(self) -> OpenSora:
        return replace(self, random=True)

    def lora_layers(self) -> Mapping[str, tuple[int, int]]:
        from longvid.backends.opensora.film import linear_layers

        # Which may lack its files: then the published sizes are meant.
        return linear_layers(self.with_random_weights().transformer_size())

    def rungs(self, spec: FilmSpec, value_bytes: int) -> Sequence[Rung]:
        return memory.rungs(self, spec, value_bytes)

    def for_film(self, spec: FilmSpec, runtime: Runtime) -> OpenSoraFilm:
        from longvid.backends.opensora.film import OpenSoraFilm

        return OpenSoraFilm.of(self, spec, runtime)


def backend(folder: Path | None) -> OpenSora:
    """The entry point: the fetched weights, or a folder of one's own."""
    return OpenSora(downloads.folder(NAME) if folder is None else folder)
