"""Pixels on disk for codecs: of folders and of datasets, by the frame, without a network."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from longvid.datasets import Clip
from longvid.errors import RenderError, UserError
from longvid.training.cache import Encoded
from longvid.training.dataset import select as select_dataset
from longvid.training.footage import collect, kept, load
from longvid.training.material import Format, Material, describe
from longvid.training.passages import select
from tests.tiny import TinyBackend
from tests.training.footage import captioned, look_through, with_cuts

TINY = Format(TinyBackend().geometry, (24, 16), Fraction(12), chunks=3, stride=Fraction(1))


def folder(place: Path, held_out: Fraction = Fraction(0)) -> Material:
    """A clip of 24 frames under two captions, and two scenes of 8 and 16 frames."""
    captioned(place / "data" / "a.mp4", "a red boat", frames=24)
    shutil.copy(place / "data" / "a.mp4", place / "data" / "b.mp4")
    (place / "data" / "b.txt").write_text("a boat")
    captioned(place / "data" / "c.mp4", "the sea", frames=24, draw=with_cuts(8))
    return select(look_through(place / "data", place / "scans"), TINY, held_out)


def test_frames_of_a_folders_clips_each_once(tmp_path: Path) -> None:
    material, cache = folder(tmp_path), tmp_path / "cache"
    assert describe(material, TinyBackend(), "pixels")[3] == "about 1 MB of pixels to cache"
    assert list(kept(material, cache, 2)) == [Encoded("passage", done, 3, 0) for done in range(4)]
    assert list(kept(material, cache, 2)) == [Encoded("passage", 3, 3, 3)]
    prepared = collect(material, cache)
    footage = prepared.training
    assert footage.frames == (24, 8, 16) and prepared.held_out.frames == () and prepared.problems == ()
    first, _, *others = material.shown(range(4), 1)
    for index, clip in enumerate([first, *others]):
        assert isinstance(clip, Clip)
        shown = footage.excerpt(index, 3, 5)
        assert shown.pixels.dtype == torch.uint8 and shown.weights is None
        assert torch.equal(shown.pixels, torch.from_numpy(clip.pixels[3:8]))
    prepared.save(tmp_path / "data.json")
    assert load(tmp_path / "data.json") == prepared
    footage.clips[0].unlink()
    with pytest.raises(
        RenderError, match=r"\.safetensors: cannot be read; the same command encodes it again"
    ):
        footage.excerpt(0, 0, 1)
    assert next(iter(kept(material, cache, 1))) == Encoded("passage", 2, 3, 2)


def test_what_is_held_out_is_apart(tmp_path: Path) -> None:
    material, cache = folder(tmp_path, Fraction(1, 20)), tmp_path / "cache"
    list(kept(material, cache, 1))
    prepared = collect(material, cache)
    assert prepared.held_out.frames and not set(prepared.training.clips) & set(prepared.held_out.clips)


def test_a_datasets_clips_have_weights(workplace: Path) -> None:
    material, cache = select_dataset("boats", TINY, clips=2, held_out=Fraction(0)), workplace / "cache"
    list(kept(material, cache, 1))
    footage = collect(material, cache).training
    (clip,) = material.shown([1], 1)
    shown = footage.excerpt(1, 7, 2)
    assert isinstance(clip, Clip) and clip.weights is not None and shown.weights is not None
    assert torch.equal(shown.pixels, torch.from_numpy(clip.pixels[7:9]))
    assert torch.equal(shown.weights, torch.from_numpy(clip.weights[7:9]).float())
    assert shown.weights.dtype == torch.float32 and shown.weights.sum() == 2 * (24 * 16 + 2 * 4)


def test_wrong_clips_are_told_and_left_out(workplace: Path) -> None:
    material, cache = select_dataset("wrecks", TINY, held_out=Fraction(0)), workplace / "cache"
    told = [event.problem for event in kept(material, cache, 2) if event.problem]
    assert [str(problem.path) for problem in told] == [f"wrecks, clip {index}" for index in range(1, 6)]
    prepared = collect(material, cache)
    assert prepared.training.frames == (24,)
    assert [str(problem) for problem in prepared.problems] == [
        f"wrecks, clip {index}: cannot be encoded" for index in range(1, 6)
    ]
    for file in (cache / "pixels").iterdir():
        file.unlink()
    with pytest.raises(UserError, match="wrecks: nothing of it could be encoded: wrecks, clip 0: cannot be"):
        collect(material, cache)
