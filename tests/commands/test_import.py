# ruff: noqa: E501 (a table of examples reads by the line)
import os
import subprocess
import sys
from pathlib import Path

import pytest

from longvid import timeline
from tests.planning import longvid

SCHEDULE = '{"0": "a boat",\n "48": "a (storm:1.2)"}'
WRITTEN = """\
# From Deforum: my film.json, by `longvid import`.
# Differs from it:
# - line 2: weights such as (word:1.2) or ((word)) are left out: the words stay

fps: 24

shots:
  - at: 0
    prompt: a boat

  - at: 2                  # frame 48
    prompt: a storm
    until: 6               # frame 144
"""


@pytest.fixture
def schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    file = Path("in") / "my film.json"
    file.write_text(SCHEDULE)
    return file


def test_a_timeline_is_written_here(schedule: Path) -> None:
    ran = longvid("import", schedule, "--fps", 24, "--seconds", 6)
    assert (ran.code, ran.out) == (
        0,
        "wrote my film.yaml; see what it becomes: longvid plan 'my film.yaml'\n",
    )
    assert ran.err == (
        "in/my film.json: line 2: weights such as (word:1.2) or ((word)) are left out: the words stay\n"
    )
    assert Path("my film.yaml").read_text() == WRITTEN
    assert timeline.load(Path("my film.yaml")).fps == 24
    assert sorted(os.listdir()) == ["in", "my film.yaml"]
    assert longvid("plan", "my film.yaml", "--model", "opensora-v1.2").code == 0


def test_it_is_printed(schedule: Path) -> None:
    ran = longvid("import", schedule, "--fps", "24", "--seconds", "0:06", "-o", "-")
    assert (ran.code, ran.out) == (0, WRITTEN)
    assert os.listdir() == ["in"]


def test_a_file_is_replaced_only_when_asked(schedule: Path) -> None:
    Path("my film.yaml").write_text("mine")
    ran = longvid("import", schedule)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "error: my film.yaml: is there already; --overwrite replaces it, --output writes elsewhere\n"
    )
    assert Path("my film.yaml").read_text() == "mine"
    assert longvid("import", schedule, "--overwrite").code == 0
    assert Path("my film.yaml").read_text().startswith("# From Deforum")


def test_the_schedule_itself_is_never_replaced(schedule: Path) -> None:
    ran = longvid("import", schedule, "-o", schedule, "--overwrite")
    assert (ran.code, ran.err) == (
        2,
        f"error: {schedule}: is the schedule itself; write elsewhere with --output\n",
    )
    assert schedule.read_text() == SCHEDULE


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("-o", "in"), "--output in: is a folder; name a file in it, as in/film.yaml"),
        (("-o", "x" * 300), f"{'x' * 300}: cannot write there: File name too long; choose another folder with --output"),
        (("-o", "no/film.yaml"), "--output no/film.yaml: there is no folder no; make it first"),
        (("--fps", "0"), "--fps: 0 is out of range; 1 to 240 frames a second"),
        (("--fps", "fast"), "--fps: 'fast' is not a number of frames a second, such as 24 or 30000/1001"),
        (("--fps", "nan"), "--fps: nan is not a number of frames a second, such as 24 or 30000/1001"),
        (("--seconds", "soon"), "--seconds: 'soon' is not a time; write seconds, 1m30s, 0:01:30.5 or 120f"),
        (("--seconds", "0"), "--seconds: '0' is no length; above 0"),
        (("--model", "dioramo"), "--model: no model 'dioramo'; did you mean diorama? Installed: diorama, ltx-video, modelscope-1.7b, opensora-v1.2, skyreels-v2-1.3b, skyreels-v2-14b, wan-2.2-5b"),
        (("--format", "framepack"), "in/my film.json: holds no timed prompt; one reads [2s: text] or [0s-2s: text]"),
    ],
)  # fmt: skip
def test_mistakes_write_nothing(schedule: Path, args: tuple[str, ...], message: str) -> None:
    ran = longvid("import", schedule, *args)
    assert (ran.code, ran.out, ran.err) == (2, "", f"error: {message}\n")
    assert os.listdir() == ["in"] and os.listdir("in") == ["my film.json"]


def test_a_format_that_is_none(schedule: Path) -> None:
    ran = longvid("import", schedule, "--format", "mocha")
    assert ran.code == 2 and "mocha" in ran.err and "fizznodes" in ran.err


def test_diorama_renders_what_is_imported(schedule: Path) -> None:
    assert longvid("import", schedule, "--fps", 15, "--model", "diorama").code == 0
    film = timeline.load(Path("my film.yaml"))
    assert (film.model, film.fps) == ("diorama", None)
    ran = longvid("plan", "my film.yaml", "--json")
    assert ran.code == 0 and '"frames": 77' in ran.out


def test_its_help_shows_every_form() -> None:
    ran = longvid("import", "--help")
    assert ran.code == 0
    for form in ('{"0": "...", "48": "..."}', "[0s-2s: ...] [2s: ...]", "[0%:25%]", "/duration=5s"):
        assert form in ran.out


def test_it_loads_nothing_heavy(schedule: Path) -> None:
    code = (
        "import sys\nfrom longvid.cli import main\n"
        f"try:\n    main(['import', {str(schedule)!r}, '-o', '-', '--model', 'diorama'])\n"
        "except SystemExit as stop:\n    assert not stop.code\n"
        "print(*({'torch', 'numpy', 'av', 'PIL'} & set(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr.splitlines()[-1] == ""
