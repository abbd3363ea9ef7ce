"""The poster, the contact sheet and the storyboard."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from longvid.editing import Edit, apply, film, sheets, stills
from longvid.errors import UserError
from longvid.video import source, writer
from tests.editing.films import FPS, METADATA, SHOTS, write_film


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4")


@pytest.fixture(scope="module")
def day(path):
    return film.read(path)


def opened(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def test_frames_are_spread_evenly_and_no_two_are_the_same():
    assert stills.spread(0, 72, 3) == [12, 36, 60]
    assert stills.spread(10, 12, 5) == [10, 11]
    assert stills.spread(4, 5, 3) == [4]


def test_every_shot_is_somewhere_on_the_sheet(day):
    assert stills.everywhere(day, 4) == [9, 27, 45, 63]
    assert stills.everywhere(day, 1) == [12, 36, 60]


@pytest.mark.parametrize("numbers", [[0], [71], [3, 5, 40, 41, 71]])
def test_stills_are_the_films_frames(day, numbers):
    frames = list(source.frames(day.source))
    for number, pixels in zip(numbers, stills.stills(day, numbers), strict=True):
        assert (pixels == frames[number]).all()
    assert [pixels.shape for pixels in stills.stills(day, numbers, 48)] == [(32, 48, 3)] * len(numbers)


def test_the_poster_is_the_frame_with_the_most_to_see(tmp_path):
    """Black, grey, then colours with contrast and detail; then blurred ones."""
    noise = np.random.default_rng(0).integers(0, 255, (8, 12, 3))
    good = np.kron(noise, np.ones((8, 8, 1))).astype(np.uint8)
    frames = [np.zeros_like(good)] * 3 + [np.full_like(good, 128)] * 3 + [good] + [good // 4 + 90] * 5
    path = tmp_path / "film.mp4"
    (tmp_path / "a").write_bytes(writer.encode(np.stack(frames), FPS, 10))
    writer.remux([tmp_path / "a"], path, FPS, [], METADATA)
    read = film.read(path)
    assert stills.best(read) == 6
    poster = opened(sheets.poster(read, Path("p.png"), None))
    assert poster.shape == (64, 96, 3)
    assert np.abs(poster - good).mean() < 12


def test_the_contact_sheet_shows_the_film_in_order(day):
    sheet = opened(sheets.contact_sheet(day, Path("a.png"), None))
    assert sheet.shape[1] == sheets.PAGE_PX
    columns = 5
    tile = (sheets.PAGE_PX - 2 * sheets.MARGIN_PX - (columns - 1) * sheets.GAP_PX) // columns
    first = sheet[sheets.MARGIN_PX + 122 + 20, :, 0]
    begin = sheets.MARGIN_PX + tile // 2
    seen = [first[begin + i * (tile + sheets.GAP_PX)] for i in range(columns)]
    wanted = [60 + n for n in stills.everywhere(day, 25)[:columns]]
    assert np.abs(np.array(seen) - wanted).max() <= 3


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.said = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.said.append(data.strip())


def test_the_storyboard_is_one_page_that_fetches_nothing_and_runs_nothing(day):
    text = sheets.storyboard(day, Path("a.html"), None).decode()
    page = Page(text)
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 9
    for attrs in pictures:
        kind, content = attrs["src"].split(",", 1)
        assert kind == "data:image/jpeg;base64"
        assert opened(base64.b64decode(content)).shape == (64, 96, 3)
    assert not re.search(r"https?:|<script|<link|url\(|@import|\bon\w+=", text)
    assert not {"b", "script", "link", "iframe"} & {tag for tag, _ in page.tags}, "a prompt's tags are text"
    assert "a <b>city</b> at night" in page.said
    assert [said for said in page.said if said in ("A day", "Hills", "the sea", "Night")] == [
        "A day",
        "Hills",
        "the sea",
        "Night",
    ]
    assert page.said.count("the sea") == 1, "a shot without a title is called by its prompt, once"
    assert "0:02 to 0:04  ·  2 s  ·  cut" in page.said
    assert "0:04 to 0:06  ·  2 s" in page.said
    assert "0:06  ·  3 shots  ·  96 x 64 at 12 frames a second" in page.said


def test_a_title_that_is_markup_is_text(tmp_path):
    shots = [{**SHOTS[0], "title": '"><script>alert(1)</script>', "prompt": "'\"&<>", "end_frame": 72}]
    read = film.read(write_film(tmp_path / "film.mp4", shots=shots))
    page = Page(sheets.storyboard(read, Path("a.html"), None).decode())
    assert "script" not in {tag for tag, _ in page.tags}
    assert "'\"&<>" in page.said


def test_the_storyboard_as_a_picture(day):
    board = opened(sheets.storyboard(day, Path("A.PNG"), None))
    assert board.shape[1] == sheets.PAGE_PX
    left = board[sheets.MARGIN_PX + 122 + 100, sheets.MARGIN_PX + 150, 0]
    assert abs(left - (60 + 4)) <= 3, "the first of three frames of the first shot"


def test_a_film_too_long_for_one_picture(tmp_path):
    shots = [{**SHOTS[0], "start_frame": i, "end_frame": i + 1} for i in range(72)]
    read = film.read(write_film(tmp_path / "film.mp4", shots=shots, size=(64, 512)))
    with pytest.raises(
        UserError, match=r"72 shots are too many for one picture; write a storyboard as \.html"
    ):
        sheets.storyboard(read, Path("a.png"), None)
    assert b"shot-72" in sheets.storyboard(read, Path("a.html"), None)


@pytest.mark.parametrize("size", [(64, 512), (512, 64), (16, 16)])
@pytest.mark.parametrize("name", ["board.png", "board.html"])
def test_any_shape_of_film(tmp_path, size, name):
    path = write_film(tmp_path / "film.mp4", size=size)
    apply(path, Edit(contact_sheet=tmp_path / "sheet.png", storyboard=tmp_path / name), None)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["film.mp4", "sheet.png", name])


def test_letters_that_the_font_lacks_are_named(tmp_path):
    shots = [{**SHOTS[0], "title": "猫", "end_frame": 72}]
    read = film.read(write_film(tmp_path / "film.mp4", shots=shots))
    with pytest.raises(UserError, match="the film's titles and prompts: the font Source Sans Pro has no 猫"):
        sheets.contact_sheet(read, Path("a.png"), None)
    assert "猫".encode() in sheets.storyboard(read, Path("a.html"), None), "a browser has its own fonts"
