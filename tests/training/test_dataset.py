"""A dataset's clips: which are trained on, how other processes make them, and what goes wrong there."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from longvid import datasets
from longvid.datasets import Clip
from longvid.errors import RenderError, UserError
from longvid.training.captions import Problem
from longvid.training.dataset import DatasetSelection, select
from longvid.training.material import Format, describe
from tests.installed import command, environment
from tests.tiny import TinyBackend

TINY = Format(TinyBackend().geometry, (24, 16), Fraction(12), chunks=3)

pytestmark = pytest.mark.usefixtures("workplace")


def held_out(selection: DatasetSelection) -> list[int]:
    return [index for index, item in enumerate(selection.items) if item.held_out]


def test_what_is_chosen() -> None:
    selection = select("boats", TINY, held_out=Fraction(0))
    assert (selection.name, selection.clips, selection.seconds) == ("boats", 6, 12)
    assert selection.items[1].captions == ("a red boat", "a blue boat", "a blue boat")
    assert selection.items[1].begins == (True, False, True)
    assert selection.items[1].name == "boats, clip 1"
    assert describe(selection, TinyBackend()) == [
        "dataset boats: 6 clips, 12 s in all, 2 s each, with 2 captions",
        "6 passages of 3 chunks at 24x16 and 12 frames a second: 6 to train on, 0 held out",
        "about 1 MB of latents to cache",
        "nothing is held out: it may be learnt by heart, and no loss tells",
    ]


def test_what_is_held_out_stays_so_when_more_clips_are_asked_for() -> None:
    few = held_out(select("boats", TINY, clips=20, held_out=Fraction(1, 4)))
    more = held_out(select("boats", TINY, clips=40, held_out=Fraction(1, 4)))
    assert 1 <= len(few) <= 10
    assert [index for index in more if index < 20] == few
    assert held_out(select("boats", TINY, clips=20, seed=1, held_out=Fraction(1, 4))) != few
    assert len(held_out(select("boats", TINY, clips=2))) == 1


def test_clips_are_the_datasets_own_in_order_whatever_the_number_of_processes() -> None:
    selection = select("boats", TINY, seed=5)
    own = datasets.load("boats", selection.spec)
    for workers in (1, 2):
        made = list(selection.shown([4, 0, 1], workers))
        for index, clip in zip([4, 0, 1], made, strict=True):
            expected = own.clip(index)
            assert isinstance(clip, Clip) and clip.weights is not None and expected.weights is not None
            assert np.array_equal(clip.pixels, expected.pixels)
            assert np.array_equal(clip.weights, expected.weights)
    assert not multiprocessing.active_children()


def test_a_clip_that_is_wrong_is_told_and_costs_no_other() -> None:
    selection = select("wrecks", TINY)
    first, *wrong = selection.shown(range(6), 2)
    assert isinstance(first, Clip)
    assert [str(problem) for problem in wrong if isinstance(problem, Problem)] == [
        "wrecks, clip 1: cannot be made: RuntimeError: no boat here",
        "wrecks, clip 2: cannot be made: ValueError: its pixels are uint8 [23, 16, 24, 3]; "
        "give uint8 [24, 16, 24, 3]",
        "wrecks, clip 3: cannot be made: ValueError: its pixels are float32 [24, 16, 24, 3]; "
        "give uint8 [24, 16, 24, 3]",
        "wrecks, clip 4: cannot be made: ValueError: its weights are uint8 [24, 16, 1]; "
        "give uint8 [24, 16, 24]",
        "wrecks, clip 5: cannot be made: ValueError: no pixel of its chunk 0 counts; "
        "give one a weight above 0",
    ]


def test_a_process_that_ends_is_told() -> None:
    with pytest.raises(RenderError) as error:
        list(select("sunk", TINY).shown(range(3), 1))
    assert str(error.value) == (
        "sunk: a process that makes its clips ended; with fewer --workers they need less memory"
    )


def test_a_name_or_a_size_that_is_none() -> None:
    with pytest.raises(UserError, match="no dataset 'boots'; did you mean boats"):
        select("boots", TINY)
    with pytest.raises(UserError, match="boats: no boat fits into 1 pixels"):
        select("boats", replace(TINY, size=(1, 16)))


def test_a_kill_takes_its_processes_with_it(workplace: Path, tmp_path: Path) -> None:
    """One sleeps while it makes a clip, and is gone when the one that waits for it is killed."""
    script = workplace / "waits.py"
    script.write_text(
        "from longvid.backends.diorama import GEOMETRY\n"
        "from longvid.training.dataset import select\n"
        "from longvid.training.material import Format\n"
        "if __name__ == '__main__':\n"
        "    format = Format(GEOMETRY, (192, 128), GEOMETRY.fps, 5)\n"
        "    for clip in select('slow', format).shown(range(2), 1):\n"
        "        pass\n"
    )
    plugins = environment(tmp_path / "plugins")
    waits = subprocess.Popen([command()[0], script], env=plugins)
    told = workplace / "process"
    while not (told.exists() and told.read_text()):
        assert waits.poll() is None
        time.sleep(0.02)
    process = int(told.read_text())
    waits.kill()
    waits.wait()
    for _ in range(200):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise AssertionError("a process goes on")
