"""Folders of clips, looked through: what can be trained on, what cannot and why, and what is remembered."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from longvid import files
from longvid.errors import LockedError, RenderError, UserError
from longvid.locks import locked
from longvid.training import corpus as corpora
from longvid.training.captions import listing
from longvid.training.corpus import Example, examined
from tests.disk import Disk
from tests.training.footage import captioned, look_through, with_cuts
from tests.video.clips import clip, picture


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The clips whose every frame was decoded, from now on."""
    seen: list[Path] = []
    real: Callable[..., object] = corpora.scenes

    def scenes(source, **how):
        seen.append(source.path)
        return real(source, **how)

    monkeypatch.setattr(corpora, "scenes", scenes)
    return seen


def test_clips_of_any_size_and_rate_by_name(tmp_path: Path) -> None:
    data = tmp_path / "data"
    captioned(data / "b.mp4", "the sea", frames=20, draw=with_cuts(12))
    captioned(data / "a.mkv", "a boat", frames=50, fps=Fraction(25), size=(96, 64))
    captioned(data / "c" / "c.mov", "a storm", frames=30, fps=Fraction(30000, 1001), size=(32, 80))
    found = look_through(data, tmp_path / "cache")
    assert [(one.path.name, one.caption, one.source.size, one.scenes) for one in found.examples] == [
        ("a.mkv", "a boat", (96, 64), ((0, 50),)),
        ("b.mp4", "the sea", (64, 48), ((0, 12), (12, 20))),
        ("c.mov", "a storm", (32, 80), ((0, 30),)),
    ]
    assert [one.seconds for one in found.examples] == [2, Fraction(20, 12), Fraction(30 * 1001, 30000)]
    content = (data / "b.mp4").read_bytes()
    assert found.examples[1].sha256 == hashlib.sha256(content).hexdigest()
    assert found.problems == ()
    assert found.cut


def test_what_is_no_use_is_told_and_costs_only_itself(tmp_path: Path) -> None:
    data = tmp_path / "data"
    whole = captioned(data / "whole.mp4")
    captioned(data / "again.mp4")
    (data / "again.mp4").write_bytes(whole.read_bytes())
    captioned(data / "other.mp4", "another word for it")
    (data / "other.mp4").write_bytes(whole.read_bytes())
    picture(data / "still.png", "png")
    clip(data / "one.mp4", frames=1)
    clip(data / "mute.mp4")
    (data / "torn.mp4").write_bytes(whole.read_bytes()[:600])
    (data / "empty.mp4").touch()
    for name in ("still", "one", "torn", "empty"):
        (data / f"{name}.txt").write_text("a boat")
    found = look_through(data, tmp_path / "cache")
    assert [one.path.name for one in found.examples] == ["again.mp4", "other.mp4"]
    told = [str(problem).replace(f"{data}/", "") for problem in found.problems]
    assert [line.split(";")[0].split(": its")[0] for line in told] == [
        "mute.mp4: has no caption",
        "empty.mp4: is empty",
        "one.mp4: has one frame only",
        "still.png: is a picture",
        "torn.mp4: is a damaged MP4",
        "whole.mp4: is again.mp4 once more, under the same caption",
    ]


def test_a_damaged_part_ends_a_scene(tmp_path: Path) -> None:
    def noise(index: int) -> np.ndarray:
        return np.random.default_rng(index).integers(0, 255, (48, 64, 3), np.uint8)

    path = captioned(tmp_path / "a.ts", frames=60, draw=noise, options={"g": "10", "bf": "0"})
    stream = path.read_bytes()
    third = len(stream) // 188 // 3 * 188
    path.write_bytes(stream[:third] + stream[2 * third :])
    (example,) = look_through(tmp_path, tmp_path / "cache").examples
    assert len(example.scenes) > 1
    assert sum(end - begin for begin, end in example.scenes) < 50


def test_nothing_of_use(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").write_bytes(b"\0" * 1000)
        (tmp_path / f"{name}.txt").write_text("a boat")
    with pytest.raises(UserError, match=r"none of 2 clips with a caption can be used: .*a\.mp4: is no clip"):
        look_through(tmp_path, tmp_path / "cache")
    (tmp_path / "b.mp4").unlink()
    with pytest.raises(UserError, match=r"no clip with a caption can be used: .*a\.mp4: is no clip"):
        look_through(tmp_path, tmp_path / "cache")


def test_clips_are_looked_through_once_and_known_by_their_content(
    tmp_path: Path, looked_at: list[Path]
) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    for index, name in enumerate(("a.mp4", "b.mp4")):
        captioned(data / name, frames=24 + index)
    first = look_through(data, cache)
    assert sorted(path.name for path in looked_at) == ["a.mp4", "b.mp4"]
    assert look_through(data, cache) == first
    shutil.move(data / "a.mp4", data / "c.mp4")
    shutil.move(data / "a.txt", data / "c.txt")
    assert len(look_through(data, cache).examples) == 2
    assert len(looked_at) == 2
    captioned(data / "b.mp4", frames=30)
    assert look_through(data, cache).examples[0].scenes == ((0, 30),)
    assert [path.name for path in looked_at[2:]] == ["b.mp4"]


def test_without_pyscenedetect_a_clip_is_one_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    captioned(data / "a.mp4", draw=with_cuts(12))
    monkeypatch.setattr(corpora, "finds_cuts", lambda: False)
    found = look_through(data, cache)
    assert (found.examples[0].scenes, found.cut) == (((0, 24),), False)
    monkeypatch.undo()
    found = look_through(data, cache)
    assert (found.examples[0].scenes, found.cut) == (((0, 12), (12, 24)), True)


def test_giving_up_stops_the_threads_and_keeps_what_was_found(tmp_path: Path, looked_at: list[Path]) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    for index in range(12):
        captioned(data / f"{index:02}.mp4", frames=20 + index)
    events = examined(listing(data), cache, 1)
    assert isinstance(next(events), Example)
    events.close()
    stopped = len(looked_at)
    assert stopped < 12
    assert len(look_through(data, cache).examples) == 12
    assert looked_at.count(data / "00.mp4") == 1


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    captioned(data / "a.mp4")
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        patch.setattr(files, "open", disk._opened, raising=False)
        with pytest.raises(RenderError, match="cannot be written: "):
            disk.start(fails_at=disk_calls(disk, data, tmp_path / "other") - 2)
            look_through(data, cache)
    assert not list(cache.rglob(".*.part"))
    assert len(look_through(data, cache).examples) == 1


def disk_calls(disk: Disk, data: Path, cache: Path) -> int:
    """Of looking through the folder, with an empty cache."""
    look_through(data, cache)
    return len(disk.calls)


def test_a_cache_that_cannot_be_or_is_in_use(tmp_path: Path) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    captioned(data / "a.mp4")
    cache.touch()
    with pytest.raises(UserError, match="cache: cannot write there: "):
        look_through(data, cache)
    cache.unlink()
    cache.mkdir()
    with locked(cache, "encodes clips"), pytest.raises(LockedError, match="encodes clips there; wait for it"):
        look_through(data, cache)
