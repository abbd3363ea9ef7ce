"""What was asked of a render: all that it takes to go on with it, without the timeline's file. Torch-free.

It lies in the work directory as ``request.json``, sealed as every file there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from longvid import lora, plugins, timeline
from longvid.backends import Backend, Dtype, Lora
from longvid.document import Source
from longvid.errors import UserError
from longvid.plan import RenderPlan, digest_of, picture_of, plan
from longvid.settings import Overrides
from longvid.starts import Audio, Fit, Handoff, Start
from longvid.timeline import Timeline

FILE = "request.json"


@dataclass(frozen=True)
class Extension:
    """How a clip and what was rendered behind it become one film: `longvid extend`.

    ``seconds``: by which the film is longer than the clip. ``native``: at the model's size and rate, not the
    clip's. ``tail_only``: without the clip. ``audio``: what becomes of the clip's.
    """

    clip: Path
    seconds: Fraction
    native: bool = False
    fit: Fit = "crop"
    tail_only: bool = False
    audio: Audio = "keep"

    def content(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self) | {"clip": str(self.clip.absolute()), "seconds": str(self.seconds)}

    @staticmethod
    def of(content: Mapping[str, Any]) -> Extension:
        """The inverse of ``content``."""
        exact = {"clip": Path(content["clip"]), "seconds": Fraction(content["seconds"])}
        return Extension(**{**content, **exact})


@dataclass(frozen=True)
class Request:
    """A timeline and what was said beside it. ``start``: chunks that are there before it is rendered, and
    ``handoff`` how a clip's are taken over. ``pictures``: what those that shots start from are known by.
    ``extension``: the clip that the film shall follow. ``loras``: in place of the timeline's, if not None."""

    timeline: Timeline
    model: str | None = None
    overrides: Overrides = field(default_factory=Overrides)
    device: str = "auto"
    dtype: Dtype = "auto"
    compile: bool = False
    handoff: Handoff = "context"
    start: Start | None = None
    pictures: Mapping[int, str] | None = None
    extension: Extension | None = None
    loras: tuple[Lora, ...] | None = None

    def choose(self) -> plugins.Choice:
        """Raises UserError for an unknown model."""
        return plugins.choose(self.timeline, self.model)

    def settled(self, backend: Backend) -> Request:
        """With what its shots start from, and its LoRAs, looked at, once. Raises UserError for a file that is
        no use."""
        if self.pictures is not None:
            return self
        settled = replace(self, loras=self._fitting_loras(backend))
        if self.timeline.start_path is not None and self.start is None:
            from longvid.clips import start_from  # PyAV and NumPy

            settled = replace(self, start=start_from(self, backend))
        first = 0 if settled.start is None else 1
        return replace(settled, pictures=picture_digests(self.timeline, first))

    def _fitting_loras(self, backend: Backend) -> tuple[Lora, ...]:
        loras = lora.of_timeline(self.timeline) if self.loras is None else self.loras
        layers = backend.lora_layers() if loras else {}
        for index, use in enumerate(loras):
            try:
                lora.check(lora.read(use.path), layers, backend.name)
            except UserError as error:
                if self.loras is None:
                    raise self.timeline.source.error(("lora", index), str(error)) from error
                raise UserError(f"--lora: {error}") from error
        return loras

    def plan(self, backend: Backend) -> RenderPlan:
        """Raises UserError for what this model cannot do."""
        return plan(self.timeline, backend, self.overrides, self.start, self.pictures, self.loras)

    def content(self) -> dict[str, Any]:
        """For ``request.json``: plain data; a model's folder by its whole path."""
        model = self.model
        if model is not None and plugins.is_folder(model):
            model = str(Path(model).expanduser().absolute())
        source = self.timeline.source
        return {
            "timeline": json.loads(json.dumps(self.timeline.data, default=_number)),
            "name": source.name,
            "folder": str(source.folder.absolute()),
            "model": model,
            "overrides": asdict(self.overrides),
            "device": self.device,
            "dtype": self.dtype,
            "compile": self.compile,
            "handoff": self.handoff,
            "start": None if self.start is None else self.start.content(),
            "pictures": None if self.pictures is None else {str(k): v for k, v in self.pictures.items()},
            "extension": None if self.extension is None else self.extension.content(),
            "loras": None
            if self.loras is None
            else [asdict(use) | {"path": str(use.path)} for use in self.loras],
        }

    @staticmethod
    def of(content: Mapping[str, Any]) -> Request:
        """The inverse of ``content``."""
        # Numbers as a timeline's file gives them: exact.
        data = json.loads(json.dumps(content["timeline"]), parse_float=Decimal)
        source = Source(content["name"], Path(content["folder"]))
        return Request(
            timeline=timeline.build(data, source),
            model=content["model"],
            overrides=Overrides(**content["overrides"]),
            device=content["device"],
            dtype=content["dtype"],
            compile=content["compile"],
            handoff=content["handoff"],
            start=None if content["start"] is None else Start.of(content["start"]),
            pictures=content["pictures"] and {int(k): v for k, v in content["pictures"].items()},
            extension=None if content["extension"] is None else Extension.of(content["extension"]),
            # Before there were LoRAs, there was no such key.
            loras=None if (loras := content.get("loras")) is None else tuple(map(_lora, loras)),
        )


def picture_digests(timeline: Timeline, first: int) -> dict[int, str]:
    """Of the pictures that shots from the ``first`` on start from, by the shot. Raises UserError for a file
    that is none."""
    found = {}
    for shot in range(first, len(timeline.shots)):
        if (file := picture_of(timeline, shot)) is None:
            continue
        from longvid.video import source  # PyAV and NumPy

        try:
            source.probe(file)
        except UserError as error:
            key = ("start_from",) if timeline.shots[shot].image is None else ("shots", shot, "image")
            raise timeline.source.error(key, str(error)) from error
        found[shot] = digest_of(file)
    return found


def _lora(content: Mapping[str, Any]) -> Lora:
    return Lora(**{**content, "path": Path(content["path"])})


def _number(value: object) -> float | str:
    return float(value) if isinstance(value, Decimal) else str(value)
