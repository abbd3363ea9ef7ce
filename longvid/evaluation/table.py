"""What is measured, in words: each metric with its unit and what is better; and films side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from longvid.evaluation.appearance import UNITS
from longvid.evaluation.band import Band, band
from longvid.evaluation.judge import accuracy
from longvid.evaluation.vbench import DIMENSIONS

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Metric:
    """``key``: where its value lies in a film's JSON, by a dot where in a mapping."""

    key: str
    name: str
    unit: str
    better: str
    digits: int = 3

    def of(self, film: Mapping[str, Any]) -> float | None:
        value: Any = film
        for part in self.key.split("."):
            value = None if value is None else value.get(part)
        return None if value is None else float(value)


METRICS = (
    Metric("scenes", "scenes", "count", "1", 0),
    Metric("flicker", "temporal flicker", "(255 - m) / 255", "higher, if it moves", 4),
    Metric("motion", "motion amplitude", "heights/s", "as the reference"),
    Metric("seam_ratio", "seam ratio", "ratio", "1"),
    Metric("seam_ratio_compensated", "seam ratio, motion taken back", "ratio", "1"),
    Metric("seam_ratio_latents", "seam ratio among latents", "ratio", "1"),
    Metric("flicker_at_chunk_period", "flicker at the chunks' period", "power ratio", "1", 2),
    Metric("switch_latency_seconds", "switch latency", "s", "0", 2),
    Metric("consistency", "feature consistency", "cosine", "higher", 4),
    *(
        metric
        for name, unit in UNITS.items()
        for metric in (
            Metric(f"drift.{name}", f"drift of {name}", unit, "0", 2),
            Metric(f"drift_per_minute.{name}", f"slope of {name}", f"{unit} a minute", "0", 2),
        )
    ),
    Metric("evaluations_per_second", "evaluations", "a second of film", "lower", 1),
    Metric("compute_seconds_per_second", "computing", "s a second of film", "lower"),
)
JUDGED = (
    Metric("follows.score", "prompt followed, as the judge sees it", "share of what it states", "1"),
    *(
        Metric(f"follows.{name}", f"{name} followed; the judge is right on {right:.3f}", "share", "1")
        for name, right in accuracy().decoded.items()
    ),
)
"""Of diorama's films; left out of tables where there is none."""
WITH_WEIGHTS = (
    Metric("clip_score", "CLIP, the shot's own prompt", "100 cos", "higher", 2),
    Metric("clip_margin", "CLIP, over the last shot's", "100 cos", "higher", 2),
    *(
        Metric(f"vbench.{name}", f"VBench, {name.replace('_', ' ')}", "0 to 1", "higher", 4)
        for name in DIMENSIONS
    ),
)
"""What takes downloaded weights; left out of tables where no film has it."""
EVERY = (*METRICS, *JUDGED, *WITH_WEIGHTS)


def units() -> dict[str, str]:
    """Unit of each value, by its key."""
    return {metric.key: metric.unit for metric in EVERY}


def table(names: Sequence[str], films: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each metric, a column for each film, and of several their mean with its band. Slopes, one for
    each drift, are in the JSON alone."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    made.add_column("metric", overflow="fold", min_width=len("consistency"))
    made.add_column("unit", style="dim", overflow="fold")
    made.add_column("better", style="dim", overflow="fold")
    for name in names:
        made.add_column(name, justify="right", overflow="fold")
    if len(films) > 1:
        made.add_column("mean\n95 % band", justify="right")
    for metric in EVERY:
        values = [metric.of(film) for film in films]
        if metric.key.startswith("drift_per_minute") or (metric not in METRICS and not any_of(values)):
            continue
        cells = [_said(value, metric.digits) for value in values]
        if len(films) > 1:
            cells.append(_banded(band(values), metric.digits))
        made.add_row(metric.name, metric.unit, metric.better, *cells)
    return made


def any_of(values: Sequence[float | None]) -> bool:
    """Whether there is one."""
    return any(value is not None for value in values)


def _said(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _banded(found: Band | None, digits: int) -> str:
    if found is None:
        return "-"
    mean = _said(found.mean, max(digits, 1))
    if found.low is None:
        return mean
    return f"{mean}\n{_said(found.low, max(digits, 1))} to {_said(found.high, max(digits, 1))}"
