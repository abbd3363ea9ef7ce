"""Lines, their breaks, and what they cover."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from longvid.editing import text
from longvid.editing.text import Lettering, Line
from longvid.errors import UserError

FONT = text.load(None, 20)
WORDS = "the quick brown fox jumps over the lazy dog and goes home to sleep"


@pytest.mark.parametrize("width", [60, 100, 200, 1000])
def test_lines_fit_and_lose_nothing(width):
    lines = text.wrap(WORDS, FONT, width)
    assert " ".join(lines) == WORDS
    assert max(map(FONT.getlength, lines)) <= width


def test_lines_are_as_even_as_can_be():
    lines = text.wrap(WORDS, FONT, 400)
    lengths = [FONT.getlength(line) for line in lines]
    assert len(lines) == 2
    assert max(lengths) - min(lengths) < 60
    assert text.wrap("", FONT, 400) == []


def test_a_word_wider_than_a_line_is_broken_where_it_must():
    lines = text.wrap("a " + "m" * 30, FONT, 100)
    assert lines[0] == "a"
    assert "".join(lines[1:]) == "m" * 30
    assert max(map(FONT.getlength, lines)) <= 100
    assert text.wrap("mm", FONT, 1) == ["m", "m"], "never nothing on a line"


def test_the_largest_size_that_fits_is_taken():
    lines = text.fitting("Dawn", None, "Regular", 100, range(80, 9, -1), 1, "title")
    assert text.load(None, lines[0].size_px).getlength("Dawn") <= 100
    assert text.load(None, lines[0].size_px + 1).getlength("Dawn") > 100
    two = text.fitting("Dawn\nand dusk", None, "Regular", 400, [40], 3, "title")
    assert [line.text for line in two] == ["Dawn", "and dusk"]
    with pytest.raises(UserError, match="title: 'Dawn' has 4 characters, more than fit the picture"):
        text.fitting("Dawn", None, "Regular", 4, [40], 1, "title")


@pytest.mark.parametrize(
    "good", ["Grüße, Łódź, Ελλάδα, Привет, naïve … “quotes”", "e\u0301", "a\u00a0b\tc\nd"]
)
def test_letters_of_europe_are_there(good):
    text.check_letters(good, None, "title")


@pytest.mark.parametrize("bad", ["猫", "\u202a猫", "😀", "\x07", "\ue000"])
def test_letters_that_are_not(bad):
    with pytest.raises(UserError, match=r"title: the font Source Sans Pro has no .*U\+"):
        text.check_letters(bad, None, "title")


def test_lettering_is_centred_and_covers_what_it_says():
    letters = text.lettering([Line("HHH", 20)], None, (200, 100), 40, shadow=False)
    rows, columns = np.nonzero(letters.ink > 0.5)
    assert abs(letters.left_px + (columns.min() + columns.max() + 1) / 2 - 100) <= 1
    assert letters.ink.max() > 0.98
    assert (letters.shade == 0).all()
    assert rows.max() - rows.min() + 1 == pytest.approx(
        FONT.getbbox("HHH")[3] - FONT.getbbox("HHH")[1], abs=1
    )


def test_laying_is_exact():
    pixels = np.full((4, 6, 3), 100, np.uint8)
    letters = Lettering(1, 1, np.float32([[1, 0.5, 0]]), np.float32([[0, 0, 0.5]]))
    drawn = text.lay(pixels, letters, Fraction(1))
    assert drawn[1, :, 0].tolist() == [100, 255, 178, 50, 100, 100]
    assert (np.delete(drawn, 1, axis=0) == 100).all()
    assert (pixels == 100).all(), "the picture itself is left alone"
    half = text.lay(pixels, letters, Fraction(1, 2))
    assert half[1, 1:4, 0].tolist() == [178, 139, 88], "the shadow comes behind the ink"
    assert text.lay(pixels, letters, Fraction(0)) is pixels


@pytest.mark.parametrize(("left", "top"), [(-1, 0), (5, 3), (-3, 0), (6, 0), (0, -1), (0, 4)])
def test_what_lies_outside_is_cut_off(left, top):
    pixels = np.zeros((4, 6, 3), np.uint8)
    letters = Lettering(left, top, np.ones((1, 3), np.float32), np.zeros((1, 3), np.float32))
    inside = sum(0 <= left + i < 6 for i in range(3)) * (0 <= top < 4)
    assert (text.lay(pixels, letters, Fraction(1))[..., 0] == 255).sum() == inside


def test_a_missing_extra_is_told(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"run: pip install 'longvid\[edit\]'"):
        text.check_installed()
