from pathlib import Path

from longvid.commands.new import STARTER
from tests.planning import longvid


def test_a_starter_is_written(tmp_path: Path) -> None:
    film = tmp_path / "my film.yaml"
    ran = longvid("new", film)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"wrote {film}; see what it becomes: longvid plan '{film}'\n"
    assert film.read_text() == STARTER


def test_a_file_is_never_overwritten(tmp_path: Path) -> None:
    film = tmp_path / "film.yaml"
    film.write_text("mine")
    ran = longvid("new", film)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"error: {film}: is there already; give another name\n"
    assert film.read_text() == "mine"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    ran = longvid("new", tmp_path / "no" / "film.yaml")
    assert (ran.code, ran.err) == (
        2,
        f"error: {tmp_path}/no/film.yaml: there is no folder {tmp_path}/no; make it first\n",
    )


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    ran = longvid("new", tmp_path)
    assert (ran.code, ran.err) == (2, f"error: {tmp_path}: is there already; give another name\n")
