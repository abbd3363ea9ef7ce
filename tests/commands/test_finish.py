from __future__ import annotations

import os

import numpy as np
import pytest
import typer

from longvid.commands.finish import finish
from longvid.video import reader
from tests.editing.films import packets, tone, write_film, write_wav
from tests.planning import longvid


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a film and a song."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.chdir(tmp_path)
    write_film(tmp_path / "film.mp4")
    write_wav(tmp_path / "song.wav", tone(2, -20))
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_film_is_finished_here_under_its_own_name(here):
    (here / "sub").mkdir()
    os.replace("film.mp4", "sub/film.mp4")
    ran = longvid("finish", "sub/film.mp4", "--title", "A\\nday", "--fade", "1", "--music", "song.wav")
    assert (ran.code, ran.out) == (0, "film-finished.mp4\n")
    assert ran.err.splitlines()[0] == "reading sub/film.mp4"
    assert names(here) == ["film-finished.mp4", "song.wav", "sub"]
    assert reader.header(here / "film-finished.mp4").frames == 72


def test_pictures_alone_leave_the_film_alone(here):
    ran = longvid(
        "finish", "film.mp4", "--poster", "p.png", "--contact-sheet", "c.png", "--storyboard", "s.html"
    )
    assert (ran.code, ran.out) == (0, "p.png\nc.png\ns.html\n")
    assert names(here) == ["c.png", "film.mp4", "p.png", "s.html", "song.wav"]


def test_everything(here):
    (here / "credits.txt").write_text("Pictures\ntiny\n")
    ran = longvid(
        *("finish", "film.mp4", "-o", "out.mp4", "--title", "A day", "--credits", "credits.txt"),
        *("--captions", "burn", "--music", "song.wav", "--fade", "12f", "--crossfade", "0.5"),
        *("--scale", "1.5", "--crf", "20", "--quiet"),
    )
    assert (ran.code, ran.out, ran.err) == (0, "out.mp4\n", "")
    header = reader.header(here / "out.mp4")
    assert header.size == (144, 96)
    assert header.frames > 72
    assert [title for title, _, _ in header.chapters][-1] == "Credits"


def test_files_that_are_there_stay_unless_they_may_go(here):
    (here / "film-finished.mp4").write_text("mine")
    ran = longvid("finish", "film.mp4", "--title", "A")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "error: film-finished.mp4 exists; --overwrite replaces it, or name another\n"
    assert (here / "film-finished.mp4").read_text() == "mine"
    assert longvid("finish", "film.mp4", "--music", "song.wav", "--overwrite", "-q").code == 0
    assert packets(here / "film-finished.mp4") == packets(here / "film.mp4")
    ran = longvid("finish", "film.mp4", "--poster", "song.wav")
    assert "a poster is written as .png" in ran.err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "nothing is asked for; "),
        (("--title", "A", "-o", "film.mp4"), "film.mp4: the finished film would replace the film itself"),
        (("--title", "A", "-o", "film.mkv"), "--output film.mkv: a film is written as .mp4; try film.mp4"),
        (("--title", "A", "-o", "a/film.mp4"), "--output a/film.mp4: there is no folder a; create it first"),
        (("--title", "A", "-o", "."), "--output . is a folder"),
        (("--fade", "soon"), "--fade: 'soon' is not a time; write seconds, 1m30s, 0:01:30.5 or 120f"),
        (("--crossfade", "-1"), "--crossfade: '-1' is not a time"),
        (("--scale", "big"), "--scale: big is neither a size, as 1280x720, nor a factor, as 2 or 1.5"),
        (("--credits", "names.txt"), "names.txt: the credits cannot be read: No such file or directory"),
        (("--music", "none.mp3"), "none.mp3: there is no such file; music is a file such as song.mp3"),
        (("--music", "film.mp4"), "film.mp4: is no music that can be read; convert it to MP3 or WAV"),
        (("--title", "A", "--font", "song.wav"), "song.wav: is no font that can be read"),
        (("--title", "x" * 999), "title: "),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(here, args, message):
    ran = longvid("finish", "film.mp4", *args, "-q")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"error: {message}")
    assert ran.err.count("\n") == 1
    assert names(here) == ["film.mp4", "song.wav"]


def test_a_film_that_is_none(here):
    np.save(here / "a.npy", np.zeros(100))
    assert "is no clip or picture that can be read" in longvid("finish", "a.npy", "--title", "A", "-q").err
    assert "there is no such file" in longvid("finish", "b.mp4", "--title", "A", "-q").err
    assert names(here) == ["a.npy", "film.mp4", "song.wav"]


def test_every_option_tells_what_it_does():
    app = typer.Typer()
    app.command()(finish)
    for option in typer.main.get_command(app).params:
        assert getattr(option, "help", None), option.name
