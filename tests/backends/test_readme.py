"""The model that longvid/backends/README.md adds, installed as the page says: a backend, and its film."""

from __future__ import annotations

import configparser
import hashlib
import re
import sys
import tomllib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

import longvid
from longvid import backends, plugins
from longvid.backends.contract import check_backend
from longvid.errors import UserError
from longvid.plan import plan
from longvid.timeline import load
from longvid.video import reader

PAGE = Path(backends.__file__).with_name("README.md").read_text("utf-8")
TIMELINES = Path(__file__).parents[2] / "timelines"


def block(language: str) -> str:
    """The page's one block in this language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder with the page's film, and the page's package installed."""
    packages = tmp_path / "packages"
    info = packages / "aurora-0.dist-info"
    info.mkdir(parents=True)
    (packages / "aurora.py").write_text(block("python"), "utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: aurora\nVersion: 0\n")
    entries = configparser.ConfigParser()
    entries.read_dict(tomllib.loads(block("toml"))["project"]["entry-points"])
    with (info / "entry_points.txt").open("w") as file:
        entries.write(file)
    (tmp_path / "lights.yaml").write_text(block("yaml"), "utf-8")
    monkeypatch.syspath_prepend(str(packages))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("aurora", None)


def test_the_example_is_a_backend(folder: Path) -> None:
    assert "aurora" in plugins.registered()
    check_backend(plugins.backend("aurora"))


def test_the_example_names_what_it_does_not_know(folder: Path) -> None:
    assert plugins.backend("aurora").unknown_words("green lights over violet hills") == [
        "lights",
        "over",
        "hills",
    ]


def test_the_example_has_no_checkpoints(folder: Path) -> None:
    (folder / "longvid.json").write_text('{"backend": "aurora"}')
    with pytest.raises(UserError, match="aurora has no weights to load"):
        plugins.backend("./")


def test_films_for_other_models_plan_on_it(folder: Path) -> None:
    aurora = plugins.backend("aurora")
    for path in TIMELINES.glob("*.yaml"):
        assert plan(load(path), aurora).model == "aurora"


def test_the_example_renders_its_film_in_its_colours(folder: Path) -> None:
    film = longvid.render("lights.yaml", device="cpu")
    assert film == Path("lights.mp4")
    header = reader.header(film)
    assert (header.frames, header.fps, header.size) == (72, Fraction(12), (320, 192))
    red, green, blue = zip(*(pixels.mean((0, 1)) for _, pixels in reader.frames(film)), strict=True)
    assert all(green[i] > red[i] and green[i] > blue[i] for i in range(36))
    assert all(green[i] < red[i] and green[i] < blue[i] for i in range(60, 72))
    switch = [green[i] for i in range(36, 61, 6)]
    assert switch == sorted(switch, reverse=True), "a blend goes from one prompt to the next"

    again = longvid.render("lights.yaml", "again.mp4", device="cpu")
    other = longvid.render("lights.yaml", "other.mp4", device="cpu", seed=4)
    one, same, different = (hashlib.sha256(path.read_bytes()).digest() for path in (film, again, other))
    assert one == same != different
