"""What can go, what it frees, and what it costs to make again."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from longvid.cleaning import Item, free, held, items, work_directories
from longvid.errors import LockedError, RenderError, UserError
from longvid.exchange import FILE
from longvid.files import read_sealed, write_sealed
from longvid.locks import locked
from longvid.takes import takes, use
from longvid.verifying import verify
from tests.installed import install_tiny
from tests.kept import EDITED, SHOTS, render

DAY = 86400.0
STEPS, WINDOW = 8, 4
ENTRIES = ["000000-000002", "000000-000004", "000000-000006"]
"""The states in which units enter before the first is finished."""


@pytest.fixture(scope="module", autouse=True)
def _tiny(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.syspath_prepend(str(install_tiny(tmp_path_factory.mktemp("plugins"))))
        yield


@pytest.fixture
def edited(tmp_path) -> Path:
    """A film of nine chunks, of which take 1 shares the first three."""
    render(tmp_path / "film.mp4")
    return render(tmp_path / "film.mp4", *EDITED)


def all_of_it(work: Path, now: float | None = None, **options: int | bool) -> list[Item]:
    return items(work, now or time.time(), 0.0, **options)  # type: ignore[arg-type]  # by name


def states_of(item: Item) -> list[str]:
    return [path.stem for path in item.paths if path.suffix == ".safetensors"]


def disk(folder: Path) -> int:
    """Bytes that the files in a folder take, each once."""
    facts = [file.stat() for file in folder.rglob("*") if file.is_file()]
    return sum({(fact.st_dev, fact.st_ino): fact.st_size for fact in facts}.values())


def seconds(work: Path, *chunks: int) -> float:
    records = [read_sealed(work / "chunks" / f"{chunk:06d}.json") for chunk in chunks]
    return sum(sum(record["seconds"].values()) for record in records if record)


def test_a_take_goes_by_its_age(edited):
    now = time.time()
    assert not items(edited, now + 29 * DAY, 30 * DAY)
    (item,) = items(edited, now + 31 * DAY, 30 * DAY)
    assert (item.kind, item.paths) == ("take", (edited / "takes" / "1",))
    assert item.age_seconds == pytest.approx(31 * DAY, abs=60)


def test_what_goes_frees_what_it_says_and_costs_what_only_it_holds(edited):
    """Three of its nine chunks are the film's own; the others entered S / K evaluations apart."""
    (item,) = all_of_it(edited)
    assert item.evaluations == (9 - 3) * STEPS // WINDOW
    assert item.seconds == pytest.approx(seconds(edited / "takes" / "1", *range(3, 9)))
    before = disk(edited)
    free(item)
    assert before - disk(edited) == item.bytes
    assert not (edited / "takes" / "1").exists()
    assert not all_of_it(edited)
    assert not verify(edited).wrong


def test_what_two_takes_share_is_freed_and_made_again_once(tmp_path):
    """They share six of their twelve chunks, and three of those with the film."""
    third = {"prompt": "a city", "seconds": 2}
    for shots in ([*SHOTS, third], [*SHOTS, {**third, "seed": 3}], [*EDITED, third]):
        work = render(tmp_path / "film.mp4", *shots)
    found = all_of_it(work)
    assert [item.paths[0].name for item in found] == ["1", "2"]
    assert [item.evaluations for item in found] == [9 * STEPS // WINDOW, 6 * STEPS // WINDOW]
    assert found[1].seconds == pytest.approx(seconds(work / "takes" / "2", *range(6, 12)))
    before = disk(work)
    for item in found:
        free(item)
    assert before - disk(work) == sum(item.bytes for item in found)


def test_a_take_of_which_all_is_elsewhere_costs_nothing(edited):
    use(edited, "1")
    first, second = all_of_it(edited)
    assert (first.evaluations, first.seconds) == (0, 0.0)
    assert first.bytes < second.bytes
    assert second.evaluations == 12


def test_a_take_goes_with_its_film(edited):
    """One that `render --as` made has a film of its own."""
    (edited / "takes" / "1.mp4").write_bytes(b"film")
    (item,) = all_of_it(edited)
    assert item.paths == (edited / "takes" / "1", edited / "takes" / "1.mp4")
    free(item)
    assert not list((edited / "takes").iterdir())


def test_the_last_state_is_the_one_that_stays(tmp_path):
    """Behind the first chunk, which is later than all those in which units entered before it was finished."""
    work = render(tmp_path / "film.mp4", chunks=1)
    (item,) = (item for item in all_of_it(work, keep_states=1) if item.kind == "states")
    assert states_of(item) == ENTRIES


def test_old_states_go_when_asked(edited):
    assert not [item for item in items(edited, time.time(), DAY) if item.kind == "states"]
    (item,) = (item for item in items(edited, time.time(), DAY, keep_states=2) if item.work == edited)
    assert (item.kind, states_of(item)) == ("states", [*ENTRIES, *(f"{n:06d}" for n in range(7))])
    assert item.evaluations == STEPS + 6 * STEPS // WINDOW, "up to the seventh chunk"
    takes_states = [i for i in items(edited, time.time(), DAY, keep_states=2) if i.work != edited]
    assert states_of(takes_states[0]) == states_of(item)
    for old in [item, *takes_states]:
        free(old)
    assert sorted(path.stem for path in (edited / "states").iterdir()) == ["000007", "000008"]
    assert not verify(edited).wrong
    with pytest.raises(UserError, match="--keep-states 0: at least 1, the one to go on from"):
        all_of_it(edited, keep_states=0)


def test_what_an_unfinished_film_goes_on_from_stays(tmp_path):
    work = render(tmp_path / "film.mp4", chunks=5)
    for item in all_of_it(work, keep_states=1, finished=True):
        free(item)
    assert (work / "states" / "stop.safetensors").exists() or (
        work / "states" / "000004.safetensors"
    ).exists()
    assert not verify(work).wrong
    render(tmp_path / "film.mp4")
    render(tmp_path / "whole.mp4")
    assert (tmp_path / "film.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_chunks_of_a_finished_film_go_when_asked_and_the_film_stays(edited):
    film = edited.with_suffix(".mp4").read_bytes()
    *_, item = all_of_it(edited, finished=True)
    assert (item.kind, item.evaluations) == ("finished", 8 * 2 + STEPS)
    assert item.seconds == pytest.approx(seconds(edited, *range(9)))
    assert not [item for item in items(edited, time.time(), DAY, finished=True) if item.kind == "finished"]
    for item in all_of_it(edited, finished=True):
        free(item)
    assert edited.with_suffix(".mp4").read_bytes() == film
    report = verify(edited)
    assert (report.wrong, len(report.notes)) == ([], 1)
    assert "its chunks were let go of, the film is all there is" in report.notes[0]
    assert not all_of_it(edited, finished=True)
    render(edited.with_suffix(".mp4"), *EDITED)
    assert edited.with_suffix(".mp4").read_bytes() == film


def test_a_film_that_is_not_as_its_render_left_it_keeps_its_chunks(edited):
    edited.with_suffix(".mp4").write_bytes(b"holiday")
    assert [item.kind for item in all_of_it(edited, finished=True)] == ["take"]


def test_what_a_kill_left_goes_at_any_age(edited):
    left = [edited / "latents" / "000009.safetensors", edited / "segments" / ".000009.part"]
    left.append(edited / ".run.part")
    for file in left:
        file.write_bytes(b"half")
    (edited / "takes" / ".2.part" / "chunks").mkdir(parents=True)
    left.append(edited / "takes" / ".2.part")
    (edited / "latents" / "mine.txt").write_text("nobody's business")
    (edited / "chunks" / "000008.json").write_text("damaged")
    (item,) = items(edited, time.time(), DAY)
    assert (item.kind, set(item.paths), item.bytes) == ("leftovers", set(left), 12)
    free(item)
    assert not any(path.exists() for path in left)
    assert (edited / "latents" / "mine.txt").exists()
    assert (edited / "latents" / "000008.safetensors").exists(), "its record is there, if damaged"


def test_a_render_moved_aside_goes_as_a_whole(edited):
    aside = edited.rename(edited.with_name("film.longvid.1"))
    render(edited.with_suffix(".mp4"))
    assert work_directories(edited.parent) == [edited, aside]
    assert not items(aside, time.time() + 29 * DAY, 30 * DAY)
    (item,) = items(aside, time.time() + 31 * DAY, 30 * DAY)
    assert (item.kind, item.paths, item.bytes) == ("aside", (aside,), disk(aside))
    assert item.evaluations == 12, "the first three chunks are those of the new render"
    free(item)
    assert work_directories(edited.parent) == [edited]


def test_a_removal_that_is_refused_is_one_line_and_leaves_no_half_take(edited, monkeypatch):
    (item,) = all_of_it(edited)

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", "chunks")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        with pytest.raises(RenderError, match="chunks: cannot be removed: Permission denied"):
            free(item)
    assert [take.name for take in takes(edited)] == [None]
    (left,) = all_of_it(edited)
    assert (left.kind, left.paths) == ("leftovers", (edited / "takes" / ".1.part",))


def test_only_what_nobody_is_at_work_in_is_held(edited):
    with held(edited), pytest.raises(LockedError, match="cleans up there"), locked(edited):
        pass
    with locked(edited / "takes" / "1"), pytest.raises(LockedError), held(edited):
        pass
    write_sealed(edited / FILE, {"take": "1"})
    with pytest.raises(UserError, match=r"finish it first: longvid takes .* --use 1"), held(edited):
        pass


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match="there is no such folder; name a film's work directory, or a folder"):
        work_directories(tmp_path / "nowhere")
    assert work_directories(tmp_path) == []
