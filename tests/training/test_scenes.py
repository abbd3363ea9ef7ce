"""Where scenes begin and end."""

from __future__ import annotations

from concurrent.futures import CancelledError
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from threading import Event

import pytest

from longvid.training import scenes as finding
from longvid.training.scenes import Scene, scenes
from longvid.video import source
from longvid.video.decoding import decoded_from
from tests.training.footage import REAL, real_clip, with_cuts
from tests.video.clips import clip
from tests.video.corpus import damaged


def found(path: Path, *, cuts: bool = True) -> tuple[Scene, ...]:
    return scenes(source.probe(path), cuts=cuts)


@pytest.mark.parametrize("cuts", [(), (12, 30), (1, 20), (48,), (49,), (10, 40, 43)])
def test_cuts_wherever_they_are(tmp_path: Path, cuts: tuple[int, ...]) -> None:
    path = clip(tmp_path / "clip.mp4", frames=50, draw=with_cuts(*cuts))
    borders = (0, *cuts, 50)
    assert found(path) == tuple(pairwise(borders))
    assert found(path, cuts=False) == ((0, 50),)


def test_real_clips() -> None:
    assert [found(real_clip(name)) for name in REAL] == [
        ((0, 132),),
        ((0, 30), (30, 76), (76, 137), (137, 187), (187, 242), (242, 250)),
        ((0, 120),),
    ]


def test_a_scene_ends_where_frames_are_missing_and_not_where_one_is_only_shown_longer(tmp_path: Path) -> None:
    """At 25 frames a second, half a second is twelve of them."""
    times = [*range(10), *range(21, 30), *range(43, 50)]
    drawn = {"draw": with_cuts(), "frames": len(times), "times": times}
    whole = source.probe(clip(tmp_path / "clip.mkv", time_base=Fraction(1, 25), **drawn))
    assert (whole.fps, whole.frames) == (25, 50)
    assert scenes(whole, cuts=False) == ((0, 30), (43, 50))
    assert scenes(whole, cuts=True) == ((0, 30), (43, 50))


def test_damaged_clips_are_used_as_far_as_they_go(tmp_path: Path) -> None:
    """Of the lost packets' clip, frame 3 is said to be corrupt, and 4 and 5 are not there."""
    by_name = {name: found(path, cuts=False) for name, path in damaged(tmp_path)}
    assert by_name["packets lost"] == ((0, 3), (6, 50))
    assert by_name["broken at the end"] == ((0, 47),)
    assert by_name["cut mkv"] == ((0, 29),)


def test_times_that_damage_has_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = source.probe(clip(tmp_path / "clip.mp4", frames=24, draw=with_cuts(15)))
    frames = list(decoded_from(whole.path, whole.stream, whole.start, Fraction(0), interlaced=False))
    confused = [(Fraction(-1), frames[0][1]), *frames[:10], frames[4], *frames[10:]]
    monkeypatch.setattr(finding, "decoded_from", lambda *_, **__: iter(confused))
    assert scenes(whole, cuts=True) == ((0, 15), (15, 24))


def test_giving_up(tmp_path: Path) -> None:
    stop = Event()
    stop.set()
    with pytest.raises(CancelledError):
        scenes(source.probe(clip(tmp_path / "clip.mp4")), cuts=True, stop=stop)
