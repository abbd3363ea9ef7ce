"""The keys under ``output:``: a film is rendered, and what is wanted is done to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import pytest

from longvid.video import reader
from tests.planning import longvid

SHOTS = [{"prompt": "a red boat", "seconds": 3}, {"prompt": "the sea", "seconds": 3, "cut": True}]


pytestmark = pytest.mark.usefixtures("workplace")


def render(**output: Any) -> Any:
    film = {"model": "tiny", "seed": 7, "output": {"scale": 8, **output}, "shots": SHOTS}
    Path("film.yaml").write_text(json.dumps(film))
    return longvid("render", "film.yaml", "--device", "cpu", "--progress", "plain")


def test_what_is_done_to_it_costs_no_evaluation_and_is_told_apart() -> None:
    assert render().code == 0
    plain = Path("film.mp4").read_bytes()
    ran = render(fade=1, captions="track", credits="Nobody")
    assert ran.code == 0, ran.err
    assert "keeps 10 of 10 chunks (0:06), renders 0" in ran.err
    with av.open("film.mp4") as film:
        kinds = [stream.type for stream in film.streams]
    assert kinds[:2] == ["video", "subtitle"]
    frames = [pixels for _, pixels in reader.frames(Path("film.mp4"))]
    assert len(frames) > 72 and frames[0].max() < 16, "black, and longer by its credits"
    assert longvid("verify", "film.longvid", "-q").code == 0
    assert "nothing to do" in render(fade=1, captions="track", credits="Nobody").err
    ran = longvid("resume", "film.longvid", "--progress", "plain")
    assert "nothing to do" in ran.err
    assert render().code == 0
    assert Path("film.mp4").read_bytes() == plain


def test_pictures_show_the_film_before_it_was_faded() -> None:
    assert render().code == 0
    film = Path("film.mp4").read_bytes()
    assert render(poster="poster.png", storyboard="story.html", contact_sheet="sheet.png").code == 0
    posters = [Path("poster.png").read_bytes()]
    assert Path("story.html").read_text().count("a red boat") >= 1
    assert reader.header(Path("film.mp4")).frames == 72
    Path("poster.png").unlink()
    assert render(poster="poster.png", fade=2).code == 0
    posters.append(Path("poster.png").read_bytes())
    assert posters[0] == posters[1]
    assert Path("film.mp4").read_bytes() != film


def test_what_could_not_be_done_is_told_before_anything_is_rendered() -> None:
    Path("notes.txt").write_text("no music")
    for output, message in (
        ({"music": "song.mp3"}, "film.yaml:1: output.music: there is no file 'song.mp3'"),
        ({"music": "notes.txt"}, "notes.txt: "),
        ({"title": "\u4e00"}, "--font"),
        ({"poster": "nowhere/poster.png"}, "there is no folder"),
        ({"poster": "film.mp4.png", "contact_sheet": "film.mp4.png"}, "film.mp4.png"),
    ):
        ran = render(**output)
        assert (ran.code, ran.out) == (2, ""), output
        assert message in ran.err.splitlines()[-1], ran.err
        assert sorted(path.name for path in Path().iterdir()) == ["film.yaml", "notes.txt"]
