import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from longvid import measurements
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


MEASURED: dict[str, Any] = {"seconds_per_call": [[4, 0.5], [20, 1.5]], "decode_seconds_per_frame": 0.25}


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
    assert measurements.estimate_seconds(one_chunk()) is None


def test_nothing_is_measured_at_first() -> None:
    assert measurements.read() == {}
    assert measurements.estimate_seconds(one_chunk()) is None


def test_an_estimate() -> None:
    measurements.write("planned", (96, 64), MEASURED)
    assert measurements.estimate_seconds(one_chunk()) == 32 * 0.5 + 16 * 0.25
    assert measurements.estimate_seconds(replace(one_chunk(), size=(192, 128))) is None
    assert measurements.estimate_seconds(replace(one_chunk(), model="other")) is None


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


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        json.dumps({"planned": 1}),
        json.dumps({"planned": {"96x64": {"seconds_per_call": [], "decode_seconds_per_frame": 1}}}),
        json.dumps({"planned": {"96x64": {"seconds_per_call": [4], "decode_seconds_per_frame": 1}}}),
        '{"planned": {"96x64": {"seconds_per_call": [[1e999, 1]], "decode_seconds_per_frame": 1}}}',
        '{"planned": {"96x64": {"seconds_per_call": [[0, 1]], "decode_seconds_per_frame": 1}}}',
        '{"planned": {"96x64": {"seconds_per_call": [[4, NaN]], "decode_seconds_per_frame": 1}}}',
    ],
)
def test_what_cannot_be_read_is_not_measured(text: str) -> None:
    measurements.path().parent.mkdir()
    measurements.path().write_text(text)
    assert measurements.estimate_seconds(one_chunk()) is None


def test_between_and_beyond_the_measured_windows() -> None:
    points = [(4, 0.5), (20, 1.5)]
    at = [2, 4, 8, 20, 40]
    assert [measurements.seconds_per_call(points, latents) for latents in at] == [0.25, 0.5, 0.75, 1.5, 3.0]
