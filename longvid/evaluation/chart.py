"""A metric over a film's time as SVG: a line for each row, and the band that its mean is sure to lie in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape

from longvid.evaluation.band import Band
from longvid.evaluation.clips import CLIP_SECONDS
from longvid.evaluation.curves import at

WIDTH, HEIGHT = 560, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 18, 10, 24
"""Room around the plot, for what is written there."""

COLORS = 10
"""Of rows, ``--c0`` and so on in style.css."""

Point = tuple[float, float]


def of_row(row: int) -> str:
    """Attributes of an element that is a row's: its number, and its colour as ``--own`` of the style."""
    return f'data-row="{row}" style="--own: var(--c{row % COLORS})"'


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from ``low`` to ``high``, so many at ``most``: 1, 2 or 5 times a power of ten apart."""
    if high <= low:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    while True:
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            return [round(i * step, 12) for i in range(first, last + 1)]
        step *= 2.5 if f"{step:e}".startswith("2") else 2


def draw(title: str, rows: Sequence[Sequence[Band | None]]) -> str:
    """The chart; a row's line has the class ``line``, its band ``band``, and both its number and colour.

    A row has a value for each clip of two seconds, or None; where one is missing, its line has a gap.
    """
    values = [
        each
        for row in rows
        for found in row
        if found is not None
        for each in (found.low, found.mean, found.high)
        if each is not None
    ]
    seconds = float(CLIP_SECONDS) * max((len(row) for row in rows), default=0)
    if not values:
        return ""
    room = (max(values) - min(values)) * 0.04 or abs(values[0]) * 0.1 or 1.0
    low, high = min(values) - room, max(values) + room
    if min(values) >= 0:  # what cannot be negative is not shown so
        low = max(low, 0.0)

    def place(second: float, value: float) -> Point:
        across = LEFT + (WIDTH - LEFT - RIGHT) * second / seconds
        return across, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)

    parts = [*_axes(low, high, seconds, place)]
    for index, row in enumerate(rows):
        own = of_row(index)
        for stretch in _stretches(row):
            over = [place(at(clip), found.mean) for clip, found in stretch]
            upper = [place(at(clip), found.high) for clip, found in stretch if found.high is not None]
            lower = [place(at(clip), found.low) for clip, found in stretch if found.low is not None]
            if len(upper) > 1:
                parts.append(f'<path class="band" {own} d="{_path([*upper, *reversed(lower)])}Z"/>')
            if len(over) == 1:
                parts.append(
                    f'<circle class="dot" {own} cx="{over[0][0]:.1f}" cy="{over[0][1]:.1f}" r="2.5"/>'
                )
            else:
                parts.append(f'<path class="line" {own} d="{_path(over)}"/>')
    said = escape(title)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}, over a film\'s time">'
        f"{''.join(parts)}</svg>"
    )


def whisker(cell: Band, low: float, high: float, row: int) -> str:
    """A mean as a dot in its band, between the ``low``est and the ``high``est of its column."""
    width, height, edge = 84, 10, 4

    def across(value: float) -> float:
        return edge + (width - 2 * edge) * ((value - low) / (high - low) if high > low else 0.5)

    bar = ""
    if cell.low is not None and cell.high is not None:
        bar = f'<path class="line" d="{_path([(across(cell.low), 5), (across(cell.high), 5)])}"/>'
    return (
        f'<svg class="whisker" viewBox="0 0 {width} {height}" {of_row(row)} aria-hidden="true">'
        f'{bar}<circle class="dot" cx="{across(cell.mean):.1f}" cy="5" r="2.5"/></svg>'
    )


def _axes(low: float, high: float, seconds: float, place: Callable[[float, float], Point]) -> Iterator[str]:
    for value in ticks(low, high, 5):
        _, y = place(0, value)
        yield f'<path class="grid" d="{_path([(LEFT, y), (WIDTH - RIGHT, y)])}"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
    for second in ticks(0, seconds, 7):
        x, _ = place(second, low)
        yield f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{second:g} s</text>'


def _stretches(row: Sequence[Band | None]) -> list[list[tuple[int, Band]]]:
    """What of a row lies between gaps: (clip, band)."""
    stretches: list[list[tuple[int, Band]]] = [[]]
    for clip, found in enumerate(row):
        if found is None:
            stretches.append([])
        else:
            stretches[-1].append((clip, found))
    return [stretch for stretch in stretches if stretch]


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
