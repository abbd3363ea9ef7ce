"""Cards and rolls, frame by frame."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from longvid.editing import Edit, credits
from longvid.errors import UserError

FPS = Fraction(12)
SIZE = (160, 96)


def reel(text, size=SIZE, fps=FPS):
    return credits.reel(Edit(credits=text), size, fps)


def test_what_fits_is_a_card_that_comes_and_goes():
    card = reel("by hand")
    assert card.frames == round((3 + Fraction(7, 14)) * 12)
    light = [int(card.draw(i).max()) for i in range(card.frames)]
    assert light[:10] == sorted(light[:10])
    assert light[10] > 240
    assert light == light[::-1]
    rows, columns = np.nonzero(card.draw(20).any(-1))
    assert abs(rows.min() + rows.max() + 1 - 96) <= 8
    assert abs(columns.min() + columns.max() + 1 - 160) <= 3


def test_roles_are_quieter_than_names():
    lines = credits.set_lines(Edit(credits="Pictures\ndiorama\n\nThe end\n\n"), (1280, 720))
    assert [(line.text, line.brightness) for line in lines] == [
        ("Pictures", credits.QUIET),
        ("diorama", 1),
        ("", 1),
        ("The end", 1),
    ]
    assert lines[0].size_px < lines[1].size_px


def test_more_than_fits_rolls_through_evenly():
    roll = reel("\n".join(f"Name {n}" for n in range(40)))
    step = round(96 / (6 * 12) + 0.001)
    assert not roll.draw(0).any()
    assert not roll.draw(roll.frames).any()
    assert all(roll.draw(i).any() for i in range(20, roll.frames - 10, 7))
    one, next_ = roll.draw(200), roll.draw(201)
    assert (one[step:] == next_[:-step]).all(), "every frame is the one before, moved up by whole pixels"


def test_twenty_thousand_letters_are_drawn_as_they_come():
    """No page of all of them is ever held."""
    roll = reel("\n".join("m" for _ in range(10_000)), size=(640, 360), fps=Fraction(24))
    middle = roll.draw(roll.frames // 2)
    assert middle.any()
    assert middle.shape == (360, 640, 3)


def test_letters_that_the_font_lacks_are_named():
    with pytest.raises(UserError, match="credits: the font Source Sans Pro has no 猫"):
        reel("by 猫")
