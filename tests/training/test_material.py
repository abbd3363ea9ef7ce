"""What a person is told of any material, what is held out of it, and how clips are made ahead."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest

from longvid.training.captions import Problem
from longvid.training.material import Format, Item, ahead, describe, lowest
from tests.tiny import TinyBackend

TINY = Format(TinyBackend().geometry, (24, 16), Fraction(12), chunks=3)


@dataclass(frozen=True)
class Told:
    """A material without a clip."""

    items: tuple[Item, ...]
    problems: tuple[Problem, ...] = ()
    name: str = "told"
    format: Format = TINY
    clips: int = 9
    seconds: Fraction = Fraction(60)

    def summary(self) -> list[str]:
        return ["nine clips"]

    def warnings(self) -> list[str]:
        return ["one is dark"]

    def shown(self, items, workers):
        raise AssertionError("nothing is to be made")


def item(*captions: str, held_out: bool = False) -> Item:
    return Item("a clip", {}, captions, (True,) * len(captions), held_out)


def test_what_a_person_is_told() -> None:
    words = [f"zz{number}" for number in range(12)]
    items = (item("a boat", " ".join(words)), item("zz3 zz4 a boat", held_out=True), item("a zznew boat"))
    material = Told(items, (Problem(Path("b"), "is damaged"),))
    around = (
        "nine clips",
        "3 passages of 1 to 2 chunks at 24x16 and 12 frames a second: 2 to train on, 1 held out",
        ["one is dark", "left out, 1:", "  b: is damaged"],
    )
    assert describe(material, TinyBackend()) == [
        *around[:2],
        "about 1 MB of latents to cache",
        f"tiny does not know, and will not hear: {', '.join(words[:10])} and 3 more",
        *around[2],
    ]
    assert describe(material, TinyBackend(), "pixels") == [
        *around[:2],
        "about 1 MB of pixels to cache",
        *around[2],
    ]


def test_sizes_on_disk() -> None:
    """Four chunks of 2 latents of 3 x 4 x 6 half floats, and of 8 frames of 24 x 16."""
    assert TINY.latent_bytes(4) == 4 * 2 * 3 * 4 * 6 * 2
    assert TINY.pixel_bytes(4) == 4 * 8 * 24 * 16 * 3


@pytest.mark.parametrize(
    ("names", "share", "chosen"),
    [
        ("1c", "1/2", "1"),
        ("123c", "1/2", "123"),
        ("123", "1/2", "12"),
        ("cd", "1/2", "c"),
        ("c", "1/2", ""),
        ("1c", "0", ""),
    ],
)
def test_a_share_of_all_names(names: str, share: str, chosen: str) -> None:
    spread = {digit * 64 for digit in names}
    assert lowest(spread, Fraction(share)) == {digit * 64 for digit in chosen}


def test_so_many_jobs_are_begun_before_one_is_waited_for() -> None:
    begun: list[int] = []

    def begin(pool: ThreadPoolExecutor, number: int) -> Future[int]:
        begun.append(number)
        return pool.submit(lambda: number * number)

    with ThreadPoolExecutor(1) as pool:
        results = ahead((partial(begin, pool, number) for number in range(5)), 2)
        assert begun == [] and next(results) == 0
        assert begun == [0, 1, 2]
        assert list(results) == [1, 4, 9, 16] and begun == [0, 1, 2, 3, 4]
