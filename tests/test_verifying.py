"""Every damage is found, and by its name."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from longvid import exchange
from longvid.errors import LockedError, UserError
from longvid.files import read_sealed, write_sealed
from longvid.locks import locked
from longvid.verifying import Report, verify
from tests.installed import install_tiny
from tests.kept import EDITED, SHOTS, copied, flip, render


@pytest.fixture(scope="module", autouse=True)
def _tiny(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.syspath_prepend(str(install_tiny(tmp_path_factory.mktemp("plugins"))))
        yield


@pytest.fixture(scope="module")
def edited(tmp_path_factory) -> Path:
    """a finished film of nine chunks with two takes, one of them stopped in the middle."""
    film = tmp_path_factory.mktemp("edited") / "film.mp4"
    render(film)
    render(film, SHOTS[0], {"prompt": "fog", "seconds": 2}, chunks=5)
    return render(film, *EDITED)


def wrong(report: Report) -> list[Path]:
    return [found.file for found in report.wrong]


def test_all_is_as_written(edited):
    before = {file: file.stat().st_mtime_ns for file in files(edited)}
    report = verify(edited)
    assert before == {file: file.stat().st_mtime_ns for file in files(edited)}
    assert (report.wrong, report.notes, report.unchecked, report.then) == ([], [], [], None)
    assert not verify(edited).wrong
    assert report.files == len({file.stat().st_ino for file in files(edited)})


def files(work: Path) -> list[Path]:
    """Every file that holds something: all but the locks of a work directory and its takes."""
    found = [work.with_suffix(".mp4"), *(file for file in work.rglob("*") if file.is_file())]
    assert all(file.stat().st_size == 0 for file in found if file.name == "lock")
    return [file for file in found if file.name != "lock"]


def test_one_flipped_byte_in_any_file_is_found_by_name(edited, tmp_path):
    """Anywhere in it, in a copy in which takes share no file."""
    work = copied(edited, tmp_path)
    assert {file.parent.name for file in files(work)} >= {"1", "2", "chunks", "latents", "segments", "states"}
    for file in files(work):
        before = file.read_bytes()
        place = random.Random(f"1{file.relative_to(tmp_path)}").randrange(len(before))
        flip(file, place)
        assert wrong(verify(work)) == [file], place
        file.write_bytes(before)
    assert not verify(work).wrong


def test_a_removed_file_is_found_by_name(edited, tmp_path):
    """But for what may be gone: preview, a state between two chunks, the end of what it had."""
    work = copied(edited, tmp_path)
    may_be_gone = {work / "preview.mp4", *work.glob("**/states/*.json")}
    may_be_gone.add(max((work / "takes" / "2" / "chunks").iterdir()))
    for file in files(work):
        kept = file.rename(tmp_path / "kept")
        assert wrong(verify(work)) == ([] if file in may_be_gone else [file])
        kept.rename(file)


def test_what_the_next_render_does_is_what_it_does(edited, tmp_path):
    work = copied(edited, tmp_path)
    flip(work / "latents" / "000003.safetensors", 100)
    assert verify(work).then == "the next render keeps 3 of 9 chunks (0:02), renders 6"
    work = copied(edited, tmp_path / "other")
    flip(work / "segments" / "000003.mp4", 100)
    assert verify(work).then == "the next render keeps 9 of 9 chunks (0:06), renders 0, decodes 6 again"


def test_a_file_of_another_film_is_found(edited, tmp_path):
    """All of a chunk, from another take: every checksum is right."""
    work = copied(edited, tmp_path)
    for folder in ("latents", "segments", "states", "chunks"):
        for file in (work / "takes" / "1" / folder).glob("000004.*"):
            shutil.copy(file, work / folder / file.name)
    report = verify(work)
    assert (report.wrong[0].file, report.wrong[0].what) == (
        work / "chunks" / "000004.json",
        "is of another film than request.json asks for",
    )
    assert len(report.wrong) == 1
    assert report.then == "the next render keeps 4 of 9 chunks (0:02.667), renders 5"


def test_a_record_in_anothers_place_is_found(edited, tmp_path):
    work = copied(edited, tmp_path)
    shutil.copy(work / "chunks" / "000001.json", work / "chunks" / "000002.json")
    assert [(found.file, found.what) for found in verify(work).wrong] == [
        (work / "chunks" / "000002.json", "is the record of chunk 1")
    ]


def test_other_bytes_that_say_the_same_are_told(edited, tmp_path):
    work = copied(edited, tmp_path)
    (work / "run.json").write_text((work / "run.json").read_text().replace("\n", " "))
    (found,) = verify(work).wrong
    assert (found.file, found.then) == (work / "run.json", "what it says is whole, and is used")


def test_what_a_take_lacks_counts_once_it_is_taken(edited, tmp_path):
    work = copied(edited, tmp_path)
    flip(work / "takes" / "1" / "latents" / "000001.safetensors", 100)
    report = verify(work)
    assert [found.then for found in report.wrong] == [
        "once it is taken with --use, the next render renders this chunk again, and what follows it"
    ]
    assert report.then is None, "the film itself is whole"


def test_an_unfinished_film_is_as_written(tmp_path):
    work = render(tmp_path / "film.mp4", chunks=5)
    report = verify(work)
    assert (report.wrong, report.notes, report.unchecked) == ([], [], [])
    (tmp_path / "film.mp4").write_bytes(b"holiday")
    (found,) = verify(work).wrong
    assert (found.file, found.what) == (tmp_path / "film.mp4", "is there, and no render here made it")


def test_the_film_and_preview_of_what_an_edit_put_aside_are_known(edited, tmp_path):
    """As after a kill before the first chunk of an edit is finished."""
    work = copied(edited, tmp_path)
    run = read_sealed(work / "run.json")
    assert run is not None
    write_sealed(work / "run.json", {"versions": run["versions"], "status": "unfinished"})
    take = shutil.copytree(edited, work / "takes" / "3", ignore=shutil.ignore_patterns("takes"))
    for file in work.glob("*/000008.*"):
        file.unlink()
    report = verify(work)
    assert not report.wrong
    assert report.notes == [f"{tmp_path / 'film.mp4'}: is that of another take; the next render replaces it"]
    shutil.rmtree(take)
    assert wrong(verify(work)) == [tmp_path / "film.mp4", work / "preview.mp4"]


def test_what_cannot_be_checked_is_told(edited, tmp_path, monkeypatch):
    work = copied(edited, tmp_path)
    request = read_sealed(work / "request.json")
    assert request is not None
    write_sealed(work / "request.json", request | {"model": "nothing"})
    run = read_sealed(work / "run.json")
    assert run is not None
    versions = run["versions"] | {"av": "1.0", "longvid": "0.0.1"}
    write_sealed(work / "run.json", run | {"versions": versions})
    report = verify(work)
    assert not report.wrong
    said = "\n".join(report.unchecked)
    assert "film.longvid: whether its chunks are those of one film: --model: no model 'nothing'" in said
    assert "film.mp4: whether it is the join of its segments: PyAV 1.0 joined them, and this is" in said


def test_chunks_of_another_version_are_told_as_such(edited, tmp_path, monkeypatch):
    monkeypatch.setattr("longvid.identities.NUMERICS", 99)
    monkeypatch.setattr("longvid.verifying.__version__", "9.9")
    report = verify(copied(edited, tmp_path))
    assert not report.wrong
    assert "longvid 0.1.0 made them, and this is 9.9" in report.unchecked[0]


def test_what_a_kill_left_is_noted(edited, tmp_path):
    work = copied(edited, tmp_path)
    (work / "latents" / "000009.safetensors").write_bytes(b"whole")
    (work / "segments" / ".000009.part").write_bytes(b"half")
    (work / "takes" / ".3.part").mkdir()
    report = verify(work)
    assert not report.wrong
    assert report.notes == [
        f"{work}: nothing names latents/000009.safetensors, segments/.000009.part, takes/.3.part; "
        "`longvid clean` frees what nothing uses"
    ]


def test_it_reads_while_a_render_runs_and_says_so_and_keeps_renders_out_otherwise(edited, tmp_path):
    work = copied(edited, tmp_path)
    with locked(work):
        report = verify(work)
    assert not report.wrong
    assert f"{work}: process {os.getpid()} on " in report.notes[0]
    assert report.notes[0].endswith(" renders there; what it changes meanwhile may be reported as wrong")

    def refused(folder: Path) -> None:
        if folder == work:
            with pytest.raises(LockedError, match="another process is at work there"), locked(work):
                pass

    assert not verify(work, refused).notes
    shutil.rmtree(work / "takes")
    (work / "lock").unlink()
    assert not verify(work).wrong, "a copy that has no lock"
    assert not (work / "lock").exists()


def test_an_exchange_that_was_broken_off_is_noted(edited, tmp_path):
    work = copied(edited, tmp_path)
    write_sealed(work / exchange.FILE, {"take": "1"})
    (work / "chunks" / "000008.json").unlink()
    report = verify(work)
    assert not report.wrong
    assert report.notes == [f"{work}: taking 1 was broken off; the next render finishes it first"]
    flip(work / exchange.FILE, 5)
    assert wrong(verify(work)) == [work / exchange.FILE]


def test_a_folder_that_is_no_work_directory_is_one_line(tmp_path):
    with pytest.raises(UserError, match="there is no such folder; a film's work directory is named"):
        verify(tmp_path / "film.longvid")
    with pytest.raises(UserError, match="is no film's work directory"):
        verify(tmp_path)
