"""Datasets by name, and what is told to whoever wrote one."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from longvid import datasets
from longvid.datasets import Clip, DatasetSpec
from longvid.errors import UserError

SPEC = DatasetSpec((24, 16), Fraction(12), 5, 8, chunks=3)
ALL = "Installed: boats, diorama, slow, sunk, unsaid, wrecks"

pytestmark = pytest.mark.usefixtures("workplace")


def test_a_clip_is_whole_chunks() -> None:
    assert [SPEC.frames(chunks) for chunks in (1, 2, 3)] == [5, 13, 21]


def test_a_name_is_no_folder_and_not_written_as_one() -> None:
    Path("clips").mkdir()
    names = ("diorama", "boats", "clips", "./boats", "a/b", "a\\b", "~boats", "..")
    assert [name for name in names if datasets.is_name(name)] == ["diorama", "boats"]


def test_installed_datasets_are_found() -> None:
    assert datasets.registered() == ["boats", "diorama", "slow", "sunk", "unsaid", "wrecks"]
    boats = datasets.load("boats", replace(SPEC, clips=2))
    assert len(boats) == 2
    assert datasets.captions("boats", boats, 1) == (
        ("a red boat", "a blue boat", "a blue boat"),
        (True, False, True),
    )
    for index in range(2):
        datasets.check(boats.clip(index), SPEC, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("boat", f"no dataset 'boat'; did you mean boats? {ALL}"),
        ("xyz", f"no dataset 'xyz'; a folder is written with a slash, as ./xyz. {ALL}"),
    ],
)
def test_an_unknown_name(name: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        datasets.load(name, SPEC)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        (0, "unsaid: captions(0) is 'a boat'; give a text for each chunk"),
        (1, "unsaid: captions(0) is []; give a text for each chunk"),
        (2, "unsaid: begins(0) is of 2 chunks, captions of 1"),
        (3, "unsaid: the dataset has no clip"),
    ],
)
def test_captions_that_are_none(seed: int, message: str) -> None:
    with pytest.raises(UserError) as error:
        datasets.captions("unsaid", datasets.load("unsaid", replace(SPEC, seed=seed)), 0)
    assert str(error.value) == message


PIXELS = np.zeros((13, 16, 24, 3), np.uint8)
WEIGHTS = np.ones((13, 16, 24), np.uint8)


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (Clip(PIXELS[1:]), "its pixels are uint8 [12, 16, 24, 3]; give uint8 [13, 16, 24, 3]"),
        (Clip(PIXELS / 255), "its pixels are float64 [13, 16, 24, 3]; give uint8 [13, 16, 24, 3]"),
        (Clip([[0]]), "its pixels are list []; give uint8 [13, 16, 24, 3]"),
        (Clip(PIXELS, PIXELS), "its weights are uint8 [13, 16, 24, 3]; give uint8 [13, 16, 24]"),
        (
            Clip(PIXELS, WEIGHTS * (np.arange(13) < 5)[:, None, None].astype(np.uint8)),
            "no pixel of its chunk 1 counts; give one a weight above 0",
        ),
    ],
)
def test_a_clip_that_is_none(clip: Clip, message: str) -> None:
    datasets.check(Clip(PIXELS, WEIGHTS), SPEC, 2)
    with pytest.raises(ValueError) as error:
        datasets.check(clip, SPEC, 2)
    assert str(error.value) == message
