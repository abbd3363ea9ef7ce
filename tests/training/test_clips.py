"""Clips on disk: each is its own draw, however many processes share the work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from longvid.backends.diorama import world
from longvid.training import clips
from longvid.training.clips import Clips, render_clips

SEED, COUNT, CHUNKS = 3, 5, 3


def test_a_clip_is_the_draw_of_its_seed_and_index(tmp_path: Path) -> None:
    rendered = render_clips(tmp_path, COUNT, SEED, processes=1, chunks=CHUNKS)
    assert rendered.frames.shape == (COUNT, 48, 64, 96, 3)
    for i in range(COUNT):
        drawn = world.draw_clip(np.random.default_rng((SEED, i)), CHUNKS, clips.SWITCH_SHARE)
        assert np.array_equal(rendered.frames[i], drawn.frames)
        assert np.array_equal(rendered.box[i], drawn.box)
        assert np.array_equal(rendered.spec_index[i], drawn.spec_index)
        assert np.array_equal(rendered.settled[i], drawn.settled)
        assert rendered.specs[i] == list(drawn.specs)


def test_processes_only_share_the_work(tmp_path: Path) -> None:
    for processes in (1, 2):
        render_clips(tmp_path / str(processes), COUNT, SEED, processes, CHUNKS)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} for folder in "12")
    assert sorted(one) == ["box.npy", "frames.npy", "settled.npy", "spec_index.npy", "specs.json"]
    assert one == two


@pytest.mark.parametrize(("count", "held_out"), [(1, 1), (20, 1), (29, 1), (30, 2), (3200, 160)])
def test_the_last_twentieth_is_held_out(count: int, held_out: int) -> None:
    none = np.zeros(0)
    parts = Clips(none, none, none, none, [[]] * count)
    assert parts.held_out == range(count - held_out, count)
    assert parts.training == range(count - held_out)
