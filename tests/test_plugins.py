import json
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from longvid import plugins
from longvid.document import Source
from longvid.errors import UserError
from longvid.memory import Card
from longvid.timeline import build
from tests.planning import PlanBackend

ALL = " Installed: broken, diorama, planned"


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two backends that can be loaded, and one that cannot."""
    found = EntryPoints(
        EntryPoint(name, value, plugins.GROUP)
        for name, value in {
            "diorama": "tests.planning:backend",
            "planned": "tests.planning:backend",
            "broken": "no_such_package:backend",
        }.items()
    )
    monkeypatch.setattr(plugins, "entry_points", lambda **wanted: found.select(**wanted))


def film(model: str | None = None, folder: Path = Path()) -> Any:
    data = {"shots": [{"prompt": "a", "seconds": 2}]} | ({"model": model} if model else {})
    return build(data, Source("film.yaml", folder, {(): 1, ("model",): 3}))


def checkpoint(folder: Path, described: str) -> Path:
    folder.mkdir()
    (folder / "longvid.json").write_text(described)
    return folder


def test_the_default() -> None:
    choice = plugins.choose(film())
    assert choice.backend.name == "planned"
    assert str(choice) == "model planned (the default; `model:` or --model names another)"


CARD = Card(0, "GPU-1", "a card", 24 << 30, 23 << 30)


@pytest.mark.parametrize(
    ("weights", "cards", "chosen"),
    [(True, [CARD], "best"), (False, [CARD], "planned"), (True, [], "planned"), (False, [], "planned")],
)
def test_the_default_is_the_best_one_that_can_run_here(
    monkeypatch: pytest.MonkeyPatch, weights: bool, cards: list[Card], chosen: str
) -> None:
    best = PlanBackend(name="best")
    monkeypatch.setattr(PlanBackend, "missing_files", lambda self: [] if weights else ["model.safetensors"])
    monkeypatch.setattr(plugins, "cards", lambda: cards)
    load = plugins._factory
    monkeypatch.setattr(
        plugins, "_factory", lambda name: (lambda folder: best) if name == "opensora-v1.2" else load(name)
    )
    with_card = " with a CUDA card" if chosen == "best" else ""
    assert str(plugins.choose(film())) == (
        f"model {chosen} (the default{with_card}; `model:` or --model names another)"
    )
    assert plugins.choose(film("planned")).backend.name == "planned"


def test_without_a_folder_for_models_the_default_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(self: PlanBackend) -> list[str]:
        raise UserError("there is no home folder for models; set XDG_DATA_HOME to a folder")

    monkeypatch.setattr(PlanBackend, "missing_files", homeless)
    monkeypatch.setattr(plugins, "BEST", "planned")
    assert plugins.choose(film()).by.startswith("the default; ")


def test_a_name() -> None:
    assert plugins.registered() == ["broken", "diorama", "planned"]
    assert str(plugins.choose(film("planned"))) == "model planned (named in film.yaml)"
    assert str(plugins.choose(film("nothing"), "planned")) == "model planned (named by --model)"


def test_a_folder_says_which_backend_reads_it(tmp_path: Path) -> None:
    big = checkpoint(tmp_path / "big", json.dumps({"backend": "planned", "steps": 9}))
    assert plugins.backend(str(big)).name == str(big)
    assert plugins.choose(film("./big", tmp_path)).backend.name == str(tmp_path / "big")


def test_a_folder_of_a_flag_is_relative_to_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(tmp_path / "big", json.dumps({"backend": "planned"}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert plugins.choose(film("planned", Path("elsewhere")), "./big").backend.name == "big"
    assert plugins.backend("~/big").name == str(tmp_path / "big")


@pytest.mark.parametrize(
    ("model", "folder"),
    [("a", False), ("a.b", False), ("./a", True), ("a/b", True), ("a\\b", True), (".a", True), ("~a", True)],
)
def test_what_is_a_folder(model: str, folder: bool) -> None:
    assert plugins.is_folder(model) is folder


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("planed", "no model 'planed'; did you mean planned?"),
        ("sora", "no model 'sora'; did you mean diorama?"),
        (
            "xyz",
            "no model 'xyz'; a folder is written with a slash, as ./xyz.",
        ),
        ("broken", "the model broken cannot be loaded: No module named 'no_such_package'"),
        (
            "./none",
            "there is no folder none; a model's name has no slash.",
        ),
        (
            "~no-such-user/model",
            "there is no folder ~no-such-user/model; a model's name has no slash.",
        ),
        (
            f"./{'x' * 300}",
            f"there is no folder {'x' * 300}; a model's name has no slash.",
        ),
    ],
)
def test_what_is_no_model(model: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        plugins.choose(film(model))
    assert str(error.value).removesuffix(ALL) == f"film.yaml:3: model: {message}"
    with pytest.raises(UserError) as error:
        plugins.choose(film(), model)
    assert str(error.value).removesuffix(ALL) == f"--model: {message}"


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (
            None,
            "holds no longvid.json, which says what reads it; write one there, "
            'as {"backend": "opensora-v1.2"}',
        ),
        ("{", 'longvid.json does not read {"backend": "a model\'s name"}'),
        ("[]", 'longvid.json does not read {"backend": "a model\'s name"}'),
        ("{}", 'longvid.json does not read {"backend": "a model\'s name"}'),
        ('{"backend": 1}', 'longvid.json does not read {"backend": "a model\'s name"}'),
        ('{"backend": "planed"}', "no model 'planed'; did you mean planned?"),
    ],
)
def test_what_is_no_checkpoint(tmp_path: Path, described: str | None, message: str) -> None:
    if described is not None:
        (tmp_path / "longvid.json").write_text(described)
    with pytest.raises(UserError) as error:
        plugins.backend(str(tmp_path))
    assert message in str(error.value)


def test_the_installed_backends_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert {"diorama", "opensora-v1.2"} <= set(plugins.registered())
