"""`--freeze` keeps what is finished before an edit, `--from --as` branches, `--watch` takes edits over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from longvid import files
from tests.installed import environment, install_tiny
from tests.planning import longvid
from tests.video import clips

FILM = {
    "model": "tiny",
    "seed": 3,
    "shots": [{"prompt": "a red boat", "seconds": 4}, {"prompt": "the sea", "seconds": 4}],
}


@pytest.fixture
def film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(install_tiny(tmp_path / "plugins")))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write(FILM)
    return tmp_path / "here"


def write(content: object) -> None:
    """Saved as editors do: whole, under its own name."""
    Path("next.yaml").write_text(json.dumps(content))
    os.replace("next.yaml", "film.yaml")


def shots(*prompts: str) -> dict[str, object]:
    return FILM | {"shots": [{"prompt": prompt, "seconds": 4} for prompt in prompts]}


def checksums(work: str, folder: str) -> list[str]:
    return [files.checksum(path) for path in sorted((Path(work) / folder).glob("[0-9]*"))]


def test_freeze_keeps_every_finished_chunk_before_the_edited_shot(film: Path) -> None:
    assert longvid("render", "film.yaml", "-q").code == 0
    before, segments = checksums("film.longvid", "latents"), checksums("film.longvid", "segments")
    write(shots("a red boat", "a storm"))
    ran = longvid("render", "film.yaml", "--freeze", "--progress", "plain")
    assert ran.code == 0, ran.err
    assert "keeps 6 of 12 chunks" in ran.err and "again" not in ran.err
    after = checksums("film.longvid", "latents")
    assert after[:6] == before[:6] and not set(after[6:]) & set(before[6:])
    assert checksums("film.longvid", "segments")[:6] == segments[:6]
    # It is there already, and without --freeze it is another film.
    again = longvid("resume", "film.longvid", "--progress", "plain")
    assert (again.code, again.err.splitlines()[-1]) == (0, "0:08 of film is there already, nothing to do")
    plain = longvid("render", "film.yaml", "-q")
    assert plain.code == 0 and checksums("film.longvid", "latents")[2:6] != before[2:6]


def test_freeze_without_anything_to_keep_is_any_render(film: Path) -> None:
    """From its clip or its picture, if it starts from one."""
    clips.picture(Path("boat.png"), "png")
    write({**FILM, "start_from": "boat.png"})
    for name, flags in (("one.mp4", ()), ("other.mp4", ("--freeze",))):
        assert longvid("render", "film.yaml", *flags, "-o", name, "-q").code == 0
    assert Path("one.mp4").read_bytes() == Path("other.mp4").read_bytes()
    clips.clip(Path("clip.mp4"), frames=30)
    write({**FILM, "start_from": "clip.mp4"})
    for name, flags in (("three.mp4", ()), ("four.mp4", ("--freeze",))):
        assert longvid("render", "film.yaml", *flags, "-o", name, "-q").code == 0
    assert Path("three.mp4").read_bytes() == Path("four.mp4").read_bytes()


def test_freeze_of_all_renders_nothing(film: Path) -> None:
    assert longvid("render", "film.yaml", "-q").code == 0
    before = checksums("film.longvid", "latents"), checksums("film.longvid", "segments")
    ran = longvid("render", "film.yaml", "--freeze", "--progress", "plain")
    assert ran.code == 0, ran.err
    assert "keeps 12 of 12 chunks (0:08), renders 0" in ran.err
    assert (checksums("film.longvid", "latents"), checksums("film.longvid", "segments")) == before


def test_what_freeze_cannot_keep_is_told(film: Path) -> None:
    assert longvid("render", "film.yaml", "-q").code == 0
    before = checksums("film.longvid", "latents")
    write({**FILM, "size": [32, 32]})
    ran = longvid("render", "film.yaml", "--freeze")
    assert (ran.code, ran.err.splitlines()[-1]) == (
        2,
        "error: film.longvid: its chunks cannot be kept (other size)",
    )
    ran = longvid("render", "film.yaml", "--freeze", "--watch")
    assert ran.code == 2 and "--freeze: keeps what is finished once" in ran.err
    assert checksums("film.longvid", "latents") == before


def test_a_branch_shares_what_it_has_in_common_and_leaves_the_film_alone(film: Path) -> None:
    assert longvid("render", "film.yaml", "-q").code == 0
    whole, before = Path("film.mp4").read_bytes(), checksums("film.longvid", "latents")
    ran = longvid("render", "film.yaml", "--from", "0:06", "--as", "rainy", "--seed", 9, "-q")
    assert (ran.code, ran.out) == (0, "film.longvid/takes/rainy.mp4\n"), ran.err
    assert Path("film.mp4").read_bytes() == whole and checksums("film.longvid", "latents") == before
    take = checksums("film.longvid/takes/rainy", "latents")
    first = 9 - 3  # the chunk at 6 s, less those that share its window
    assert take[:first] == before[:first] and not set(take[first:]) & set(before[first:])
    one, other = (
        Path(work) / "latents" / "000000.safetensors" for work in ("film.longvid", "film.longvid/takes/rainy")
    )
    assert one.samefile(other)
    # The same film as with these seeds from the start, and it goes on like any other.
    resumed = longvid("resume", "film.longvid/takes/rainy", "--progress", "plain")
    assert resumed.code == 0 and resumed.err.splitlines()[-1].endswith("there already, nothing to do")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--from", "0:06"), "--from and --as go together"),
        (("--as", "x"), "--from and --as go together"),
        (("--from", "soon", "--as", "x"), "--from: 'soon' is not a time"),
        (("--from", "1:00", "--as", "x"), "--from 1:00: the film ends at 0:08"),
        (("--from", "0:06", "--as", "../x"), "--as ../x: a take's name is letters"),
        (("--from", "0:06", "--as", "7"), "--as 7: a take's name is letters"),
        (("--from", "0:06", "--as", "x"), "film.longvid: nothing is finished there to branch from"),
    ],
)
def test_what_no_branch_can_be_is_one_line(film: Path, flags: tuple[str, ...], message: str) -> None:
    ran = longvid("render", "film.yaml", *flags, "-q")
    assert ran.code == 2 and message in ran.err
    assert os.listdir() == ["film.yaml"]


def test_a_watched_film_takes_edits_over_and_goes_on_for_ever(film: Path) -> None:
    write(shots("a red boat", *["the sea"] * 20))
    command = [sys.executable, "-m", "longvid", "render", "film.yaml", "--watch", "--progress", "json"]
    run = subprocess.Popen(
        command,
        env=environment(film.parent / "plugins"),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stderr is not None
    told: list[str] = []

    def until(wanted: str) -> None:
        for line in run.stderr or ():
            event = json.loads(line)
            if event["event"] == "noted":
                told.append(event["text"])
            if wanted in line:
                return
        raise AssertionError(f"{wanted!r} was never said; {told}")

    until('"chunk": 3')
    late = shots("a red boat", *["the sea"] * 19, "a storm")
    write(late)
    until("the edit is taken over")
    write(shots("a white boat", *["the sea"] * 19, "a storm"))
    until("is not taken over")
    Path("film.yaml").write_text("shots: nothing")
    until("until that is mended")
    write(late)
    until("watching film.yaml")
    longer = shots("a red boat", *["the sea"] * 19, "a storm", "a city")
    write(longer)
    until("keeps ")
    until("watching film.yaml")
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert run.returncode == 0
    watched = Path("film.mp4").read_bytes()
    assert longvid("render", "film.yaml", "--fresh", "-q").code == 0
    assert Path("film.mp4").read_bytes() == watched


def test_a_branch_that_is_refused_leaves_nothing(film: Path) -> None:
    assert longvid("render", "film.yaml", "-q").code == 0
    write(FILM | {"fps": 24})
    ran = longvid("render", "film.yaml", "--from", "4", "--as", "rainy")
    assert ran.code == 2 and "nothing can be kept" in ran.err
    assert not list(Path("film.longvid/takes").iterdir())
    assert longvid("verify", "film.longvid", "-q").code == 0
