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

from longvid import plugins, timeline
from longvid.backends import Backend, Dtype
from longvid.document import Source
from longvid.plan import RenderPlan, plan
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
    ``handoff`` how a clip's are taken over. ``extension``: the clip that the film shall follow."""

    timeline: Timeline
    model: str | None = None
    overrides: Overrides = field(default_factory=Overrides)
    device: str = "auto"
    dtype: Dtype = "auto"
    compile: bool = False
    handoff: Handoff = "context"
    start: Start | None = None
    extension: Extension | None = None

    def choose(self) -> plugins.Choice:
        """Raises UserError for an unknown model."""
        return plugins.choose(self.timeline, self.model)

    def settled(self, backend: Backend) -> Request:
        """With what the timeline starts from looked at. Raises UserError for a file that is no use."""
        if self.timeline.start_path is None or self.start is not None:
            return self
        from longvid.clips import start_from  # PyAV and NumPy

        return replace(self, start=start_from(self, backend))

    def plan(self, backend: Backend) -> RenderPlan:
        """Raises UserError for what this model cannot do."""
        return plan(self.timeline, backend, self.overrides, self.start)

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
            "extension": None if self.extension is None else self.extension.content(),
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
            extension=None if content["extension"] is None else Extension.of(content["extension"]),
        )


def _number(value: object) -> float | str:
    return float(value) if isinstance(value, Decimal) else str(value)
