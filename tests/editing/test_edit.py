"""What is wanted: plain data, and its mistakes."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from longvid.editing import Edit, check_files, parse_scale, read_credits
from longvid.errors import UserError
from longvid.times import Time
from tests.test_imports import HEAVY


def test_what_is_wanted_is_light():
    code = "import sys, longvid.editing; longvid.editing.Edit(title='x'); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(run.stdout.split())


@pytest.mark.parametrize(
    "edit",
    [
        Edit(title="A"),
        Edit(credits="A"),
        Edit(captions="track"),
        Edit(music=Path("a.mp3")),
        Edit(fade=Time(Fraction(1))),
        Edit(crossfade=Time(Fraction(1), in_frames=True)),
        Edit(scale=Fraction(2)),
    ],
)
def test_what_makes_another_film_of_it(edit):
    assert edit.changes_film


def test_pictures_leave_the_film_alone():
    edit = Edit(poster=Path("a.png"), storyboard=Path("b.html"), font=Path("c.ttf"))
    assert not edit.changes_film
    assert edit.pictures == {"poster": Path("a.png"), "storyboard": Path("b.html")}


@pytest.mark.parametrize(
    ("text", "scale"),
    [
        ("2", 2),
        ("1.5", Fraction(3, 2)),
        ("0.1", Fraction(1, 10)),
        ("1280x720", (1280, 720)),
        ("16X16", (16, 16)),
    ],
)
def test_scales(text, scale):
    assert parse_scale(text) == scale


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("big", "big is neither a size, as 1280x720, nor a factor, as 2 or 1.5"),
        ("-2", "-2 is neither"),
        ("0", "0 is out of range; a factor of 0.0625 to 16"),
        ("17", "17 is out of range"),
        ("1280x721", "1280x721: H.264 players want even sides; try 1280x722"),
        ("0x720", "0x720 is out of range; 16 to 8192 pixels a side"),
        ("99999x720", "99999x720 is out of range"),
    ],
)
def test_scales_that_are_none(text, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        parse_scale(text)


def test_credits_are_a_text_or_a_files(tmp_path):
    assert read_credits("by hand") == "by hand"
    (tmp_path / "names.txt").write_bytes("\ufeffPictures\r\nJosé\n".encode())
    assert read_credits("names.txt", tmp_path).splitlines() == ["Pictures", "José"]
    (tmp_path / "NAMES").write_text("me")
    assert read_credits("NAMES", tmp_path) == "me"
    assert read_credits("x" * 5000, tmp_path) == "x" * 5000, "too long for a file's name"
    with pytest.raises(UserError, match=r"other\.txt: the credits cannot be read: No such file or directory"):
        read_credits("other.txt", tmp_path)
    (tmp_path / "noise.txt").write_bytes(bytes(range(128, 256)))
    with pytest.raises(UserError, match=r"noise\.txt: the credits are no text in UTF-8"):
        read_credits("noise.txt", tmp_path)


@pytest.mark.parametrize(
    ("edit", "output", "message"),
    [
        (Edit(), "film.mp4", "film.mp4: the finished film would replace the film itself; write it elsewhere"),
        (Edit(), "./a/../film.mp4", "would replace the film itself"),
        (Edit(), "link.mp4", "would replace the film itself"),
        (Edit(music=Path("song.mp4")), "song.mp4", "would replace the music itself"),
        (
            Edit(poster=Path("a.png"), storyboard=Path("a.png")),
            None,
            "the storyboard would replace the poster",
        ),
        (Edit(poster=Path("a")), None, "a: is a folder; name a file in it for the poster"),
        (Edit(poster=Path("b/a.png")), None, "b/a.png: there is no folder b; create it first"),
        (Edit(poster=Path("a.jpg")), None, "a.jpg: a poster is written as .png"),
        (Edit(contact_sheet=Path("a.html")), None, "a.html: a contact sheet is written as .png"),
        (Edit(storyboard=Path("a.pdf")), None, "a.pdf: a storyboard is written as .html or .png"),
    ],
)
def test_files_that_cannot_be_written(tmp_path, monkeypatch, edit, output, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "film.mp4").touch()
    (tmp_path / "link.mp4").symlink_to("film.mp4")
    with pytest.raises(UserError) as error:
        check_files(Path("film.mp4"), edit, output and Path(output))
    assert message in str(error.value)
