"""A film's shots, from whatever its file tells."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest

from longvid.editing import film
from longvid.editing.film import Shot
from longvid.editing.sheets import _png
from longvid.errors import UserError
from longvid.video.writer import Chapter
from tests.editing.films import SHOTS, write_film

CHAPTERS = (Chapter("one", 0, 30), Chapter("two", 30, 72))


def test_shots_are_what_longvid_wrote(tmp_path):
    read = film.read(write_film(tmp_path / "film.mp4"))
    assert read.shots == (
        Shot("Hills", "green hills at dawn", 0, 24, False),
        Shot("", "the sea", 24, 48, True),
        Shot("Night", "a <b>city</b> at night", 48, 72, False),
    )
    assert [(c.title, c.start_frame, c.end_frame) for c in read.chapters] == [
        ("Hills", 0, 24),
        ("the sea", 24, 48),
        ("Night", 48, 72),
    ]
    assert (read.title, read.seconds(30), read.shot_at(47).name) == ("A day", Fraction(5, 2), "the sea")


def test_else_chapters_else_one(tmp_path):
    read = film.read(write_film(tmp_path / "film.mp4", shots=()))
    assert read.shots == (Shot("", "", 0, 72, False),)
    assert film.shots("", CHAPTERS, 72) == (Shot("one", "", 0, 30, False), Shot("two", "", 30, 72, False))


@pytest.mark.parametrize(
    "told",
    ["{", "[]", "[1]", "7", "null", '"x"', '[{"prompt": "a"}]', "[" * 100_000]
    + [json.dumps([{**SHOTS[0], "start_frame": wrong}]) for wrong in ("x", None, 3, -1, [1])]
    + [json.dumps([SHOTS[1], SHOTS[0]]), json.dumps([SHOTS[0], SHOTS[0]])],
)
def test_metadata_that_are_not_longvids_say_nothing(told):
    assert sum(shot.end_frame - shot.start_frame for shot in film.shots(told, (), 72)) == 72
    assert len(film.shots(told, (), 72)) == 1


def test_shots_end_with_the_film(tmp_path):
    """A film that was cut shorter, or goes on."""
    told = json.dumps(SHOTS)
    assert [shot.end_frame for shot in film.shots(told, (), 30)] == [24, 30]
    assert [shot.end_frame for shot in film.shots(told, (), 100)] == [24, 48, 100]


def test_a_picture_is_no_film(tmp_path):
    from PIL import Image

    path = tmp_path / "a.png"
    path.write_bytes(_png(Image.fromarray(np.zeros((32, 32, 3), np.uint8))))
    with pytest.raises(UserError, match=r"a\.png: is a picture; `longvid finish` takes a film"):
        film.read(path)
