import json
from pathlib import Path

import numpy as np
import pytest

from longvid.evaluation import measuring
from longvid.evaluation.table import EVERY, JUDGED, METRICS, WITH_WEIGHTS
from tests.evaluation.pictures import levels, panning, texture, write
from tests.evaluation.test_provenance import FILM, rendered
from tests.planning import longvid

pytestmark = pytest.mark.usefixtures("workplace")


def without_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "finds_features", lambda: False)


def test_json_has_an_object_a_film_and_every_unit() -> None:
    rendered()
    write(Path("pan.mp4"), [*panning(30), *panning(30, picture=texture(seed=1))])
    ran = longvid("evaluate", "film.mp4", "pan.mp4", "--json", "-q")
    assert (ran.code, ran.err) == (0, "")
    values = json.loads(ran.out)
    own, pan = values["films"]
    assert [film["film"] for film in values["films"]] == ["film.mp4", "pan.mp4"]
    for key in ("scenes", "flicker", "motion", "drift", "seam_ratio"):
        assert own[key] is not None, key
    assert (pan["scenes"], pan["cuts_seconds"], pan["seam_ratio"]) == (2, [2.5], None)
    assert pan["motion"] == pytest.approx(2 * 12 / 64, rel=0.1)
    assert [shot["start_seconds"] for shot in own["shots"]] == [0, 2, 3.75]
    assert len(own["curves"]["consistency"]) == 2
    assert values["fd_effnet"] is None
    assert set(values["units"]) == {metric.key for metric in EVERY}
    for metric in METRICS:
        assert metric.of(own) is None or np.isfinite(metric.of(own))


def test_a_table_names_each_metric_with_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    without_features(monkeypatch)
    monkeypatch.setenv("COLUMNS", "160")
    for name in ("a", "b"):
        write(Path(f"{name}.mp4"), levels(60))
    ran = longvid("evaluate", "a.mp4", "b.mp4", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    rows = {line[:31].strip(): line for line in ran.out.splitlines()}
    assert "a.mp4" in rows["metric"] and "95 % band" in rows["metric"]
    for metric in METRICS:
        if not metric.key.startswith("drift_per_minute"):
            assert metric.unit in rows[metric.name], metric
    assert not any(metric.name in ran.out for metric in (*JUDGED, *WITH_WEIGHTS))
    assert rows["scenes"].split() == ["scenes", "count", "1", "1", "1", "1.0"]
    lines = ran.out.splitlines()
    assert lines[lines.index(rows["scenes"]) + 1].split() == ["1.0", "to", "1.0"], "the band stands below"
    assert rows["seam ratio"].split() == ["seam", "ratio", "ratio", "1", "-", "-", "-"]
    assert "a.mp4: neither its shots nor its chunks are known; it is taken as one shot" in ran.out


def test_what_is_not_installed_is_left_out_and_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    without_features(monkeypatch)
    monkeypatch.setattr(measuring, "finds_cuts", lambda: False)
    monkeypatch.setattr(measuring, "finds_flow", lambda: False)
    write(Path("film.mp4"), levels(60))
    ran = longvid("evaluate", "film.mp4", "--json")
    said = (
        "left out: scenes, motion, features, and what they tell; pip install 'longvid[metrics]' brings them"
    )
    assert [line for line in ran.err.splitlines() if "left out" in line] == [f"warning: {said}"]
    film = json.loads(ran.out)["films"][0]
    assert (film["scenes"], film["motion"], film["consistency"]) == (None, None, None)
    assert film["flicker"] is not None and film["drift"]["luma"] is not None


def test_a_report_is_curves_and_values(monkeypatch: pytest.MonkeyPatch) -> None:
    without_features(monkeypatch)
    write(Path("film.mp4"), levels(60))
    ran = longvid("evaluate", "film.mp4", "--report", "out/report", "--json", "-q")
    assert ran.code == 0, ran.err
    assert sorted(path.name for path in Path("out/report").iterdir()) == ["curves.png", "values.json"]
    assert json.loads(Path("out/report/values.json").read_text()) == json.loads(ran.out)


def test_a_distance_is_told_with_its_n() -> None:
    Path("clips").mkdir()
    for name in ("clips/a.mp4", "film.mp4"):
        write(Path(name), panning(48))
    ran = longvid("evaluate", "film.mp4", "--against", "clips", "--json", "-q")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)["fd_effnet"]
    assert (found["n"], found["dimensions"]) == (2, 1)
    assert found["value"] == pytest.approx(0, abs=1e-3)
    ran = longvid("evaluate", "film.mp4", "--against", "clips", "-q")
    assert "n = 2 clips of either, 1 dimensions" in ran.out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("none.mp4",), "none.mp4: there is no such file"),
        (("film.yaml",), "film.yaml: is text, no clip or picture"),
        (("short.mp4",), "short.mp4: lasts 1 s; films are measured in clips of 2 s, so give a longer one"),
        (("picture.png",), "picture.png: is a picture; films are measured"),
        (("film.mp4", "--timeline", "none.yaml"), "none.yaml: "),
        (
            ("film.mp4", "--timeline", "film.yaml"),
            "film.yaml: lasts 0:05, and film.mp4 0:02: give --timeline",
        ),
        (("film.mp4", "--against", "none"), "--against none: there is no such folder"),
        (("film.mp4", "--report", "film.yaml"), "--report film.yaml: is a file; name a folder"),
        (("film.mp4", "--device", "tpu"), "--device tpu: unknown"),
        (("film.mp4", "--vbench-python", "none"), "--vbench-python none: cannot be run"),
    ],
)
def test_mistakes_are_one_line(args: tuple[str, ...], said: str) -> None:
    Path("film.yaml").write_text(json.dumps(FILM))
    write(Path("film.mp4"), levels(24))
    write(Path("short.mp4"), levels(12))
    from tests.video.clips import picture

    picture(Path("picture.png"), "png")
    ran = longvid("evaluate", *args, "--json", "-q")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"error: {said}"), ran.err
    assert ran.err.count("\n") == 1
