"""Every effect, exactly, before an encoder rounds anything."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from longvid.editing import Edit, film, picture
from longvid.editing.text import load
from longvid.errors import UserError
from longvid.times import Time
from longvid.video import source
from tests.editing.films import write_film


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    return film.read(write_film(tmp_path_factory.mktemp("film") / "film.mp4"))


@pytest.fixture(scope="module")
def frames(day):
    return list(source.frames(day.source))


def made(day, frames, edit):
    """All frames, with everything done to them."""
    effects = picture.effects(day, edit)
    return [picture.changed(number, pixels, effects) for number, pixels in enumerate(frames)]


def seconds(value):
    return Time(Fraction(value))


def test_nothing_wanted_changes_nothing(day, frames):
    assert picture.effects(day, Edit()) == ()


def test_a_fade_takes_its_share_of_the_light_exactly(day, frames):
    shown = made(day, frames, Edit(fade=seconds(1)))
    for number in range(12):
        exact = (frames[number].astype(int) * number * 2 + 12) // 24
        assert (shown[number] == exact).all()
        exact = (frames[71 - number].astype(int) * number * 2 + 12) // 24
        assert (shown[71 - number] == exact).all()
    assert (shown[0] == 0).all()
    assert (shown[71] == 0).all()
    assert all(shown[number] is frames[number] for number in range(12, 60))


def test_a_fade_is_at_most_half_the_film(day):
    assert [(e.start_frame, e.end_frame) for e in picture.fades(7, 100)] == [(0, 3), (4, 7)]
    assert list(picture.fades(1, 5)) == []


def test_a_dissolve_lies_around_the_cut_and_moves_no_time(day, frames):
    shown = made(day, frames, Edit(crossfade=seconds("0.5")))
    for number in range(72):
        if 21 <= number < 27:
            weight = 2 * (number - 21) + 1
            one = frames[number] if number < 24 else frames[23]
            other = frames[24] if number < 24 else frames[number]
            mixed = (one.astype(int) * (12 - weight) + other.astype(int) * weight) / 12
            assert (shown[number] == np.floor(mixed + 0.5)).all()
        else:
            assert shown[number] is frames[number], "shots that flow into each other are left alone"


def test_dissolves_share_no_frame(day):
    """Longer than a shot: as long as the shorter of the two."""
    (effect,) = picture.crossfades(day, Fraction(60))
    assert (effect.start_frame, effect.end_frame) == (12, 36)


def test_mix_rounds_halves_up():
    one, other = np.uint8([0, 10, 255]), np.uint8([1, 20, 255])
    assert picture.mix(one, other, 1, 2).tolist() == [1, 15, 255]
    assert picture.mix(one, other, 1, 4).tolist() == [0, 13, 255]


def test_ramps_come_and_go_alike():
    values = [picture.ramp(frame, 10, 18, 3) for frame in range(10, 18)]
    assert values == [Fraction(n, 4) for n in (1, 2, 3, 4, 4, 3, 2, 1)]


@pytest.mark.parametrize(
    ("scale", "size"),
    [
        (Fraction(2), (192, 128)),
        (Fraction(1, 2), (48, 32)),
        (Fraction("0.7"), (68, 44)),
        ((128, 128), (128, 128)),
    ],
)
def test_scaling_gives_even_sides(day, frames, scale, size):
    shown = made(day, frames[:1], Edit(scale=scale))[0]
    assert shown.shape == (size[1], size[0], 3)
    middle = shown[size[1] // 2, size[0] // 2]
    assert (middle == frames[0][32, 48]).all()


def test_another_shape_is_shown_whole_on_black(day, frames):
    shown = made(day, frames[:1], Edit(scale=(128, 128)))[0]
    bars = (128 - 85) // 2
    assert (shown[:bars] == 0).all()
    assert (shown[-bars:] == 0).all()
    assert (shown[bars + 2 : -bars - 2, 20:] > 50).all()


def test_a_size_out_of_range_is_told(day):
    with pytest.raises(UserError, match="scale: 6x4 is out of range; 16 to 8192 pixels a side"):
        picture.output_size(day, Edit(scale=Fraction(1, 16)))


def test_a_title_comes_and_goes_in_the_first_seconds(day, frames):
    shown = made(day, frames, Edit(title="Dawn"))
    different = [number for number in range(72) if (shown[number] != frames[number]).any()]
    assert different == list(range(3, 36)), "half of a film of 6 seconds"
    strength = [np.abs(shown[n].astype(int) - frames[n]).sum() for n in different]
    assert strength[:7] == sorted(strength[:7])
    assert strength[-7:] == sorted(strength[-7:], reverse=True)
    full = shown[18]
    assert (full == 255).any()
    rows, columns = np.nonzero((full != frames[18]).any(-1))
    assert abs(rows.min() + rows.max() + 1 - 64) <= 6, "in the middle"
    assert abs(columns.min() + columns.max() + 1 - 96) <= 3


def test_captions_lie_at_the_bottom_while_their_shot_lasts(day, frames):
    shown = made(day, frames, Edit(captions="burn"))
    changed = [np.nonzero((shown[n] != frames[n]).any((1, 2)))[0] for n in range(72)]
    assert all(len(rows) and rows.min() > 32 for rows in changed)
    masks = [(shown[n].astype(int) - frames[n] > 20).any(-1) for n in (12, 36, 60)]
    assert not (masks[0] == masks[1]).all()
    assert not (masks[1] == masks[2]).all()


def test_long_captions_come_in_pages_that_share_the_time(day):
    shot = film.Shot("", "", 24, 48, False)
    assert picture.spans(shot, [["a" * 10], ["a" * 20]]) == [(24, 32), (32, 48)]
    assert picture.spans(shot, []) == []


@pytest.mark.parametrize("title", ["word " * 200, "w" * 400])
def test_a_title_that_fits_nowhere_is_refused(day, title):
    with pytest.raises(UserError) as error:
        picture.effects(day, Edit(title=title))
    assert "characters, more than fit the picture" in str(error.value)
    assert "\n" not in str(error.value)


def test_letters_that_the_font_lacks_are_named(day):
    with pytest.raises(
        UserError, match=r"title: the font Source Sans Pro has no あ \(U\+3042\); name another with --font"
    ):
        picture.effects(day, Edit(title="あ"))


def test_another_font_is_another_picture(day, frames, tmp_path):
    other = tmp_path / "other.ttf"
    other.write_bytes(Path(str(load(None, 10, "Light").path)).read_bytes())
    one, two = (made(day, frames[:20], Edit(title="Dawn", font=font))[19] for font in (None, other))
    assert (one != two).any()


@pytest.mark.parametrize(("content", "message"), [(None, "there is no such font file"), (b"x", "is no font")])
def test_a_font_that_is_none(day, tmp_path, content, message):
    path = tmp_path / "a.ttf"
    if content:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        picture.effects(day, Edit(title="Dawn", font=path))
