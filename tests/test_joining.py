"""The film from the work directory alone."""

from __future__ import annotations

import json
import os

import pytest

import longvid
from longvid.files import checksum, read_sealed, write_sealed
from longvid.joining import join_film, write_film
from longvid.outputs import made_here
from longvid.state import WorkDirectory
from tests.kept import render


def test_the_work_directory_gives_the_film_again_byte_for_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    work = render(tmp_path / "film.mp4", title="Boats: ä, \U0001f6a2")
    plan, run = read_sealed(work / "plan.json"), (work / "run.json").read_bytes()
    assert plan is not None
    write_film(WorkDirectory(work), plan, longvid.__version__, tmp_path / "again.mp4")
    assert (tmp_path / "again.mp4").read_bytes() == (tmp_path / "film.mp4").read_bytes()
    assert (work / "run.json").read_bytes() == run

    join_film(WorkDirectory(work), plan, "0.0.1", tmp_path / "older.mp4")
    assert (tmp_path / "older.mp4").read_bytes() != (tmp_path / "film.mp4").read_bytes()
    told = json.loads((work / "run.json").read_text())
    assert told["next_film"] == checksum(tmp_path / "older.mp4"), "it is known as a render's own"


def test_a_film_that_had_its_name_at_a_kill_is_known_after_another(tmp_path, monkeypatch):
    """The first kill falls between the film's taking the name and run.json's telling so."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    film = tmp_path / "film.mp4"
    work = render(film)
    killed = read_sealed(work / "run.json")
    assert killed is not None
    write_sealed(
        work / "run.json", {**killed, "status": "unfinished", "film": None, "next_film": killed["film"]}
    )
    monkeypatch.setattr("longvid.rendering.join_film", lambda *args: pytest.fail("killed again"))
    with pytest.raises(pytest.fail.Exception):
        render(film)
    assert made_here(film)
    monkeypatch.undo()
    render(film)
    told = read_sealed(work / "run.json") or {}
    assert (told.get("film"), told.get("next_film")) == (checksum(film), None)
