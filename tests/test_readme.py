"""The README's films plan, its Python renders, and what it mentions is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import pytest
from typer.core import TyperGroup
from typer.main import get_command

import longvid
from longvid import datasets
from longvid.backends.diorama import Diorama
from longvid.cli import app
from longvid.document import parse
from longvid.plan import RenderPlan, plan
from longvid.timeline import build, load
from longvid.video import reader

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = (README, ROOT / "longvid" / "backends" / "README.md")
CLI = cast(TyperGroup, get_command(app))

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, *languages: str) -> list[str]:
    """The contents of the page's code blocks in these languages; "" is a block that names none."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [text for language, text in fenced if language in languages]


def spans(page: Path) -> list[str]:
    """The page's code spans, in text outside its blocks."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


def shell_lines(page: Path) -> Iterator[str]:
    """Command lines of console and plain blocks, and code spans: whole, without prompt and comment."""
    shown = "\n".join(blocks(page, "", "console")).replace("\\\n", " ")
    for line in [*shown.splitlines(), *spans(page)]:
        yield line.removeprefix("$ ").split(" #")[0].strip()


# Films

FILMS = [text for text in blocks(README, "yaml") if re.search(r"^shots:", text, re.MULTILINE)]


def planned(text: str) -> RenderPlan:
    return plan(build(*parse(text)), Diorama())


@pytest.mark.parametrize("text", FILMS)
def test_a_film_plans_in_words_that_the_model_knows(text: str) -> None:
    assert [shot.unknown_words for shot in planned(text).shots] == [()] * len(planned(text).shots)


def test_a_film_shown_under_its_file_is_that_film() -> None:
    shown = re.findall(
        r"\]\((timelines/\S+\.yaml)\)[^\n]*:\n\n```yaml\n(.*?)^```$",
        README.read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    assert "timelines/demo.yaml" in dict(shown)
    for name, text in shown:
        here, there = planned(text), plan(load(ROOT / name), Diorama())
        assert (here.prompts, here.negatives, here.units) == (there.prompts, there.negatives, there.units)


def test_there_is_a_film() -> None:
    assert FILMS


def test_the_python_example_renders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = [block for block in blocks(README, "python") if "longvid.render(" in block]
    asked: list[dict[str, Any]] = []
    films: list[Path] = []
    render = longvid.render

    def recorded(source: dict[str, Any], *args: Any, **keys: Any) -> Path:
        asked.append(source)
        films.append(render(source, *args, **keys))
        return films[-1]

    monkeypatch.setattr(longvid, "render", recorded)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    (timeline,), (film,) = asked, films
    assert reader.header(film).frames == plan(build(timeline), Diorama()).frames
    assert sum(1 for _ in reader.frames(film)) == sum(12 * shot["seconds"] for shot in timeline["shots"])


def test_the_dataset_of_the_python_example_is_one() -> None:
    (code,) = [block for block in blocks(README, "python") if "longvid.datasets" in block]
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    spec = datasets.DatasetSpec((192, 128), Fraction(12), 16, 16, 5, clips=3, seed=1)
    dataset = names["boats"](spec)
    assert len(dataset) == 3
    for index in range(3):
        assert datasets.captions("boats", dataset, index) == (("a red boat",) * 5, (True,) * 5)
        datasets.check(dataset.clip(index), spec, 5)


# Mentions


@pages
def test_every_command_and_its_options_exist(page: Path) -> None:
    seen = 0
    for line in shell_lines(page):
        if not (found := re.match(r"(?:\S*/)?longvid +(.+)", line)):
            continue
        seen += 1
        name, *rest = found[1].split()
        known = CLI if name.startswith("-") else CLI.commands.get(name)
        assert known is not None, f"{page}: there is no `longvid {name}`"
        options = {"--help", "-h"}.union(*(option.opts + option.secondary_opts for option in known.params))
        for word in [name, *rest]:
            flag = word.split("=")[0]
            assert not flag.startswith("-") or flag in options, f"{page}: `{line}` has no {flag}"
    assert seen


@pages
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in shell_lines(page):
        if found := re.match(r"make +(.+)", line):
            for word in found[1].split():
                assert word in targets or "=" in word, f"{page}: there is no `make {word}`"


def test_the_two_commands_are_there() -> None:
    assert {"make demo", "make test"} <= set(shell_lines(README))


@pages
def test_every_path_exists(page: Path) -> None:
    """Where a link leads, and what begins with one of the repository's own folders."""
    text = page.read_text("utf-8")
    linked = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    linked += [link for link in re.findall(r"(?:src|href)=\"([^\"#]+)\"", text) if "://" not in link]
    for link in linked:
        assert (page.parent / link).exists(), f"{page}: the link {link} leads nowhere"
    folders = "docs|longvid|tests|timelines"
    code = "\n".join([*blocks(page, "", "console", "yaml"), *spans(page)])
    for path in re.findall(rf"(?<![\w./-])((?:{folders})/[\w./-]*[\w/])", code):
        assert (ROOT / path).exists(), f"{page}: there is no {path}"
