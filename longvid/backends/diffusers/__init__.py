"""Bases of today through diffusers: SkyReels-V2, Wan 2.2, LTX-Video, ModelScope's text-to-video.

Each lies in a folder of diffusers' published layout, fetched by `longvid models pull NAME`, or of one's own,
where a part that is missing is taken from the fetched ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longvid import downloads
from longvid.backends import FilmSpec, Geometry, Rung, Runtime
from longvid.backends.diffusers import memory
from longvid.backends.diffusers.published import (
    LTX_VIDEO,
    MODELSCOPE_1_7B,
    SCHEDULER,
    SKYREELS_1_3B,
    SKYREELS_14B,
    WAN_2_2_5B,
    WHOLE_OR_SHARDS,
    Model,
)
from longvid.document import show
from longvid.downloads import Download
from longvid.errors import UserError

if TYPE_CHECKING:
    from longvid.backends.diffusers.film import DiffusersFilm

FLOW_SHIFTS = (0.1, 100.0)
"""The range of `model_options.flow_shift`."""


@dataclass(frozen=True)
class Diffusers:
    """The backend over a folder of a model's parts. ``random``: its networks' weights are random instead, and
    only the sizes in the folder's ``config.json`` files count, where there are any."""

    model: Model
    folder: Path
    random: bool = False

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def licence(self) -> str:
        return self.model.licence

    @property
    def expects(self) -> str:
        return self.model.expects

    @property
    def downloads(self) -> tuple[Download, ...]:
        return self.model.downloads

    @property
    def geometry(self) -> Geometry:
        """The model's; channels are those of the folder's network."""
        network = self.config(self.model.network)
        return replace(self.model.geometry, channels=int(network["in_channels"]))

    def part(self, name: str) -> Path:
        """The folder of a part: the fetched one where this folder has none."""
        own = self.folder / name
        return own if own.is_dir() else downloads.folder(self.name) / name

    def config(self, name: str) -> dict[str, Any]:
        """What the configuration of a part says; the published one's where there is no file. Raises UserError
        for what is no configuration of this model."""
        file = self.part(name) / ("scheduler_config.json" if name == SCHEDULER else "config.json")
        published = dict(self.model.configs.get(name, {}))
        try:
            said = json.loads(file.read_text("utf-8"))
        except FileNotFoundError:
            return published
        except OSError as error:
            raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise UserError(f"{file}: is no JSON: {error}") from error
        if not isinstance(said, dict):
            raise UserError(f"{file}: is no JSON object")
        kind = said.get("_class_name") or next(iter(said.get("architectures") or ()), None)
        wanted = published.get("_class_name", kind)
        if kind not in (None, wanted):
            raise UserError(f"{file}: is of {show(kind)}; {self.name} has {wanted}")
        return {**said, "_class_name": wanted} if wanted else said

    def flow_shift(self, options: Mapping[str, Any]) -> float | None:
        """The option's, else the folder's scheduler's, else the model's.

        A scheduler that is written without one has 1, which so means nothing: that of SkyReels-V2 was
        converted like this, and its shift is told on its page.
        """
        if self.model.flow_shift is None:
            return None
        said = self.config(SCHEDULER).get("flow_shift")
        own = said if isinstance(said, int | float) and said != 1 else self.model.flow_shift
        return float(options.get("flow_shift", own))

    def check_options(self, options: Mapping[str, Any]) -> None:
        known = () if self.model.flow_shift is None else ("flow_shift",)
        for key, value in options.items():
            if key not in known:
                has = f"it has {', '.join(known)}" if known else "it has none"
                raise UserError(f"model_options.{key}: {self.name} has no such option; {has}")
            low, high = FLOW_SHIFTS
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise UserError(
                    f"model_options.{key}: {show(value)} is no number from {low:g} to {high:g}; "
                    f"the model's is {self.flow_shift({}):g}"
                )

    def unknown_words(self, prompt: str) -> list[str]:
        return []  # their vocabularies spell what they do not know

    def missing_files(self) -> list[str]:
        if self.random:
            return []
        return [
            str(folder / file.replace(WHOLE_OR_SHARDS, ".safetensors"))
            for download in self.downloads
            for folder in [self.part(download.folder)]
            for file in download.files
            if not any(folder.glob(file))
        ]

    def check_weights(self) -> list[str]:
        if self.random:
            return []
        from longvid.backends.diffusers.film import check_weights

        return check_weights(self)

    def with_random_weights(self) -> Diffusers:
        return replace(self, random=True)

    def lora_layers(self) -> Mapping[str, tuple[int, int]]:
        from longvid.backends.diffusers.film import linear_layers

        return linear_layers(self)

    def rungs(self, spec: FilmSpec, value_bytes: int) -> Sequence[Rung]:
        return memory.rungs(self, spec, value_bytes)

    def for_film(self, spec: FilmSpec, runtime: Runtime) -> DiffusersFilm:
        from longvid.backends.diffusers.film import DiffusersFilm

        return DiffusersFilm.of(self, spec, runtime)


def _backend(model: Model, folder: Path | None) -> Diffusers:
    return Diffusers(model, downloads.folder(model.name) if folder is None else folder)


# Entry points: the fetched weights, or a folder of one's own.


def skyreels_1_3b(folder: Path | None) -> Diffusers:
    return _backend(SKYREELS_1_3B, folder)


def skyreels_14b(folder: Path | None) -> Diffusers:
    return _backend(SKYREELS_14B, folder)


def wan_2_2_5b(folder: Path | None) -> Diffusers:
    return _backend(WAN_2_2_5B, folder)


def ltx_video(folder: Path | None) -> Diffusers:
    return _backend(LTX_VIDEO, folder)


def modelscope_1_7b(folder: Path | None) -> Diffusers:
    return _backend(MODELSCOPE_1_7B, folder)
