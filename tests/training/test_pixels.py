"""Passages as pixels: the right frames at the model's size, ahead of who uses them."""

from __future__ import annotations

import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from longvid.datasets import Clip
from longvid.training import pixels
from longvid.training.captions import Problem
from longvid.training.material import Format
from longvid.training.passages import Selection, select
from longvid.video import source
from tests.tiny import TinyBackend
from tests.training.footage import captioned, look_through
from tests.video.clips import pixels as drawn
from tests.video.clips import which

TINY = Format(TinyBackend().geometry, (24, 16), Fraction(12), chunks=3)


def chosen(folder: Path, format: Format = TINY) -> Selection:
    return select(look_through(folder / "data", folder / "cache"), format)


def shown(selection: Selection, workers: int):
    return selection.shown(range(len(selection.passages)), workers)


def test_the_frames_that_are_shown_at_the_models_times(tmp_path: Path) -> None:
    """At 30 frames a second, seen at 12; each tells its number."""
    captioned(tmp_path / "data" / "a.mp4", frames=20, fps=Fraction(30), draw=drawn)
    selection = chosen(tmp_path, Format(TinyBackend().geometry, (64, 48), Fraction(12), chunks=3))
    (clip,) = shown(selection, 1)
    assert isinstance(clip, Clip) and clip.weights is None
    assert clip.pixels.shape == (8, 48, 64, 3)
    assert list(map(which, clip.pixels)) == [0, 2, 5, 7, 10, 12, 15, 17]


def test_the_picture_is_covered_and_its_middle_cut_out(tmp_path: Path) -> None:
    """Bands of 16 pixels side by side: of 96x16 the middle 24 are seen."""

    def bands(index: int) -> np.ndarray:
        return np.tile(np.repeat([20, 60, 120, 200, 90, 30], 16)[None, :, None], (16, 1, 3)).astype(np.uint8)

    captioned(tmp_path / "data" / "a.mp4", frames=8, size=(96, 16), draw=bands)
    selection = chosen(tmp_path)
    (clip,) = shown(selection, 1)
    assert isinstance(clip, Clip)
    assert np.abs(clip.pixels[:, :, 2:10].astype(int) - 120).max() <= 6
    assert np.abs(clip.pixels[:, :, 14:22].astype(int) - 200).max() <= 6


def test_all_passages_in_order_whatever_the_number_of_threads(tmp_path: Path) -> None:
    for index in range(3):
        captioned(tmp_path / "data" / f"{index}.mp4", frames=39 + index)
    selection = chosen(tmp_path)
    alone = list(shown(selection, 1))
    assert len(alone) == 6
    for workers in (2, 8):
        again = list(shown(selection, workers))
        assert all(np.array_equal(one.pixels, other.pixels) for one, other in zip(alone, again, strict=True))


def test_a_clip_that_is_gone_or_broken_by_now_is_told(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        captioned(tmp_path / "data" / f"{name}.mp4", name)
    selection = chosen(tmp_path)
    (tmp_path / "data" / "a.mp4").unlink()
    (tmp_path / "data" / "b.mp4").write_bytes(b"no clip")
    first, second, third = shown(selection, 2)
    assert isinstance(first, Problem) and first.reason.startswith("there is no such file")
    assert isinstance(second, Problem) and second.reason.startswith("is text, no clip")
    assert isinstance(third, Clip)


def test_no_more_is_decoded_than_the_threads_are_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioned(tmp_path / "data" / "a.mp4", frames=240)
    selection = chosen(tmp_path)
    assert len(selection.passages) == 19
    begun: list[int] = []
    real = source.at

    def at(clip, numbers):
        begun.append(threading.get_ident())
        return real(clip, numbers)

    monkeypatch.setattr(pixels.source, "at", at)
    ahead = shown(selection, 2)
    next(ahead)
    time.sleep(0.3)
    assert len(begun) == 3
    ahead.close()
    assert len(begun) == 3
    assert not any(thread.name.startswith("clip") for thread in threading.enumerate())
