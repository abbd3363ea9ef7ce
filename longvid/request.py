"""What was asked of a render: all that it takes to go on with it, without the timeline's file. Torch-free.

It lies in the work directory as ``request.json``, sealed as every file there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from longvid import plugins, timeline
from longvid.backends import Backend, Dtype
from longvid.document import Source
from longvid.plan import RenderPlan, plan
from longvid.settings import Overrides
from longvid.timeline import Timeline

FILE = "request.json"


@dataclass(frozen=True)
class Request:
    """A timeline and what was said beside it. ``given``: units that an edit shall leave as they are."""

    timeline: Timeline
    model: str | None = None
    overrides: Overrides = field(default_factory=Overrides)
    device: str = "auto"
    dtype: Dtype = "auto"
    compile: bool = False
    given: int = 0

    def choose(self) -> plugins.Choice:
        """Raises UserError for an unknown model."""
        return plugins.choose(self.timeline, self.model)

    def plan(self, backend: Backend) -> RenderPlan:
        """Raises UserError for what this model cannot do."""
        made = plan(self.timeline, backend, self.overrides)
        return replace(made, given=min(self.given, len(made.units) - 1))

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
            "given": self.given,
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
            given=content["given"],
        )


def _number(value: object) -> float | str:
    return float(value) if isinstance(value, Decimal) else str(value)
