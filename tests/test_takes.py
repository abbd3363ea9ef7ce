"""Takes: what differs, how they look, and another one as the film, wherever a kill falls."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from longvid import exchange, rendering
from longvid.errors import LockedError, RenderError, UserError
from longvid.files import read_sealed, write_sealed
from longvid.keeping import read_request
from longvid.locks import locked
from longvid.progress import Done, Event, Stepped
from longvid.takes import Take, differing, first_other_frame, read, takes, use, write_strips
from longvid.verifying import verify
from longvid.video import reader
from tests.installed import install_tiny
from tests.kept import EDITED, SHOTS, copied, render
from tests.tiny import TinyBackend


@pytest.fixture(scope="module", autouse=True)
def _tiny(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.syspath_prepend(str(install_tiny(tmp_path_factory.mktemp("plugins"))))
        yield


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> dict[str, bytes]:
    """Each take's film, rendered alone."""
    folder = tmp_path_factory.mktemp("alone")
    render(folder / "first.mp4")
    render(folder / "edited.mp4", *EDITED)
    return {name: (folder / f"{name}.mp4").read_bytes() for name in ("first", "edited")}


@pytest.fixture
def edited(tmp_path) -> Path:
    """A film, edited: the first is take 1."""
    render(tmp_path / "film.mp4")
    return render(tmp_path / "film.mp4", *EDITED)


def film(work: Path) -> bytes:
    return work.with_suffix(".mp4").read_bytes()


def names(work: Path) -> list[str | None]:
    return [take.name for take in takes(work)]


# What there is


def test_takes_are_listed_the_current_one_first(edited):
    current, first = takes(edited)
    assert (current.name, current.current, current.path) == (None, True, edited)
    assert (first.name, first.current, first.path) == ("1", False, edited / "takes" / "1")
    for take in (current, first):
        assert (take.chunks, len(take.records), take.complete) == (9, 9, True)
        assert (take.frames_done, take.fps) == (72, 12)
    assert [shot["prompt"] for shot in first.plan["shots"]] == ["a red boat", "the sea"]


def test_numbers_come_before_names_and_in_their_order(edited):
    for name in ("10", "9", "b", "a", ".3.part"):
        (edited / "takes" / name / "chunks").mkdir(parents=True)
    assert names(edited) == [None, "1", "9", "10", "a", "b"]


def test_an_unfinished_take_tells_how_far_it_got(tmp_path):
    work = render(tmp_path / "film.mp4", chunks=5)
    (take,) = takes(work)
    assert 0 < len(take.records) < take.chunks == 9
    assert not take.complete
    assert take.frames_done == 8 * len(take.records)
    assert takes(copied(work, tmp_path / "copy"))[0].records == take.records


def test_a_folder_without_a_plan_is_no_obstacle(edited):
    (edited / "takes" / "1" / "plan.json").write_text("{}")
    (edited / "takes" / "1" / "request.json").unlink()
    take = takes(edited)[1]
    assert (take.chunks, take.complete, take.plan) == (0, False, {})


# What differs


@pytest.mark.parametrize(
    ("shots", "keys", "expected", "frame"),
    [
        (EDITED, {}, ["shots[1].prompt"], 24),
        ((SHOTS[0], {**SHOTS[1], "seed": 5}), {}, ["shots[1].seed"], 24),
        ((SHOTS[0], {**SHOTS[1], "seconds": 4}), {}, ["shots[1].seconds"], 48),
        (SHOTS[:1], {}, ["shots[1]"], 24),
        (SHOTS, {"output": {"crf": 30}}, ["output"], 0),
        (SHOTS, {"title": "Sea"}, ["title"], None),
    ],
    ids=str,
)
def test_what_was_asked_otherwise_is_named_as_it_is_written(tmp_path, shots, keys, expected, frame):
    one = read(render(tmp_path / "one.mp4"), None)
    other = read(render(tmp_path / "other.mp4", *shots, **keys), None)
    assert differing(other, one) == expected
    assert first_other_frame(other, one) == first_other_frame(one, other) == frame
    plans_alone = [Take(t.path, None, False, t.plan, t.run, {}, t.records) for t in (one, other)]
    assert differing(*plans_alone)


def test_takes_that_are_the_same_as_far_as_both_got(tmp_path):
    one = read(render(tmp_path / "one.mp4"), None)
    other = read(render(tmp_path / "other.mp4", chunks=5), None)
    assert differing(other, one) == []
    assert first_other_frame(other, one) is None


# How they look


def test_a_row_a_take_and_columns_at_equal_times(edited, tmp_path):
    longer = render(tmp_path / "longer.mp4", SHOTS[0], {**SHOTS[1], "seconds": 5})
    shown = [*takes(longer), *takes(edited)]
    write_strips(shown, tmp_path / "strip.png", columns=3, width_px=24)
    with av.open(str(tmp_path / "strip.png")) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert picture.shape == (3 * 16 + 2 * 4, 3 * 24, 3)
    times = [Fraction(3, 2), Fraction(9, 2), Fraction(15, 2)]
    for row, take in enumerate(shown):
        pictures = [pixels for _, pixels in reader.frames(take.path.with_suffix(".mp4"))] if row < 2 else []
        for column, time in enumerate(times if row == 0 else times[:2]):
            part = picture[20 * row : 20 * row + 16, 24 * column : 24 * column + 24]
            assert not pictures or (part == pictures[int(time * 12)]).all()
        assert row == 0 or (picture[20 * row : 20 * row + 16, 48:] == 255).all()


def test_without_a_chunk_there_is_no_picture(tmp_path):
    (tmp_path / "film.longvid" / "chunks").mkdir(parents=True)
    with pytest.raises(UserError, match="no picture to show yet"):
        write_strips(takes(tmp_path / "film.longvid"), tmp_path / "strip.png")


def test_a_segment_that_cannot_be_read_is_one_line(edited, tmp_path):
    (edited / "segments" / "000000.mp4").write_bytes(b"torn")
    with pytest.raises(RenderError, match=r"film\.longvid: a segment cannot be read; `longvid verify`"):
        write_strips(takes(edited), tmp_path / "strip.png")
    assert not (tmp_path / "strip.png").exists()


# Another one as the film


def test_a_take_becomes_the_film_byte_for_byte_and_back(edited, films):
    assert film(edited) == films["edited"]
    used = use(edited, "1")
    assert (used.film, used.chunks_done, used.chunks, used.aside) == (edited.with_suffix(".mp4"), 9, 9, "2")
    assert film(edited) == films["first"]
    assert names(edited) == ["1", "2"], "the current take is take 1 as well"
    assert use(edited, "2").aside is None, "take 1 holds it already"
    assert film(edited) == films["edited"]
    assert names(edited) == ["2", "1"]
    assert not verify(edited).wrong


def test_the_preview_is_the_takes(edited, films):
    preview = (edited / "preview.mp4").read_bytes()
    use(edited, "1")
    assert (edited / "preview.mp4").read_bytes() != preview
    use(edited, "2")
    assert (edited / "preview.mp4").read_bytes() == preview


def test_a_render_has_nothing_to_do_for_the_take(edited):
    use(edited, "1")
    assert nothing_to_do(edited)


def test_an_unfinished_take_is_gone_on_with(tmp_path, films):
    render(tmp_path / "film.mp4", chunks=5)
    work = render(tmp_path / "film.mp4", *EDITED)
    used = use(work, "1")
    assert used.film is None
    assert 0 < used.chunks_done < used.chunks == 9
    assert film(work) == films["edited"], "until there is another"
    assert len(list(reader.frames(work / "preview.mp4"))) == 8 * used.chunks_done
    notes = verify(work).notes
    assert not verify(work).wrong
    assert any("film.mp4: is that of another take" in note for note in notes)
    list(resumed(work))
    assert film(work) == films["first"]


def test_a_film_that_was_joined_by_another_version_is_told_anew(edited):
    """Its checksum is another then, and run.json must tell the new one."""
    run = read_sealed(edited / "takes" / "1" / "run.json")
    assert run is not None
    write_sealed(edited / "takes" / "1" / "run.json", {**run, "film": "0" * 64})
    use(edited, "1")
    assert read_sealed(edited / "run.json") == run
    assert nothing_to_do(edited)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("2", r"--use 2: .*film\.longvid has no such take; there is: 1, night-2"),
        ("night2", "did you mean night-2"),
        ("..", "has no such take"),
    ],
)
def test_a_take_that_is_not_there_is_one_line(edited, name, message):
    (edited / "takes" / "night-2").mkdir()
    with pytest.raises(UserError, match=message):
        use(edited, name)


def test_a_film_that_no_render_made_is_left_alone(edited):
    edited.with_suffix(".mp4").write_bytes(b"holiday")
    with pytest.raises(UserError, match=r"film\.mp4 is there, and no render here made it; move it away"):
        use(edited, "1")
    assert film(edited) == b"holiday"
    assert names(edited) == [None, "1"]


def test_a_take_that_is_being_rendered_is_left_alone(edited):
    with (
        locked(edited / "takes" / "1"),
        pytest.raises(LockedError, match=r"takes/1: process \d+ on .* renders"),
    ):
        use(edited, "1")
    with locked(edited), pytest.raises(LockedError, match="renders there"):
        use(edited, "1")
    assert exchange.pending(edited) is None


# Kills and full disks


class Killed(BaseException):
    """The process is no more: whatever it tries to clean up fails as well."""


CALLS = ("link", "replace", "rename", "unlink", "fsync", "mkdir", "rmdir")


def failing(patch: pytest.MonkeyPatch, nth: int, error: Callable[[], BaseException], once: bool) -> list[int]:
    """Let the nth change of the disk fail, and, but for ``once``, all that follow. Returns their count."""
    done = [0]

    def guarded(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            done[0] += 1
            if done[0] == nth or (done[0] > nth and not once):
                raise error()
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        patch.setattr(os, name, guarded(getattr(os, name)))
    return done


def resumed(work: Path) -> Iterator[Event]:
    """`longvid resume`."""
    request = read_request(work)
    yield from rendering.events(
        request.plan(TinyBackend()),
        TinyBackend(),
        work.with_suffix(".mp4"),
        device="cpu",
        dtype="float32",
        request=request,
    )


def nothing_to_do(work: Path) -> bool:
    *_, last = resumed(work)
    return isinstance(last, Done) and last.seconds == 0


def changes(edited: Path, patch: pytest.MonkeyPatch, tmp_path: Path) -> int:
    work = copied(edited, tmp_path / "count")
    with patch.context() as counting:
        done = failing(counting, 10**9, OSError, once=True)
        use(work, "1")
    return done[0]


@pytest.mark.parametrize("kind", ["killed", "refused"])
def test_a_kill_or_a_refusal_at_any_change_of_the_disk_leaves_both_takes_whole(tmp_path, monkeypatch, kind):
    short = [{**SHOTS[0], "seconds": "32f"}, {**SHOTS[1], "seconds": "8f"}]
    films = {"first": film(render(tmp_path / "film.mp4", *short))}
    edited = render(tmp_path / "film.mp4", short[0], {**short[1], "prompt": "a storm"})
    films["edited"] = film(edited)
    count = changes(edited, monkeypatch, tmp_path)
    assert count > 50
    for nth in range(1, count + 1):
        work = copied(edited, tmp_path / str(nth))
        with monkeypatch.context() as patch, suppress(Killed, RenderError, UserError):
            error = Killed if kind == "killed" else lambda: OSError(28, "No space left on device")
            failing(patch, nth, error, once=kind == "refused")
            use(work, "1")
        wrong = [found.file for found in verify(work).wrong]
        assert not [file for file in wrong if file.is_relative_to(work / "takes")], nth
        if nth % 3 == 0:
            # Whichever take it is by now, it is whole, and not a step has to be made again.
            assert not any(isinstance(event, Stepped) for event in resumed(work)), nth
            assert film(work) in films.values()
        use(work, "1")
        assert film(work) == films["first"], nth
        other = next(take.name for take in takes(work) if take.name != "1")
        assert other is not None
        use(work, other)
        assert film(work) == films["edited"], nth


def test_an_exchange_that_was_broken_off_can_be_taken_elsewhere(edited, films):
    use(edited, "1")
    write_sealed(edited / exchange.FILE, {"take": "2"})
    (edited / "chunks" / "000003.json").unlink()
    assert exchange.pending(edited) == edited / "takes" / "2"
    use(edited, "1")
    assert film(edited) == films["first"]
    assert exchange.pending(edited) is None
    assert sorted(path.name for path in (edited / "takes").iterdir()) == ["1", "2"], "the half is no take"


def test_an_exchange_whose_file_is_damaged_says_what_helps(edited):
    (edited / exchange.FILE).write_text("{}")
    for command in (lambda: list(resumed(edited)), lambda: exchange.finish(edited)):
        with pytest.raises(UserError, match=r"exchange\.json: is damaged; `longvid takes .* --use NAME`"):
            command()
    use(edited, "1")
    assert not verify(edited).wrong
