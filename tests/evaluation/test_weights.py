from pathlib import Path

import pytest

from longvid.evaluation.weights import CLIP, VIDEOMAE, Metrics
from tests.hub import running
from tests.planning import longvid


def test_they_are_pulled_and_checked_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    metrics = Metrics()
    assert metrics.folder == tmp_path / "longvid" / "models" / "metrics"
    assert len(metrics.missing_files()) == 6
    assert (metrics.part(CLIP), metrics.part(VIDEOMAE)) == (None, None)
    ran = longvid("models", "check", "metrics")
    assert ran.code == 2 and "missing file" in ran.out
    with running(monkeypatch) as hub:
        for download in metrics.downloads:
            for file in download.files:
                hub.files[download.repo, download.revision, file] = file.encode() * 40
        ran = longvid("models", "pull", "metrics")
    assert ran.code == 0, ran.err
    assert "clip: openai/clip-vit-large-patch14 at " in ran.out
    assert "licence: CC BY-NC 4.0: not for commercial use" in ran.out
    assert metrics.missing_files() == metrics.check_weights() == []
    assert metrics.part(CLIP) == metrics.folder / "clip"
    assert longvid("models", "check", "metrics").code == 0


def test_every_part_is_pinned_to_a_commit() -> None:
    for download in Metrics().downloads:
        assert len(download.revision) == 40 and int(download.revision, 16)
