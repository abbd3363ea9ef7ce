"""Adapters are all that trains; saved alone, merged or loaded again they are the same numbers."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn

from longvid.backends import Film, FilmSpec, Trainee
from longvid.backends.opensora import OpenSora
from longvid.errors import UserError
from longvid.lora import CONFIG, WEIGHTS, adapting, layers, named
from longvid.training import lora
from tests.backends.opensora.tiny import write_tiny_opensora
from tests.loras import write_lora
from tests.tiny import RUNTIME, SPEC, TinyBackend, TinyFilm, hashed

SIZE = FilmSpec((48, 32), OpenSora(Path()).geometry.fps, 2, {})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture(params=["tiny", "opensora"])
def film(request: pytest.FixtureRequest, folder: Path) -> Film:
    if request.param == "tiny":
        return TinyBackend().for_film(SPEC, RUNTIME)
    return OpenSora(write_tiny_opensora(folder / "model")).for_film(SIZE, RUNTIME)


def predicted(film: Film, trainee: Trainee) -> Tensor:
    text = film.text(film.text_encoder()(["a red boat"]), {}, torch.ones(2, 1))
    x = hashed("x", *((1, 3, 4, 4, 6) if isinstance(film, TinyFilm) else (1, 4, 10, 4, 6)))
    return trainee.predict(trainee.network, x, torch.full((1, x.shape[2]), 0.5), [text])


def train(film: Film, trainee: Trainee, steps: int = 3) -> None:
    learning = [weight for weight in trainee.network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learning, 0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        predicted(film, trainee).square().mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in network.state_dict().items()}


def test_only_the_adapters_change(film: Film) -> None:
    trainee = film.trainee()
    before = copied(trainee.network)
    asked = predicted(film, trainee)
    lora.adapt(trainee.network, trainee.lora_targets, 2)
    torch.testing.assert_close(predicted(film, trainee), asked, rtol=0, atol=0)
    adapters = copied(trainee.network)
    trains = {name for name, weight in trainee.network.named_parameters() if weight.requires_grad}
    assert trains == {name for name in adapters if "lora_" in name}
    train(film, trainee)
    after = trainee.network.state_dict()
    base = lora.base(after)
    assert base.keys() == before.keys()
    assert all(torch.equal(base[name], before[name]) for name in before)
    assert not torch.equal(predicted(film, trainee), asked)
    assert any(not torch.equal(after[name], adapters[name]) for name in trains)


def test_merged_computes_what_the_adapted_network_does(film: Film) -> None:
    trainee, plain = film.trainee(), film.trainee()
    lora.adapt(trainee.network, trainee.lora_targets, 2, alpha=3)
    train(film, trainee)
    before = copied(trainee.network)
    weights = lora.merged(trainee.network)
    assert all(torch.equal(before[name], weight) for name, weight in trainee.network.state_dict().items())
    plain.network.load_state_dict(weights)
    torch.testing.assert_close(predicted(film, plain), predicted(film, trainee), rtol=1e-4, atol=1e-5)


def test_saved_alone_and_rendered_with_is_the_merged_network_to_the_bit(film: Film, folder: Path) -> None:
    trainee = film.trainee()
    stored, names = copied(trainee.network), layers(trainee.network)
    lora.adapt(trainee.network, trainee.lora_targets, 2, alpha=3, base="this")
    train(film, trainee)
    lora.save(folder / "a", trainee.network)
    change = adapting([named(folder / "a", 1)], names, "this")
    merged = lora.merged(trainee.network)
    assert merged.keys() == stored.keys()
    assert all(torch.equal(change(name, weight), merged[name]) for name, weight in stored.items())


def test_peft_loads_it_again_to_the_bit(film: Film, folder: Path) -> None:
    trainee = film.trainee()
    lora.adapt(trainee.network, trainee.lora_targets, 2)
    train(film, trainee)
    lora.save(folder / "a", trainee.network)
    assert {path.name for path in (folder / "a").iterdir()} == {CONFIG, WEIGHTS}
    loaded = film.trainee()
    network = peft.PeftModel.from_pretrained(loaded.network, folder / "a").base_model.model
    weights, again = trainee.network.state_dict(), network.state_dict()
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_an_average_is_saved_in_place_of_the_weights(film: Film, folder: Path) -> None:
    trainee = film.trainee()
    lora.adapt(trainee.network, trainee.lora_targets, 2)
    train(film, trainee)
    average = {
        name: weight.detach() / 2
        for name, weight in trainee.network.named_parameters()
        if weight.requires_grad
    }
    lora.save(folder / "a", trainee.network, average)
    change = adapting([named(folder / "a", 1)], film_layers(film), "this")
    plain = film.trainee().network.state_dict()
    merged = lora.merged(trainee.network, average)
    assert all(torch.equal(change(name, weight), merged[name]) for name, weight in plain.items())
    assert any(not torch.equal(merged[name], plain[name]) for name in plain)


def film_layers(film: Film) -> dict[str, tuple[int, int]]:
    return layers(film.trainee().network)


def test_equal_adapters_are_equal_bytes(folder: Path) -> None:
    files = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        trainee = TinyBackend().for_film(SPEC, RUNTIME).trainee()
        lora.adapt(trainee.network, trainee.lora_targets, 2, seed=seed)
        lora.save(folder / name, trainee.network)
        files.append([(folder / name / file).read_bytes() for file in (WEIGHTS, CONFIG)])
    one, same, other = files
    assert one == same
    assert one[0] != other[0] and one[1] == other[1]


def test_drawing_adapters_leaves_the_generator_alone() -> None:
    trainee = TinyBackend().for_film(SPEC, RUNTIME).trainee()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        wanted = torch.rand(1)
        torch.manual_seed(3)
        lora.adapt(trainee.network, trainee.lora_targets, 2)
        assert torch.equal(torch.rand(1), wanted)


def test_the_configuration_tells_rank_alpha_and_model(folder: Path) -> None:
    trainee = TinyBackend().for_film(SPEC, RUNTIME).trainee()
    assert not lora.is_adapted(trainee.network)
    lora.adapt(trainee.network, trainee.lora_targets, 4, base="tiny")
    assert lora.is_adapted(trainee.network)
    lora.save(folder / "a", trainee.network)
    said: dict[str, Any] = json.loads((folder / "a" / CONFIG).read_text())
    keys = ("peft_type", "r", "lora_alpha", "base_model_name_or_path", "target_modules")
    assert {key: said[key] for key in keys} == {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 4,
        "base_model_name_or_path": "tiny",
        "target_modules": ["blocks.0.query"],
    }


def test_convolutions_of_the_same_name_are_left_alone(folder: Path) -> None:
    """Open-Sora's patches are a convolution that is called ``proj``, as its linear layers are."""
    film = OpenSora(write_tiny_opensora(folder / "model")).for_film(SIZE, RUNTIME)
    trainee = film.trainee()
    lora.adapt(trainee.network, ("proj",), 2)
    assert type(trainee.network.get_submodule("x_embedder.proj")) is nn.Conv3d
    adapted = {name.split(".lora_")[0] for name in lora.adapters(trainee.network.state_dict())}
    assert adapted == {f"{lora.PREFIX}{name}" for name in film_layers(film) if name.split(".")[-1] == "proj"}


@pytest.mark.parametrize("rank", [0, 9])
def test_a_rank_that_no_layer_has(rank: int) -> None:
    trainee = TinyBackend().for_film(SPEC, RUNTIME).trainee()
    with pytest.raises(UserError, match=f"--lora-rank {rank}: .* has rank 8; 1 to 8"):
        lora.adapt(trainee.network, trainee.lora_targets, rank)


def test_without_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    trainee = TinyBackend().for_film(SPEC, RUNTIME).trainee()
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"pip install 'longvid\[training\]'"):
        lora.adapt(trainee.network, trainee.lora_targets, 2)


def test_a_film_loaded_with_one_has_the_merged_network(film: Any, folder: Path) -> None:
    """Denoiser and trainee alike: one may go on from a LoRA."""
    sizes = film_layers(film)
    chosen = {name: size for name, size in sizes.items() if name.endswith(("query", "qkv"))}
    use = named(write_lora(folder / "a", chosen), 0.5)
    merged = adapting([use], sizes, "")
    plain = film.trainee().network.state_dict()
    spec = SPEC if isinstance(film, TinyFilm) else SIZE
    with_lora = film.backend.for_film(replace(spec, loras=(use,)), RUNTIME)
    for network in (with_lora.trainee().network, with_lora.denoiser().network):
        for name, weight in network.state_dict().items():
            assert torch.equal(weight, merged(name, plain[name])), name


def test_merged_and_saved_it_is_a_model_of_the_same_films(film: Any, folder: Path) -> None:
    trainee = film.trainee()
    lora.adapt(trainee.network, trainee.lora_targets, 2)
    train(film, trainee)
    lora.save(folder / "a", trainee.network)
    trainee.save(folder / "merged", lora.merged(trainee.network))
    spec = SPEC if isinstance(film, TinyFilm) else SIZE
    with_lora = film.backend.for_film(replace(spec, loras=(named(folder / "a", 1),)), RUNTIME)
    merged = replace(film.backend, folder=folder / "merged").for_film(spec, RUNTIME)
    assert merged.fingerprint != film.fingerprint == with_lora.fingerprint
    one, other = (loaded.denoiser().network.state_dict() for loaded in (with_lora, merged))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(
        not torch.equal(one[name], weight) for name, weight in film.trainee().network.state_dict().items()
    )
