"""The loss by step as a picture, from the run's ``metrics.jsonl``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from longvid.errors import UserError
from longvid.files import replacing

SIZE_PX = (1200, 675)
DPI = 150
STEP, MEAN, HELD_OUT = "#b8c7dc", "#1f4e8c", "#c8511b"


@dataclass(frozen=True)
class Curve:
    """(step, loss) of the training steps, and of what was held out; finite, in order of steps."""

    steps: tuple[tuple[int, float], ...]
    held_out: tuple[tuple[int, float], ...]


def read_metrics(path: Path) -> Curve:
    """The curve in a ``metrics.jsonl``: objects with ``step`` and ``loss``, and ``held_out`` where it was
    measured. A step that is told of twice, as behind a resumption, counts as the last says; lines that are
    not whole, as of a run that was killed, don't count.
    """
    steps: dict[int, float] = {}
    held_out: dict[int, float] = {}
    for line in path.read_text("utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            said = json.loads(line)
            step = int(said["step"])
        except (ValueError, KeyError, TypeError):
            continue
        for key, losses in (("loss", steps), ("held_out", held_out)):
            losses.pop(step, None)
            loss = said.get(key)
            if isinstance(loss, int | float) and math.isfinite(loss):
                losses[step] = float(loss)
    return Curve(tuple(sorted(steps.items())), tuple(sorted(held_out.items())))


def smoothed(losses: Sequence[float]) -> list[float]:
    """The running mean that forgets half within a fortieth of the run, without a bias towards its start."""
    keep = 0.5 ** (40 / max(len(losses), 40))
    mean, weight, means = 0.0, 0.0, []
    for loss in losses:
        mean, weight = keep * mean + (1 - keep) * loss, keep * weight + 1 - keep
        means.append(mean / weight)
    return means


def _usual(losses: Sequence[float], held_out: Sequence[float]) -> float:
    """The greatest loss, but for the hundredth of them that is greatest; 1 where there is none, or only 0."""
    most = sorted(losses)[: max(1, math.ceil(0.99 * len(losses)))]
    return max([*most[-1:], *held_out], default=0.0) or 1.0


def draw(curve: Curve, title: str, path: Path) -> None:
    """The curve as a PNG of 1200 x 675 pixels: each step, their running mean, and what was held out.

    A loss far above the others lies outside, and is counted in the legend. Raises UserError without
    matplotlib, RenderError where the disk refuses.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise UserError("matplotlib is not installed: pip install 'longvid[training]'") from error
    figure = Figure((SIZE_PX[0] / DPI, SIZE_PX[1] / DPI), DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    top = 1.2 * _usual([loss for _, loss in curve.steps], [loss for _, loss in curve.held_out])
    inside = [(step, loss) for step, loss in curve.steps if loss <= top]
    above = len(curve.steps) - len(inside)
    mark = "." if len(curve.steps) == 1 else None  # of one point there is no line
    if curve.steps:
        said = f"each step ({above:,} above the frame)" if above else "each step"
        axes.plot(*zip(*curve.steps, strict=True), marker=mark, color=STEP, linewidth=0.8, label=said)
        mean = smoothed([loss for _, loss in inside])
        said = "running mean of the others" if above else "running mean"
        axes.plot([step for step, _ in inside], mean, marker=mark, color=MEAN, linewidth=1.8, label=said)
    if curve.held_out:
        axes.plot(*zip(*curve.held_out, strict=True), "o-", color=HELD_OUT, markersize=4, label="held out")
    axes.set_ylim(0, top)
    axes.set_xlim(0, 1.01 * max(step for step, _ in (*curve.steps, *curve.held_out, (1, 0.0))))
    axes.set_xlabel("training step")
    axes.set_ylabel("loss")
    axes.set_title(title, loc="left", parse_math=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if curve.steps or curve.held_out:
        axes.legend(frameon=False, loc="upper right")
    with replacing(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})
