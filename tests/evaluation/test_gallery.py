from __future__ import annotations

import json
import re
from collections.abc import Sequence
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import av
import pytest

from longvid.evaluation import gallery
from longvid.evaluation.comparison import Place, Scored
from longvid.evaluation.standings import Standings, standings
from longvid.evaluation.suite import Suite
from tests.evaluation.comparing import TWO_BY_TWO, scored, stand_in, suite
from tests.video.clips import clip, which

pytestmark = pytest.mark.usefixtures("workplace")

KNOWN = [
    {
        "flicker": 0.9 + 0.01 * i,
        "scenes": 1 + i,
        "curves": {"motion": [0.1, 0.2 + 0.01 * i]},
        "notes": ["dark"],
    }
    for i in range(8)
]
ALONE = {"meta", "img", "br", "input", "link"}


class Page(HTMLParser):
    """What a page refers to and holds; fails where a tag is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes) -> None:
        if tag not in ALONE:
            self.open.append(tag)
        self.references += [value for key, value in attributes if key in ("href", "src") and value]

    def handle_startendtag(self, tag, attributes) -> None:
        pass

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data.strip())


def written(known: Sequence[dict] = KNOWN) -> tuple[Place, Suite, list[Scored], Standings]:
    read = suite()
    place = Place(Path("out"))
    place.make()
    film = clip(Path("film.mp4"), frames=40, fps=Fraction(12))
    films = [stand_in(one, place, own, film) for one, own in zip(read.films, known, strict=False)]
    found = standings(read, films, [])
    gallery.write(read, films, found, place)
    return place, read, films, found


def test_everything_that_a_page_refers_to_is_in_the_folder():
    place, _, films, _ = written()
    for name in ("index.html", "duel.html"):
        text = (place.folder / name).read_text()
        page = Page(text)
        assert not re.search(r"https?:|//cdn|@import|url\(", text), "nothing is fetched"
        assert all((place.folder / reference).is_file() for reference in page.references)
    index = Page((place.folder / "index.html").read_text())
    assert {f"films/{one.film.name}.mp4" for one in films} <= set(index.references)
    assert "duel.html" in index.references


def test_the_page_says_what_was_measured():
    place, read, *_ = written()
    text = Page((place.folder / "index.html").read_text()).text
    assert text.count("Boats & <seas>") == 2, "as text, not as a tag"
    assert str(read) in text
    assert {"a red boat", "the sea at night", "motion amplitude, heights/s", "dark", "2 scenes"} <= set(text)
    assert "0.9300" in text, "progressive's mean"
    assert text.count("seed 1") == 2


def test_what_is_missing_is_said():
    place, read, *_ = written(KNOWN[:3])
    text = Page((place.folder / "index.html").read_text()).text
    assert f"{read}; 3 of them are there" in text


def test_a_sheet_has_frames_from_all_over_the_film():
    place, _, films, _ = written(KNOWN[:1])
    path = place.folder / gallery.sheet_of(films[0])
    with av.open(str(path)) as container:
        pixels = next(container.decode(video=0)).to_ndarray(format="rgb24")
    width = pixels.shape[1] // gallery.STILLS
    assert width == gallery.STILL_PX
    shown = [which(pixels[:, i * width : (i + 1) * width]) for i in range(gallery.STILLS)]
    assert shown == [2, 6, 10, 14, 18, 22, 26, 30, 34, 38]


def test_sheets_that_are_there_stay():
    place, read, films, found = written(KNOWN[:1])
    path = place.folder / gallery.sheet_of(films[0])
    before = path.stat().st_mtime_ns
    gallery.write(read, films, found, place)
    assert path.stat().st_mtime_ns == before


def test_duels_are_between_films_of_one_prompt_and_seed():
    read = suite()
    films = scored(read, *KNOWN[:3])
    assert gallery.duels(read, films) == [
        {
            "prompt": "a red boat",
            "films": [{"name": one.film.name, "file": one.values["film"]} for one in films[:2]],
        }
    ]
    assert 'hidden><a class="button" href="duel.html"' in gallery.index(
        read, films[:1], standings(read, films[:1], [])
    )


def test_a_prompt_cannot_leave_the_page_s_data():
    read = suite(TWO_BY_TWO.replace("a red boat", '"</script><script>alert(1)"'))
    text = gallery.duel(read, scored(read, *KNOWN))
    data = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    assert json.loads(data[1])["groups"][0]["prompt"] == "</script><script>alert(1)"
    assert "<script>alert" not in gallery.index(read, scored(read, *KNOWN), standings(read, [], []))
