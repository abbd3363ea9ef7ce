import re
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longvid.times import TIME_SCHEMA, Time, clock, duration, length, parse_fps, parse_time, round_half_up


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (0, 0),
        (8, 8),
        (Decimal("0.1"), Fraction(1, 10)),
        (Decimal("1e3"), 1000),
        (Decimal("0e99999999"), 0),
        (0.1, Fraction(1, 10)),
        (Fraction(1, 3), Fraction(1, 3)),
        ("8", 8),
        ("8.25", Fraction(33, 4)),
        ("1:30", 90),
        ("0:08", 8),
        ("90:00", 5400),
        ("0:01:30.5", Fraction(181, 2)),
        ("1:02:03", 3723),
        ("1m30s", 90),
        ("2h", 7200),
        ("1h5s", 3605),
        ("90m", 5400),
        ("1.5s", Fraction(3, 2)),
        (86400, 86400),
    ],
)
def test_times_are_exact(written: object, seconds: Fraction) -> None:
    assert parse_time(written) == Time(Fraction(seconds))
    assert parse_time(written).seconds(Fraction(24)) == seconds


def test_frames_are_seconds_of_the_films_rate() -> None:
    assert parse_time("120f") == Time(Fraction(120), in_frames=True)
    assert parse_time("120f").seconds(Fraction(24)) == 5
    assert parse_time("1f").seconds(Fraction(30000, 1001)) == Fraction(1001, 30000)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (True, "true is not a time (seconds, 1m30s, 0:01:30.5 or 120f)"),
        (None, "nothing is not a time"),
        ([1], "[1] is not a time"),
        ({"a": 1}, "{'a': 1} is not a time"),
        ("soon", "'soon' is not a time; write seconds, 1m30s, 0:01:30.5 or 120f"),
        ("", "'' is not a time"),
        (".nan", "'.nan' is not a time"),
        (".inf", "'.inf' is not a time"),
        ("NaN", "'NaN' is not a time"),
        ("1e5", "'1e5' is not a time"),
        ("-5s", "'-5s' is not a time"),
        ("-0:05", "'-0:05' is not a time"),
        ("1.5m", "'1.5m' is not a time"),
        ("1.5f", "'1.5f' is not a time"),
        ("30s1m", "'30s1m' is not a time"),
        ("0:60", "'0:60' is not a time: minutes and seconds go to 59"),
        ("1:60:00", "'1:60:00' is not a time: minutes and seconds go to 59"),
        ("1:2:3:4", "'1:2:3:4' is not a time"),
        ("٣", "'٣' is not a time"),
        (-1, "-1 is negative"),
        (Decimal("-0.5"), "-0.5 is negative"),
        (float("nan"), "nan is not a time"),
        (float("inf"), "inf is not a time"),
        (Decimal("1e99"), "1e99 is too large"),
        (Decimal("1e99999999"), "1e99999999 is too large"),
        (Decimal("1e-99999999"), "1e-99999999 is too small"),
        (86401, "86401 is longer than a day (86400 s), the most a film can last"),
        ("24:00:01", "'24:00:01' is longer than a day"),
    ],
)
def test_what_is_no_time(written: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_time(written)


@pytest.mark.parametrize(
    ("written", "fps"),
    [
        (24, 24),
        (Decimal("29.97"), Fraction(2997, 100)),
        ("30000/1001", Fraction(30000, 1001)),
        (Decimal("12.0"), 12),
    ],
)
def test_rates_are_exact(written: object, fps: Fraction) -> None:
    assert parse_fps(written) == fps


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (0, "0 is out of range; 1 to 240 frames a second"),
        (241, "241 is out of range"),
        (-24, "-24 is negative"),
        ("24/0", "'24/0' is not a number of frames a second, such as 24 or 30000/1001"),
        ("fast", "'fast' is not a number of frames a second"),
        (True, "true is not a number of frames a second"),
        (Decimal("1e99"), "1e99 is too large"),
    ],
)
def test_what_is_no_rate(written: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_fps(written)


@given(st.fractions(min_value=0, max_value=10**6))
def test_round_half_up(value: Fraction) -> None:
    rounded = round_half_up(value)
    assert -Fraction(1, 2) < rounded - value <= Fraction(1, 2)


def test_halves_go_up() -> None:
    assert [round_half_up(Fraction(n, 2)) for n in range(6)] == [0, 1, 1, 2, 2, 3]


@given(st.text(alphabet="0123456789:.hmsf", max_size=12))
def test_the_schema_takes_what_the_parser_takes(text: str) -> None:
    pattern = TIME_SCHEMA["anyOf"][1]["pattern"]
    fits = re.fullmatch(pattern, text) is not None
    try:
        parse_time(text)
    except ValueError as error:
        # What the pattern cannot say: 59 is the most, and a day.
        assert not fits or "go to 59" in str(error) or "longer than a day" in str(error)
    else:
        assert fits


def test_times_for_people() -> None:
    times = [
        Fraction(0),
        Fraction(8),
        Fraction(181, 2),
        Fraction(3600),
        Fraction(4, 3),
        Fraction(119999, 2000),
    ]
    assert [clock(time) for time in times] == ["0:00", "0:08", "1:30.5", "1:00:00", "0:01.333", "1:00"]
    assert [length(time) for time in times] == ["0 s", "8 s", "90.5 s", "3600 s", "1.333 s", "60 s"]


def test_durations_are_to_the_second() -> None:
    assert [duration(seconds) for seconds in (-1, 0.4, 65, 3725.2)] == ["0:00", "0:00", "1:05", "1:02:05"]
