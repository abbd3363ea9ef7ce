import re
import xml.etree.ElementTree as ElementTree

import pytest

from longvid.evaluation.band import Band
from longvid.evaluation.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, draw, ticks, whisker


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0, 60, 7, [0, 10, 20, 30, 40, 50, 60]),
        (0, 6, 7, [0, 1, 2, 3, 4, 5, 6]),
        (0, 120, 7, [0, 20, 40, 60, 80, 100, 120]),
        (0.991, 0.9931, 5, [0.991, 0.9915, 0.992, 0.9925, 0.993]),
        (-1, 1, 5, [-1, -0.5, 0, 0.5, 1]),
        (3, 3, 5, [3]),
    ],
)
def test_ticks_are_round(low, high, most, expected):
    assert ticks(low, high, most) == pytest.approx(expected)


def points(path):
    return [tuple(map(float, pair)) for pair in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.get("d"))]


def of_class(svg, name):
    return [element for element in ElementTree.fromstring(svg).iter() if element.get("class") == name]


def test_a_line_goes_through_the_middle_of_each_clip():
    svg = draw("motion", [[Band(0.0, -1.0, 1.0, 3), Band(1.0, 1.0, 1.0, 3)], [Band(0.5, None, None, 1)] * 2])
    first, second = of_class(svg, "line")
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    (x0, y0), (x1, y1) = points(first)
    assert (x0, x1) == pytest.approx((LEFT + width / 4, LEFT + 3 * width / 4), abs=0.1)
    room = 0.04 * 2
    assert y0 == pytest.approx(HEIGHT - BOTTOM - height * (1 + room) / (2 + 2 * room), abs=0.1)
    assert y1 == pytest.approx(HEIGHT - BOTTOM - height * (2 + room) / (2 + 2 * room), abs=0.1)
    assert [y for _, y in points(second)] == [pytest.approx((y0 + y1) / 2, abs=0.1)] * 2
    [band] = of_class(svg, "band")
    assert len(points(band)) == 4, "one film has no band"
    assert (first.get("data-row"), second.get("data-row")) == ("0", "1")


def test_a_gap_is_a_gap():
    row = [Band(1.0, None, None, 1), Band(2.0, None, None, 1), None, Band(3.0, None, None, 1)]
    svg = draw("motion", [row])
    assert [len(points(line)) for line in of_class(svg, "line")] == [2]
    assert len(of_class(svg, "dot")) == 1


def test_what_cannot_be_negative_is_not_drawn_so():
    svg = draw("cuts", [[Band(0.0, 0.0, 0.0, 2)] * 3])
    assert {y for _, y in points(of_class(svg, "line")[0])} == {HEIGHT - BOTTOM}


def test_nothing_is_drawn_of_nothing():
    assert draw("motion", [[], [None, None]]) == ""


def test_a_whisker_is_its_place_in_the_column():
    svg = whisker(Band(5.0, 0.0, 10.0, 4), 0.0, 10.0, 2)
    assert points(of_class(svg, "line")[0]) == [(4, 5), (80, 5)]
    assert of_class(svg, "dot")[0].get("cx") == "42.0"
    assert of_class(whisker(Band(1.0, None, None, 1), 1.0, 1.0, 0), "line") == []
