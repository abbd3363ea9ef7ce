"""A comparison in tables: each method's mean of each metric over its films, and how sure one can be of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from longvid.evaluation.band import Band, band, bands
from longvid.evaluation.comparison import Scored
from longvid.evaluation.suite import Suite
from longvid.evaluation.table import EVERY, Metric
from longvid.evaluation.votes import QUESTIONS, Vote, shares

if TYPE_CHECKING:
    from rich.table import Table

FIRST, SLOPES = "Films", "Slope over a film"
TITLES = {
    "drift": "Drift, from the start of a film to its end",
    "drift_per_minute": SLOPES,
    "evaluations_per_second": "Cost",
    "compute_seconds_per_second": "Cost",
    "follows": "What its prompt states, as diorama's judge sees it",
    "vbench": "VBench",
    "viewers": "Duels won",
}
"""Of the tables, by what the keys of their metrics begin with; all others are in the FIRST one."""
LEAST_PAIRS = 6
"""Below which no difference is sure: even coins fall all alike as often as 1 time in 16."""
NAME_COLUMNS, METRIC_COLUMNS = 24, 18
"""Of a terminal."""
DUELS = tuple(
    Metric(f"viewers.{question}", said, "share of duels, ties by half", "higher", 2)
    for question, said in QUESTIONS.items()
)


@dataclass(frozen=True)
class Cell:
    """A row's value. ``differs``: whether it is sure to differ from the first row's: whether the band of the
    differences, film by film of one prompt and seed, leaves out 0. None for the first row, and where fewer
    than LEAST_PAIRS such pairs are there."""

    band: Band
    differs: bool | None = None


@dataclass(frozen=True)
class Row:
    """What is known of a variant by the ``films`` of it: a cell for each metric that any of them has, and at
    each time, for each clip of two seconds, of each curve."""

    name: str
    method: str
    steps: int | None
    films: int
    cells: Mapping[str, Cell]
    curves: Mapping[str, Sequence[Band | None]]


@dataclass(frozen=True)
class Standings:
    """``tables``: by title, the metrics that any row has."""

    rows: tuple[Row, ...]
    tables: Mapping[str, Sequence[Metric]]


def standings(suite: Suite, scored: Sequence[Scored], votes: Sequence[Vote]) -> Standings:
    """Of all films that are scored."""
    by_variant = [[one for one in scored if one.film.variant == i] for i in range(len(suite.variants))]
    rows = []
    for index, (variant, films) in enumerate(zip(suite.variants, by_variant, strict=True)):
        cells = {metric.key: _cell(metric, films, by_variant[0] if index else ()) for metric in EVERY}
        for question, metric in zip(QUESTIONS, DUELS, strict=True):
            won = band(shares(votes, index, question))
            cells[metric.key] = None if won is None else Cell(won)
        known = {key: cell for key, cell in cells.items() if cell is not None}
        rows.append(Row(variant.name, variant.method, variant.steps, len(films), known, _curves(films)))
    tables: dict[str, list[Metric]] = {}
    for metric in (*EVERY, *DUELS):
        if any(metric.key in row.cells for row in rows):
            tables.setdefault(TITLES.get(metric.key.split(".")[0], FIRST), []).append(metric)
    return Standings(tuple(rows), tables)


def value(metric: Metric, scored: Scored) -> float | None:
    """Of a film. Of several prompts there is no drift: they need not look alike."""
    drifts = metric.key.startswith(("drift.", "drift_per_minute."))
    return None if drifts and len(scored.film.plan.shots) > 1 else metric.of(scored.values)


def _cell(metric: Metric, films: Sequence[Scored], first: Sequence[Scored]) -> Cell | None:
    values = {(one.film.prompt, one.film.seed): value(metric, one) for one in films}
    found = band(list(values.values()))
    if found is None:
        return None
    paired = []
    for one in first:
        here, there = values.get((one.film.prompt, one.film.seed)), value(metric, one)
        if here is not None and there is not None:
            paired.append(here - there)
    apart = band(paired) if len(paired) >= LEAST_PAIRS else None
    if apart is None or apart.low is None or apart.high is None:
        return Cell(found)
    return Cell(found, differs=apart.low > 0 or apart.high < 0)


def _curves(films: Sequence[Scored]) -> dict[str, list[Band | None]]:
    names = dict.fromkeys(name for one in films for name in one.values["curves"])
    return {name: bands([one.values["curves"].get(name, ()) for one in films]) for name in names}


# As text


def mean(metric: Metric, cell: Cell) -> str:
    return f"{cell.band.mean:.{max(metric.digits, 1)}f}"


def interval(metric: Metric, cell: Cell) -> str:
    """``0.91 to 0.95``; nothing for one film."""
    digits = max(metric.digits, 1)
    low, high = cell.band.low, cell.band.high
    return "" if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"


def to_json(suite: Suite, found: Standings) -> str:
    """``table.json``: every row and metric, numbers whole."""
    metrics = [metric for table in found.tables.values() for metric in table]
    content = {
        "title": suite.title,
        "prompts": list(suite.prompts),
        "seeds": list(suite.seeds),
        "metrics": [
            {"key": metric.key, "name": metric.name, "unit": metric.unit, "better": metric.better}
            for metric in metrics
        ],
        "rows": [
            {
                "name": row.name,
                "method": row.method,
                "steps": row.steps,
                "films": row.films,
                "values": {
                    key: {**asdict(cell.band), "differs_from_first": cell.differs}
                    for key, cell in row.cells.items()
                },
            }
            for row in found.rows
        ],
    }
    return f"{json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)}\n"


def to_markdown(suite: Suite, found: Standings) -> str:
    """``table.md``."""
    lines = [f"# {suite.title}", ""]
    for title, metrics in found.tables.items():
        heads = [f"{metric.name}, {metric.unit} (better: {metric.better})" for metric in metrics]
        lines += [f"## {title}", "", f"| method | films | {' | '.join(heads)} |"]
        lines.append("|---|---:|" + "---:|" * len(metrics))
        for row in found.rows:
            cells = [_in_line(metric, row.cells.get(metric.key)) for metric in metrics]
            lines.append(f"| {row.name} | {row.films} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join([*lines, note(found), ""])


def _in_line(metric: Metric, cell: Cell | None) -> str:
    if cell is None:
        return "-"
    said, sure = mean(metric, cell), interval(metric, cell)
    star = "*" if cell.differs else ""
    return f"{said}{star} ({sure})" if sure else f"{said}{star}"


def note(found: Standings) -> str:
    """How the tables are to be read."""
    return (
        "Means over films, and between which values 95 % of the means of resampled films lie (bootstrap). "
        f"A star: film by film, {LEAST_PAIRS} of them or more, the difference from {found.rows[0].name} "
        "is that sure not to be 0."
    )


def to_rich(title: str, metrics: Sequence[Metric], rows: Sequence[Row]) -> Table:
    """One of the tables, or some columns of it, for a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    made.add_column("method", overflow="fold", max_width=NAME_COLUMNS)
    made.add_column("films", justify="right")
    for metric in metrics:
        head = Text.assemble(metric.name, "\n", (f"better: {metric.better}", "dim"))
        made.add_column(head, justify="right", overflow="fold", width=METRIC_COLUMNS)
    for row in rows:
        cells = []
        for metric in metrics:
            cell = row.cells.get(metric.key)
            cells.append(
                Text("-")
                if cell is None
                else Text.assemble(
                    mean(metric, cell), "*" if cell.differs else " ", "\n", (interval(metric, cell), "dim")
                )
            )
        made.add_row(Text(row.name), str(row.films), *cells)
    return made


def to_fit(metrics: Sequence[Metric], columns: int) -> Iterator[Sequence[Metric]]:
    """As many metrics at a time as a table has room for, on a terminal of so many columns."""
    at_a_time = max(1, (columns - NAME_COLUMNS - 9) // (METRIC_COLUMNS + 2))
    for start in range(0, len(metrics), at_a_time):
        yield metrics[start : start + at_a_time]
