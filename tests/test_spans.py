from dataclasses import replace
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from longvid.document import parse
from longvid.errors import UserError
from longvid.spans import Span, snap, spans
from longvid.timeline import build
from tests.planning import GEOMETRY


def film(*shots: dict[str, Any]) -> Any:
    return build({"shots": [{"prompt": "a boat", **shot} for shot in shots]})


def seconds(*shots: dict[str, Any]) -> list[tuple[Fraction, Fraction]]:
    return [(span.start, span.end) for span in spans(film(*shots), Fraction(12))]


def test_every_way_to_say_a_span() -> None:
    assert seconds({"seconds": 8}) == [(0, 8)]
    assert seconds({"at": 0, "until": "0:08"}) == [(0, 8)]
    assert seconds({"seconds": 8}, {"seconds": 4}) == [(0, 8), (8, 12)]
    assert seconds({"seconds": 8}, {"at": 8, "seconds": 4}) == [(0, 8), (8, 12)]
    assert seconds({}, {"at": 8, "until": 20}) == [(0, 8), (8, 20)]
    assert seconds({"at": 0}, {"at": "96f"}, {"at": "0:20", "seconds": "1f"}) == [
        (0, 8),
        (8, 20),
        (20, Fraction(241, 12)),
    ]
    assert seconds({"until": 8}, {"until": 20}) == [(0, 8), (8, 20)]


def test_frames_are_rounded_from_absolute_times() -> None:
    """Ten shots of 1.24 frames: rounding each would lose two of 12.4 frames."""
    found = spans(film(*[{"seconds": Fraction(31, 300)}] * 10), Fraction(12))
    assert [span.end_frame for span in found] == [1, 2, 4, 5, 6, 7, 9, 10, 11, 12]
    assert [span.start_frame for span in found[1:]] == [span.end_frame for span in found[:-1]]
    assert found[0] == Span(Fraction(0), Fraction(31, 300), 0, 1)


def test_half_a_frame_rounds_up() -> None:
    assert [s.end_frame for s in spans(film({"seconds": Fraction(5, 24)}), Fraction(12))] == [3]


@pytest.mark.parametrize(
    ("shots", "message"),
    [
        ("- {at: 1, seconds: 2}", "f.yaml:2: shots[0].at: is 0:01; the first shot starts at 0"),
        ("- {}", "f.yaml:2: shots[0]: has no end; give it `seconds` or `until`, or the next shot `at`"),
        (
            "- {}\n- {seconds: 2}",
            "f.yaml:2: shots[0]: has no end; give it `seconds` or `until`, or the next shot `at`",
        ),
        (
            "- seconds: 2\n  until: 3",
            "f.yaml:3: shots[0].until: stands beside `seconds`; keep one of the two",
        ),
        (
            "- {seconds: 8}\n- {at: 10, seconds: 2}",
            "f.yaml:3: shots[1].at: is 0:10, but shots[0] ends at 0:08: a gap of 2 s; leave `at` out, "
            "or write 0:08",
        ),
        (
            "- {seconds: 8}\n- {at: 7.5, seconds: 2}",
            "f.yaml:3: shots[1].at: is 0:07.5, but shots[0] ends at 0:08: an overlap of 0.5 s; leave",
        ),
        # Judged before rounding: a hundredth of a frame.
        ("- {seconds: 8}\n- {at: 8.001, seconds: 2}", "a gap of 0.001 s"),
        (
            "- {until: 8}\n- {until: 8}",
            "f.yaml:3: shots[1].until: is 0:08, not after the shot's start at 0:08",
        ),
        ("- {until: 0}", "f.yaml:2: shots[0].until: is 0:00, not after the shot's start at 0:00"),
        (
            "- {}\n- {at: 0, until: 3}",
            "f.yaml:3: shots[1].at: is 0:00, not after the start of shots[0], 0:00",
        ),
        ("- {seconds: 0}", "f.yaml:2: shots[0].seconds: 0 s is less than a frame; at least 1f (0.083 s)"),
        (
            "- {seconds: 0.01}",
            "f.yaml:2: shots[0].seconds: 0.01 s is less than a frame; at least 1f (0.083 s)",
        ),
        ("- {seconds: 8}\n- {until: 8.01}", "f.yaml:3: shots[1].until: 0.01 s is less than a frame"),
        (
            "- {seconds: 24h}\n- {seconds: 1}",
            "f.yaml:3: shots[1].seconds: ends at 24:00:01; a film lasts at most a day",
        ),
        (
            "- {until: 999999999f}",
            "f.yaml:2: shots[0].until: ends at 23148:08:53.25; a film lasts at most a day",
        ),
    ],
)
def test_what_is_no_span(shots: str, message: str) -> None:
    text = "shots:\n" + "\n".join(shots.splitlines()) + "\n"
    data, source = parse(text, "f.yaml")
    for shot in data["shots"]:
        shot["prompt"] = "a boat"
    with pytest.raises(UserError) as error:
        spans(build(data, source), Fraction(12))
    assert message in str(error.value)


@given(st.lists(st.fractions(min_value=Fraction(1, 10), max_value=100), min_size=1, max_size=20))
def test_spans_tile_the_film(lengths: list[Fraction]) -> None:
    assume(sum(lengths) < 86400)
    fps = Fraction(30000, 1001)
    found = spans(film(*[{"seconds": length} for length in lengths]), fps)
    assert [span.end for span in found] == list(accumulate(lengths))
    assert found[0].start_frame == 0
    for before, after in pairwise(found):
        assert (before.end, before.end_frame) == (after.start, after.start_frame)
    for span in found:
        assert abs(span.end_frame - span.end * fps) <= Fraction(1, 2)


@pytest.mark.parametrize(
    ("ends", "units"),
    [
        ([1], [1]),
        ([16], [1]),
        ([17], [2]),
        ([1440], [90]),
        ([96, 192, 288], [6, 6, 6]),
        ([103, 192], [6, 6]),  # 103 is nearer to 96
        ([104, 192], [6, 6]),  # a tie goes to the earlier border
        ([105, 192], [7, 5]),
        ([8, 32], [0, 2]),  # too short: nothing is left of the first shot
        ([9, 32], [1, 1]),
        ([24, 40, 64], [1, 1, 2]),
        ([20, 22, 64], [1, 0, 3]),
        ([30, 32], [2, 0]),
    ],
)
def test_snap(ends: list[int], units: list[int]) -> None:
    assert snap(GEOMETRY, ends) == units


def test_snap_with_a_shorter_first_chunk() -> None:
    """Borders at 0, 5, 13, 21, 29 ..."""
    causal = replace(GEOMETRY, first_chunk_frames=5, chunk_frames=8)
    assert snap(causal, [5]) == [1]
    assert snap(causal, [6]) == [2]
    assert snap(causal, [2, 29]) == [0, 4]
    assert snap(causal, [3, 29]) == [1, 3]
    assert snap(causal, [9, 29]) == [1, 3]
    assert snap(causal, [10, 29]) == [2, 2]


def test_the_papers_minute() -> None:
    """60 s at 24 fps: 85 chunks of 17 frames = 1445 frames, of which 1440 are written."""
    opensora = replace(GEOMETRY, first_chunk_frames=17, chunk_frames=17)
    assert snap(opensora, [1440]) == [85]
    assert sum(opensora.chunk_frame_counts(85)) == 1445


@given(
    st.lists(st.integers(1, 100), min_size=1, max_size=12),
    st.integers(1, 33),
    st.integers(1, 33),
)
@example([16, 16], 16, 16)
def test_snapping(lengths: list[int], first: int, chunk: int) -> None:
    geometry = replace(GEOMETRY, first_chunk_frames=first, chunk_frames=chunk)
    ends = list(accumulate(lengths))
    units = snap(geometry, ends)
    borders = list(accumulate(geometry.chunk_frame_counts(sum(units)), initial=0))
    assert len(units) == len(ends)
    assert borders[-2] < ends[-1] <= borders[-1]
    for end, border in zip(ends[:-1], accumulate(units), strict=False):
        distances = [abs(end - frame) for frame in borders]
        assert distances.index(min(distances)) == border
    # The shortest length that errors name is always enough.
    for shot, count in zip(lengths, units, strict=True):
        assert count >= 0
        if shot >= max(first, chunk):
            assert count >= 1
