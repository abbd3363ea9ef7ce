"""Open-Sora's folder as training writes it: its own transformer, and where the rest is found."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from longvid import downloads, plugins
from longvid.backends import FilmSpec
from longvid.backends.opensora import NAME, OpenSora
from longvid.backends.opensora.config import transformer_size
from longvid.backends.opensora.folder import save
from longvid.video import reader
from tests.backends.opensora.tiny import write_tiny_opensora
from tests.planning import longvid
from tests.tiny import RUNTIME

SPEC = FilmSpec((48, 32), Fraction(24), 2, {})
FILM = """
model: ./mine
size: [48, 32]
window: 2
steps: 2
shots: [{prompt: a red boat on a calm sea, seconds: 1}]
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


def trained(folder: Path) -> dict[str, torch.Tensor]:
    """The parameters of the model in ``folder`` a little further on, saved as ``mine``."""
    trainee = OpenSora(folder).for_film(SPEC, RUNTIME).trainee()
    weights = {name: weight.detach() * 1.01 for name, weight in trainee.network.named_parameters()}
    trainee.save(Path("mine"), weights)
    return weights


def fetch(here: Path) -> Path:
    """A tiny one where the fetched weights lie, with all the files that are fetched."""
    folder = write_tiny_opensora(downloads.folder(NAME))
    text = folder / "text_encoder"
    first, second = (text / f"model-0000{n}-of-00002.safetensors" for n in (1, 2))
    index = {name: first.name for name in load_file(text / "model.safetensors")}
    (text / "model.safetensors").rename(first)
    second.touch()
    (text / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (text / name).write_text("{}")
    return folder


def check_and_render() -> None:
    checked = longvid("models", "check", "./mine")
    assert (checked.code, checked.out) == (0, f"{NAME} in mine: good\n"), checked.out
    Path("film.yaml").write_text(FILM)
    ran = longvid("render", "film.yaml", "--device", "cpu", "--dtype", "float32", "-q")
    assert (ran.code, ran.out) == (0, "film.mp4\n"), ran.err
    assert sum(1 for _ in reader.frames(Path("film.mp4"))) == 24


def test_from_a_folder_of_ones_own(here: Path) -> None:
    folder = write_tiny_opensora(here / "tiny")
    weights = trained(folder)
    for part in ("vae", "text_encoder"):
        files = sorted(path.name for path in (folder / part).iterdir())
        assert files == sorted(path.name for path in Path("mine", part).iterdir())
        assert all(Path("mine", part, name).samefile(folder / part / name) for name in files)
    stored = load_file(Path("mine/transformer/model.safetensors"))
    caption = load_file(folder / "transformer/model.safetensors")["y_embedder.y_embedding"]
    assert torch.equal(stored["y_embedder.y_embedding"], caption)
    assert stored.keys() == weights.keys() | {"y_embedder.y_embedding"}
    assert all(torch.equal(stored[name], weights[name]) for name in weights)
    assert transformer_size(Path("mine/transformer/config.json")) == OpenSora(folder).transformer_size()
    assert isinstance(plugins.backend("./mine"), OpenSora)
    check_and_render()


def test_from_the_fetched_weights(here: Path) -> None:
    trained(fetch(here))
    assert sorted(path.name for path in Path("mine").iterdir()) == [plugins.FOLDER_FILE, "transformer"]
    check_and_render()


def test_a_vae_of_ones_own_beside_the_fetched_text_encoder(here: Path) -> None:
    fetched = fetch(here)
    (here / "own").mkdir()
    for part in ("transformer", "vae"):
        (fetched / part).rename(here / "own" / part)
    trained(here / "own")
    assert sorted(path.name for path in Path("mine").iterdir()) == [
        plugins.FOLDER_FILE,
        "transformer",
        "vae",
    ]
    check_and_render()


def test_from_shards(here: Path) -> None:
    folder = write_tiny_opensora(here / "tiny") / "transformer"
    index = {name: "one.safetensors" for name in load_file(folder / "model.safetensors")}
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    trained(here / "tiny")
    assert sorted(path.name for path in Path("mine/transformer").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    check_and_render()


def test_a_random_one_is_saved_with_its_sizes(here: Path) -> None:
    """`--random-weights`, of which no file is there but a configuration of small sizes."""
    folder = write_tiny_opensora(here / "tiny")
    (folder / "transformer/model.safetensors").unlink()
    backend = replace(OpenSora(folder), random=True)
    trainee = backend.for_film(SPEC, RUNTIME).trainee()
    trainee.save(Path("mine"), {})
    stored = load_file(Path("mine/transformer/model.safetensors"))
    weights = trainee.network.state_dict()
    assert stored.keys() == weights.keys()
    assert all(torch.equal(stored[name], weights[name]) for name in weights)


def test_without_a_configuration_the_sizes_are_written(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tiny_opensora(here / "tiny")
    size = OpenSora(folder).transformer_size()
    monkeypatch.setattr(OpenSora, "transformer_size", lambda self: size)
    (folder / "transformer/config.json").unlink()
    save(OpenSora(folder), Path("mine"), {})
    assert transformer_size(Path("mine/transformer/config.json")) == size


def test_what_has_no_place(here: Path) -> None:
    folder = write_tiny_opensora(here / "tiny")
    with pytest.raises(ValueError, match=r"there is no spatial_blocks.0.attn.qkv.base_layer.weight"):
        save(OpenSora(folder), Path("mine"), {"spatial_blocks.0.attn.qkv.base_layer.weight": torch.ones(1)})
    assert not Path("mine", plugins.FOLDER_FILE).exists()


def test_the_folder_says_which_backend_reads_it(here: Path) -> None:
    save(OpenSora(write_tiny_opensora(here / "tiny")), Path("mine"), {})
    assert json.loads(Path("mine", plugins.FOLDER_FILE).read_text()) == {"backend": NAME}
