import io
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import typer

from longvid import __version__
from longvid.cli import app, main
from longvid.errors import LockedError, RenderError, UserError
from tests.planning import longvid


def test_version() -> None:
    assert longvid("--version").out == f"longvid {__version__}\n"
    assert longvid("--version").code == 0


def test_every_command_has_help() -> None:
    ran = longvid("--help")
    assert ran.code == 0
    for command in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        assert f" {command} " in ran.out
        assert longvid(command, "--help").code == 0


def test_help_lists_the_commands_in_the_order_of_work_one_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = longvid("--help").out
    listed = shown[shown.index("Commands") :].splitlines()[1:]
    rows = [line.strip("│ ") for line in listed if line.startswith("│")]
    order = "new import plan render resume takes verify clean extend finish finetune evaluate compare schema"
    assert [row.split()[0] for row in rows] == [*order.split(), "bench", "doctor", "models"]
    assert all(row.endswith(".") for row in rows)


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (UserError("film.yaml:7: wrong"), 2, "error: film.yaml:7: wrong\n"),
        (RenderError("the disk is full"), 1, "error: the disk is full\n"),
        (LockedError("busy"), 3, "error: busy\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_went_wrong_is_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, said: str
) -> None:
    def load(path: Path) -> None:
        raise raised

    monkeypatch.setattr("longvid.timeline.load", load)
    ran = longvid("plan", "film.yaml")
    assert (ran.code, ran.out, ran.err) == (code, "", said)


def test_a_bug_is_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: Path) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("longvid.timeline.load", load)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        longvid("plan", "film.yaml")


@pytest.mark.parametrize(("encoding", "spelt"), [("cp1251", r"\xfc"), ("utf-8", "ü")])
def test_what_the_terminal_cannot_spell_is_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, spelt: str
) -> None:
    monkeypatch.chdir(tmp_path)
    raw = io.BytesIO()
    terminal = io.TextIOWrapper(raw, encoding, write_through=True)
    with redirect_stdout(terminal), pytest.raises(SystemExit) as stop:
        main(["new", "\udcffü.yaml"])
    assert not stop.value.code
    assert raw.getvalue().decode(encoding).startswith(r"wrote \udcff" + spelt + ".yaml; ")


@pytest.mark.parametrize(
    "args", [["plan"], ["paln"], ["plan", "a.yaml", "--seed", "x"], ["plan", "a.yaml", "--sed"]]
)
def test_wrong_arguments_exit_with_two(args: list[str]) -> None:
    ran = longvid(*args)
    assert (ran.code, ran.out) == (2, "")
    assert "Traceback" not in ran.err


def test_a_full_disk_behind_stdout_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "film.yaml").write_text("shots: [{prompt: a red boat, seconds: 2}]")
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "longvid", "plan", tmp_path / "film.yaml"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ran.returncode == 1
    assert ran.stderr == "error: the output cannot be written: No space left on device\n"


def test_as_a_module_and_quickly() -> None:
    """Help must not wait for torch."""
    run = [sys.executable, "-X", "importtime", "-m", "longvid", "--help"]
    ran = subprocess.run(run, capture_output=True, text=True, check=True)
    assert "Long films from a timeline of prompts" in ran.stdout
    imported = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert "longvid.cli" in imported
    assert not {"torch", "numpy", "av"} & imported
