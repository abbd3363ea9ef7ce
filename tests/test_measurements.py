import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from longvid import measurements
from longvid.measurements import Estimate
from longvid.plan import RenderPlan, plan
from longvid.timeline import build
from tests.planning import PlanBackend


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def one_chunk() -> RenderPlan:
    """A film of one chunk: 16 evaluations of 4 latents, 32 calls, 16 frames decoded and 10 written."""
    return plan(build({"shots": [{"prompt": "a", "seconds": "10f"}]}), PlanBackend())


MEASURED: dict[str, Any] = {
    "seconds_per_call": [[4, 0.5], [20, 1.5]],
    "decode_seconds_per_frame": 0.25,
    "peak_bytes": 500_000_000,
    "device": "a CPU",
    "dtype": "bfloat16",
    "machine": platform.node(),
    "date": "2026-11-22",
}


def test_where_they_are_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measurements.path() == cache / "longvid" / "bench.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert measurements.path() == Path("/home/someone/.cache/longvid/bench.json")


def test_without_a_home_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert measurements.read() == {}
    assert measurements.estimate(one_chunk()) is None


def test_nothing_is_measured_at_first() -> None:
    assert measurements.read() == {}
    assert measurements.estimate(one_chunk()) is None


def test_an_estimate() -> None:
    measurements.write("planned", (96, 64), MEASURED)
    estimate = measurements.estimate(one_chunk())
    assert estimate == Estimate(32 * 0.5 + 16 * 0.25, 500_000_000, "a CPU", "bfloat16", "2026-11-22")
    assert estimate.source() == "a CPU, bfloat16, measured 2026-11-22"
    assert measurements.estimate(replace(one_chunk(), size=(192, 128))) is None
    assert measurements.estimate(replace(one_chunk(), model="other")) is None


def test_a_measurement_replaces_its_own_kind_only() -> None:
    measurements.write("planned", (96, 64), MEASURED)
    measurements.write("planned", (192, 128), MEASURED)
    measurements.write("other", (96, 64), MEASURED)
    measurements.write("planned", (96, 64), {"torch": "3"})
    assert measurements.read() == {
        "planned": {"96x64": {"torch": "3"}, "192x128": MEASURED},
        "other": {"96x64": MEASURED},
    }
    assert [path.name for path in measurements.path().parent.iterdir()] == ["bench.json"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"planned": 1}', '{"planned": {"96x64": []}}'])
def test_what_is_no_measurement_is_not_measured(text: str) -> None:
    measurements.path().parent.mkdir()
    measurements.path().write_text(text)
    assert measurements.estimate(one_chunk()) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"seconds_per_call": []},
        {"seconds_per_call": [4]},
        {"seconds_per_call": [[float("inf"), 1]]},
        {"seconds_per_call": [[0, 1]]},
        {"seconds_per_call": [[4, float("nan")]]},
        {"decode_seconds_per_frame": None},
        {"peak_bytes": None},
        {"machine": "another"},
    ],
    ids=str,
)
def test_a_measurement_that_is_wrong_or_of_another_machine_does_not_count(wrong: dict[str, Any]) -> None:
    measurements.write("planned", (96, 64), MEASURED | wrong)
    assert measurements.estimate(one_chunk()) is None


def test_a_measurement_that_lacks_a_value_does_not_count() -> None:
    for name in MEASURED:
        rest = {key: value for key, value in MEASURED.items() if key != name}
        measurements.write("planned", (96, 64), rest)
        assert measurements.estimate(one_chunk()) is None


def test_between_and_beyond_the_measured_windows() -> None:
    points = [(4, 0.5), (20, 1.5)]
    at = [2, 4, 8, 20, 40]
    assert [measurements.seconds_per_call(points, latents) for latents in at] == [0.25, 0.5, 0.75, 1.5, 3.0]
