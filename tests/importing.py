"""Schedules imported, read back, and planned with chunks of a frame: so a plan has a switch's very frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

from longvid import timeline
from longvid.plan import RenderPlan, plan
from longvid.schedules import Format, Manuscript, imported
from longvid.times import parse_time
from tests.planning import PlanBackend

BY_FRAME = PlanBackend().but(
    chunk_latents=1,
    chunk_frames=1,
    first_chunk_frames=1,
    pixel_stride=1,
    any_size=True,
    fps_min=Fraction(1),
    fps_max=Fraction(60),
)


def manuscript(
    text: str, format: Format | None = None, fps: int | None = None, seconds: object = None
) -> Manuscript:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "wonder.txt"
        file.write_text(text, "utf-8")
        return imported(
            file, format, Fraction(fps) if fps else None, None if seconds is None else parse_time(seconds)
        )


def planned(
    text: str,
    format: Format | None = None,
    fps: int | None = None,
    seconds: object = None,
    backend: PlanBackend = BY_FRAME,
) -> RenderPlan:
    """The plan of the YAML that is written."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "wonder.yaml"
        file.write_text(manuscript(text, format, fps, seconds).text, "utf-8")
        return plan(timeline.load(file), backend)


def shots(made: RenderPlan) -> list[tuple[int, int, str]]:
    """(first frame, frame behind the last, prompt) of each shot."""
    assert [(shot.start_frame, shot.end_frame) for shot in made.shots] == [
        (shot.requested_start_frame, shot.requested_end_frame) for shot in made.shots
    ]
    return [(shot.start_frame, shot.end_frame, shot.prompt) for shot in made.shots]
