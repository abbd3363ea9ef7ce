import io
import json

import pytest
from rich.console import Console

from longvid.evaluation.band import band
from longvid.evaluation.standings import FIRST, standings, to_fit, to_json, to_markdown, to_rich
from longvid.evaluation.table import METRICS
from longvid.evaluation.votes import Vote
from tests.evaluation.comparing import TWO_BY_TWO, scored, suite

pytestmark = pytest.mark.usefixtures("workplace")

FLICKER = next(metric for metric in METRICS if metric.key == "flicker")
# By prompt and seed: progressive, replace.
PAIRS = [(0.90, 0.80), (0.92, 0.82), (0.94, 0.85), (0.96, 0.85), (0.92, 0.82), (0.94, 0.84)]
THREE_SEEDS = TWO_BY_TWO.replace("[1, 2]", "[1, 2, 3]")


def flickers(pairs=PAIRS):
    return scored(suite(THREE_SEEDS), *({"flicker": value} for pair in pairs for value in pair))


def test_a_row_is_the_mean_over_its_films_with_its_band():
    found = standings(suite(THREE_SEEDS), flickers(), [])
    assert [(row.name, row.method, row.films) for row in found.rows] == [
        ("progressive", "progressive", 6),
        ("replace", "replace", 6),
    ]
    first, second = (row.cells["flicker"] for row in found.rows)
    assert first.band == band([0.90, 0.92, 0.94, 0.96, 0.92, 0.94])
    assert first.band.mean == pytest.approx(0.93)
    assert second.band.mean == pytest.approx(0.83)
    assert {title: [metric.key for metric in metrics] for title, metrics in found.tables.items()} == {
        FIRST: ["flicker"]
    }


WIDE = [(0.1, 0.11), (0.3, 0.31), (0.5, 0.51), (0.6, 0.61), (0.7, 0.71), (0.9, 0.91)]


def test_a_difference_is_sure_by_pairs_even_where_the_bands_overlap():
    found = standings(suite(THREE_SEEDS), flickers(WIDE), [])
    first, second = (row.cells["flicker"] for row in found.rows)
    assert (first.differs, second.differs) == (None, True)
    assert second.band.low < first.band.mean < second.band.high
    both_ways = [(one, 2 * one - other) if i % 2 else (one, other) for i, (one, other) in enumerate(WIDE)]
    assert standings(suite(THREE_SEEDS), flickers(both_ways), []).rows[1].cells["flicker"].differs is False


def test_of_few_films_no_difference_is_sure():
    found = standings(suite(THREE_SEEDS), flickers(WIDE[:5]), [])
    assert found.rows[1].cells["flicker"].differs is None


def test_films_that_are_missing_are_counted_and_make_no_difference_sure():
    read = suite()
    one = standings(read, scored(read, {"flicker": 0.9}, {"flicker": 0.8}), [])
    assert [(row.films, row.cells["flicker"].band.low) for row in one.rows] == [(1, None), (1, None)]
    assert one.rows[1].cells["flicker"].differs is None
    alone = standings(read, scored(read, {"flicker": 0.9}), [])
    assert [row.cells.keys() for row in alone.rows] == [{"flicker"}, set()]
    assert standings(read, [], []).tables == {}


def test_drift_is_told_of_films_of_one_prompt_alone():
    drifting = {"drift": {"luma": 3.0}, "flicker": 0.9}
    read = suite()
    assert standings(read, scored(read, drifting), []).rows[0].cells.keys() == {"drift.luma", "flicker"}
    several = TWO_BY_TWO.replace(
        "[a red boat, the sea at night]", "[{shots: [{prompt: a, seconds: 2}, {prompt: b, seconds: 2}]}]"
    )
    read = suite(several)
    assert standings(read, scored(read, drifting), []).rows[0].cells.keys() == {"flicker"}


def test_curves_are_bands_over_films():
    read = suite()
    curves = [{"curves": {"motion": [0.1, None]}}, {}, {"curves": {"motion": [0.3, 0.5]}}]
    found = standings(read, scored(read, *curves), [])
    assert found.rows[0].curves == {"motion": [band([0.1, 0.3]), band([0.5])]}
    assert found.rows[1].curves == {}


def test_votes_are_a_table_of_their_own():
    read = suite()
    left, right = read.films[:2]
    votes = [
        Vote(str(i), left, right, "overall", choice) for i, choice in enumerate(("left", "left", "same"))
    ]
    found = standings(read, [], votes)
    assert [row.cells["viewers.overall"].band.mean for row in found.rows] == pytest.approx([2.5 / 3, 0.5 / 3])
    assert [metric.key for metric in found.tables["Duels won"]] == ["viewers.overall"]


def test_tables_as_text():
    read = suite(THREE_SEEDS)
    found = standings(read, flickers(), [])
    sure = found.rows[0].cells["flicker"].band
    low, high = f"{sure.low:.4f}", f"{sure.high:.4f}"
    text = to_markdown(read, found)
    assert text.startswith(
        "# Boats & <seas>\n\n## Films\n\n| method | films | temporal flicker, (255 - m) / 255"
    )
    assert f"| progressive | 6 | 0.9300 ({low} to {high}) |" in text
    assert "| replace | 6 | 0.8300* (" in text
    content = json.loads(to_json(read, found))
    assert content["rows"][1]["values"]["flicker"]["differs_from_first"] is True
    assert content["rows"][0]["values"]["flicker"] == {
        "mean": pytest.approx(0.93),
        "low": sure.low,
        "high": sure.high,
        "films": 6,
        "differs_from_first": None,
    }


def test_a_terminal_gets_as_many_columns_as_fit():
    assert [len(some) for some in to_fit(METRICS[:5], 80)] == [2, 2, 1]
    assert [len(some) for some in to_fit(METRICS[:5], 10)] == [1] * 5
    console = Console(width=80, record=True, file=io.StringIO())
    found = standings(suite(THREE_SEEDS), flickers(), [])
    console.print(to_rich("Films", [FLICKER], found.rows))
    said = console.export_text().splitlines()
    assert max(map(len, said)) <= 80
    assert any(line.split() == ["replace", "6", "0.8300*"] for line in said)
