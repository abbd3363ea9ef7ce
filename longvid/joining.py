"""The film, from the work directory alone: its segments, with chapters and metadata of its plan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from longvid.files import replacing
from longvid.plan import digest
from longvid.state import WorkDirectory
from longvid.video import writer

SHOT = ("title", "prompt", "start_frame", "end_frame", "cut")
"""What a film's metadata tell of each shot, as JSON under ``shots``."""


def join_film(work: WorkDirectory, plan: Mapping[str, Any], longvid: str, output: Path) -> None:
    """Write the finished film, whole or not at all; ``run.json`` tells of it before it takes its name.

    Arguments and errors as ``write_film``'s.
    """
    with replacing(output) as partial:
        write_film(work, plan, longvid, partial)
        work.announce(partial)


def write_film(work: WorkDirectory, plan: Mapping[str, Any], longvid: str, path: Path) -> None:
    """The finished film as the file ``path``: equal segments, plan and version of longvid give equal bytes.

    ``plan``: the effective values, as in ``plan.json``. ``longvid``: the version that rendered it. Raises
    RenderError and OSError as ``writer.join``.
    """
    plan = {key: value for key, value in plan.items() if key != "sha256"}
    chapters = [
        writer.Chapter(shot["title"] or shot["prompt"], shot["start_frame"], shot["end_frame"])
        for shot in plan["shots"]
    ]
    metadata = {
        "title": plan["title"],
        "shots": json.dumps([{key: shot[key] for key in SHOT} for shot in plan["shots"]], ensure_ascii=False),
        "seed": str(plan["seed"]),
        "model": plan["model"],
        "longvid": longvid,
        "plan": digest(plan),
    }
    writer.remux(work.segments(sum(plan["runs"])), path, Fraction(plan["fps"]), chapters, metadata)
