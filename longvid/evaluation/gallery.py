"""A comparison as a folder that a browser shows without a server: tables, curves, films, and blind duels.

OUT/index.html  duel.html  table.json  table.md  sheets/CONTENT.png
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from html import escape
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any

from longvid.evaluation import chart, standings
from longvid.evaluation.comparison import Place, Scored
from longvid.evaluation.curves import LABELS
from longvid.evaluation.standings import Standings
from longvid.evaluation.suite import Suite
from longvid.evaluation.table import Metric
from longvid.evaluation.votes import QUESTIONS
from longvid.files import replacing
from longvid.files import write as write_file
from longvid.video import reader, sheet

PAGES = Path(__file__).parent / "pages"
STILLS = 10
"""Frames of each film on its sheet."""
STILL_PX = 160


def write(suite: Suite, scored: Sequence[Scored], found: Standings, place: Place) -> None:
    """All of it; sheets that are there stay. Raises RenderError where the disk refuses."""
    for one in scored:
        path = place.folder / sheet_of(one)
        if not path.exists():
            draw_sheet(place.film(one.film), path)
    for name, content in (
        ("table.json", standings.to_json(suite, found)),
        ("table.md", standings.to_markdown(suite, found)),
        ("duel.html", duel(suite, scored)),
        ("index.html", index(suite, scored, found)),
    ):
        write_file(place.folder / name, content.encode())


def sheet_of(scored: Scored) -> str:
    """A film's contact sheet, from the folder; other content has another."""
    return f"sheets/{scored.content[:16]}.png"


def draw_sheet(film: Path, path: Path) -> None:
    """Frames evenly spaced over a film, side by side."""
    header = reader.header(film)
    seconds = header.frames / header.fps
    times = [seconds * Fraction(2 * i + 1, 2 * STILLS) for i in range(STILLS)]
    with replacing(path) as partial:
        sheet.write_png([sheet.strip(film, times, STILL_PX)], partial)


# The report


def index(suite: Suite, scored: Sequence[Scored], found: Standings) -> str:
    """The page with everything on it."""
    missing = f"; {len(scored)} of them are there" if len(scored) < len(suite.films) else ""
    return _page(
        "index",
        title=escape(suite.title),
        facts=escape(str(suite) + missing),
        legend="".join(_legend(number, row.name) for number, row in enumerate(found.rows)),
        tables="".join(_table(title, metrics, found) for title, metrics in found.tables.items()),
        note=escape(standings.note(found)),
        curves=_curves(found),
        films=_films(suite, scored),
        warnings=_warnings(scored),
        duel="" if duels(suite, scored) else "hidden",
    )


def _legend(number: int, name: str) -> str:
    return f'<button type="button" aria-pressed="true" {chart.of_row(number)}><i></i>{escape(name)}</button>'


def _table(title: str, metrics: Sequence[Metric], found: Standings) -> str:
    heads = "".join(
        f'<th scope="col">{escape(metric.name)}<small>{escape(metric.unit)}</small>'
        f"<small>better: {escape(metric.better)}</small></th>"
        for metric in metrics
    )
    rows = []
    for number, row in enumerate(found.rows):
        cells = "".join(_cell(metric, number, found) for metric in metrics)
        steps = "" if row.steps is None else f", {row.steps} steps"
        how = f"<small>{escape(row.method + steps)}</small>" if row.name != row.method else ""
        rows.append(
            f'<tr {chart.of_row(number)}><th scope="row"><span><i></i>{escape(row.name)}'
            f"</span>{how}</th><td>{row.films}</td>{cells}</tr>"
        )
    return (
        f'<section><h2>{escape(title)}</h2><div class="scroll" tabindex="0"><table><thead><tr>'
        f'<th scope="col">method</th><th scope="col">films</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _cell(metric: Metric, number: int, found: Standings) -> str:
    cell = found.rows[number].cells.get(metric.key)
    if cell is None:
        return "<td>-</td>"
    column = [row.cells[metric.key].band for row in found.rows if metric.key in row.cells]
    edges = [edge for band in column for edge in (band.low, band.mean, band.high) if edge is not None]
    star = "<sup>*</sup>" if cell.differs else ""
    return (
        f"<td><b>{standings.mean(metric, cell)}{star}</b>"
        f"{chart.whisker(cell.band, min(edges), max(edges), number)}"
        f"<small>{standings.interval(metric, cell)}</small></td>"
    )


def _curves(found: Standings) -> str:
    figures = []
    for name, label in LABELS.items():
        drawn = chart.draw(label, [row.curves.get(name, ()) for row in found.rows])
        if drawn:
            figures.append(f"<figure><figcaption>{escape(label)}</figcaption>{drawn}</figure>")
    return "".join(figures)


def _films(suite: Suite, scored: Sequence[Scored]) -> str:
    """The films of one prompt and seed below each other, as strips that play."""
    sections = []
    for (prompt, seed), group in groupby(scored, key=lambda one: (one.film.prompt, one.film.seed)):
        strips = "".join(_strip(suite.variants[one.film.variant].name, one) for one in group)
        told = f"<small>seed {seed}</small>" if len(suite.seeds) > 1 else ""
        sections.append(
            f'<section class="group"><header><h3>{escape(suite.prompts[prompt])}{told}</h3>'
            f'<button type="button" class="together">Play side by side</button></header>{strips}</section>'
        )
    return "".join(sections)


def _strip(name: str, one: Scored) -> str:
    scenes = one.values["scenes"]
    told = "" if scenes is None else f"<small>{scenes} scene{'s' * (scenes != 1)}</small>"
    row = one.film.variant
    return (
        f'<figure class="strip" {chart.of_row(row)}><figcaption><i></i>{escape(name)}{told}'
        f'</figcaption><a href="{escape(one.values["film"])}"><img loading="lazy" src="{sheet_of(one)}" '
        f'alt="{STILLS} frames of the film by {escape(name)}"></a></figure>'
    )


def warnings(scored: Sequence[Scored]) -> list[str]:
    """What was said of the films while they were made and measured, each line once."""
    return list(dict.fromkeys(line for one in scored for line in (*one.warnings, *one.values["notes"])))


def _warnings(scored: Sequence[Scored]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in warnings(scored))
    return f"<section><h2>To be known</h2><ul>{items}</ul></section>" if items else ""


# Blind duels


def duels(suite: Suite, scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """For each prompt and seed, the films that are there by two methods or more."""
    found = []
    for (prompt, _), group in groupby(scored, key=lambda one: (one.film.prompt, one.film.seed)):
        films = [{"name": one.film.name, "file": one.values["film"]} for one in group]
        if len(films) > 1:
            found.append({"prompt": suite.prompts[prompt], "films": films})
    return found


def duel(suite: Suite, scored: Sequence[Scored]) -> str:
    """The page that asks which of two films is better, and says nothing of methods."""
    data = {"suite": suite.digest, "title": suite.title, "groups": duels(suite, scored)}
    return _page("duel", title=escape(suite.title), data=_inline(data), questions=_inline(list(QUESTIONS)))


def _inline(data: object) -> str:
    """JSON that may stand inside of a page's script."""
    return json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")


def _page(name: str, **values: str) -> str:
    """A page of PAGES with its style and script inside."""
    parts: Mapping[str, str] = {
        "style": (PAGES / "style.css").read_text("utf-8"),
        "script": (PAGES / f"{name}.js").read_text("utf-8"),
        **values,
    }
    return Template((PAGES / f"{name}.html").read_text("utf-8")).substitute(parts)
