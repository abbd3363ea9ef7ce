"""What went wrong is an exit code and one line, for every program alike."""

from __future__ import annotations

import pytest

from longvid.errors import LockedError, RenderError, UserError
from longvid.exits import reported


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (UserError("film.mp4: wrong"), 2),
        (RenderError("film.mp4: wrong"), 1),
        (LockedError("film.mp4: wrong"), 3),
    ],
)
def test_what_a_person_can_mend_is_one_line(
    raised: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop, reported():
        raise raised
    assert stop.value.code == code
    assert capsys.readouterr() == ("", "error: film.mp4: wrong\n")


@pytest.mark.parametrize("raised", [ZeroDivisionError("a bug"), PermissionError(13, "a bug")])
def test_a_bug_stays_one(raised: Exception) -> None:
    with pytest.raises(type(raised), match="a bug"), reported():
        raise raised


def test_what_goes_well_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with reported():
        print("done")
    assert capsys.readouterr() == ("done\n", "")
