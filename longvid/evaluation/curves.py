"""Values over a film's time as a picture: the mean over films and its band (the paper's Fig. 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from longvid.evaluation.appearance import UNITS
from longvid.evaluation.band import bands
from longvid.evaluation.clips import CLIP_SECONDS
from longvid.files import replacing

LABELS = {
    "flicker": "temporal flicker, (255 - m) / 255",
    "motion": "motion amplitude, heights/s",
    "seam_ratio": "seam ratio",
    "cuts": "unplanned cuts",
    "consistency": "feature consistency in the clip, cosine",
    **{name: f"{name}, {unit}" for name, unit in UNITS.items()},
}
WIDTH_INCHES, ROW_INCHES, DPI = 11.0, 2.2, 110
LINE = "#1f4e8c"

Curves = Mapping[str, Sequence[float | None]]
"""By metric, a value for each clip; None where it has none."""


def draw(films: Sequence[Curves], title: str, path: Path) -> None:
    """A PNG with a plot for each metric that a film has values of: each film thin, of several their mean and
    its 95 % band.

    Raises RenderError where the disk refuses. It takes matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [name for name in LABELS if any(_has_values(film.get(name, ())) for film in films)]
    rows = (len(names) + 1) // 2
    figure = Figure((WIDTH_INCHES, ROW_INCHES * rows), DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, parse_math=False)
    for place, name in enumerate(names):
        axes = figure.add_subplot(rows, 2, place + 1)
        curves = [film[name] for film in films if name in film]
        for curve in curves:
            points = [(at(clip), value) for clip, value in enumerate(curve) if value is not None]
            thin = len(curves) > 1
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                color=LINE,
                linewidth=0.6 if thin else 1.6,
                alpha=0.35 if thin else 1,
                marker="." if len(points) == 1 else None,
            )
        if len(curves) > 1:
            middle = [(at(clip), found) for clip, found in enumerate(bands(curves)) if found is not None]
            axes.plot([x for x, _ in middle], [found.mean for _, found in middle], color=LINE, linewidth=1.8)
            sure = [(x, f.low, f.high) for x, f in middle if f.low is not None and f.high is not None]
            axes.fill_between(
                [x for x, _, _ in sure],
                [low for _, low, _ in sure],
                [high for _, _, high in sure],
                color=LINE,
                alpha=0.2,
            )
        axes.set_title(LABELS[name], loc="left", fontsize=9, parse_math=False)
        axes.set_xlabel("seconds", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})


def at(clip: int) -> float:
    """The middle of a clip, in seconds."""
    return float(CLIP_SECONDS * (2 * clip + 1) / 2)


def _has_values(curve: Sequence[float | None]) -> bool:
    return any(value is not None for value in curve)
