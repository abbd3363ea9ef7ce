"""What is trained, of each of our models: gradients, gradient checkpointing, bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from longvid.backends import CodecPart, Film, FilmSpec, Geometry, Trainee
from longvid.backends.contract import check_backend
from longvid.backends.diffusers import Diffusers, skyreels_1_3b
from longvid.backends.diorama import Diorama
from longvid.backends.network_contract import random_window
from longvid.backends.opensora import OpenSora
from longvid.errors import UserError
from longvid.training.distributed import recompute
from tests.backends.diffusers.tiny import write_tiny_skyreels
from tests.backends.opensora.tiny import write_tiny_opensora
from tests.tiny import RUNTIME, SPEC, TinyBackend

PROMPTS = ("a red boat at sea", "a city at night")


@pytest.fixture(scope="module")
def opensora(tmp_path_factory: pytest.TempPathFactory) -> OpenSora:
    return OpenSora(write_tiny_opensora(tmp_path_factory.mktemp("opensora")))


@pytest.fixture(scope="module")
def skyreels(tmp_path_factory: pytest.TempPathFactory) -> Diffusers:
    return skyreels_1_3b(write_tiny_skyreels(tmp_path_factory.mktemp("skyreels")))


@pytest.fixture(params=["tiny", "diorama", "opensora", "skyreels"])
def loaded(
    request: pytest.FixtureRequest, opensora: OpenSora, skyreels: Diffusers
) -> tuple[Film, Geometry, tuple[int, int]]:
    match request.param:
        case "tiny":
            backend, spec = TinyBackend(), SPEC
        case "diorama":
            backend, spec = Diorama(), FilmSpec((192, 128), Fraction(12), 4, {})
        case "skyreels":
            backend, spec = skyreels, FilmSpec((48, 32), Fraction(24), 4, {})
        case _:
            backend, spec = opensora, FilmSpec((48, 32), Fraction(24), 6, {})
    return backend.for_film(spec, RUNTIME), backend.geometry, spec.size


def gradients(trainee: Trainee, predict: Callable[[Trainee], Tensor]) -> dict[str, Tensor]:
    predict(trainee).square().mean().backward()
    return {name: p.grad for name, p in trainee.network.named_parameters() if p.grad is not None}


def test_open_sora_is_a_backend_that_is_trained(opensora: OpenSora) -> None:
    check_backend(opensora, size=(48, 32))


def test_recomputed_blocks_give_the_same_gradients(loaded: tuple[Film, Geometry, tuple[int, int]]) -> None:
    film, geometry, size = loaded
    x, t = random_window(geometry, size, "cpu", units=2)
    text = film.text(film.text_encoder()(PROMPTS), {}, torch.eye(2))
    calls = 0

    def predict(trainee: Trainee) -> Tensor:
        return trainee.predict(trainee.network, x, t, [text])

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    plain, again = film.trainee(), film.trainee()
    recompute(again.blocks)
    for block in again.blocks:
        next(iter(block.children())).register_forward_hook(count)
    expected, found = gradients(plain, predict), gradients(again, predict)
    assert calls == 2 * len(again.blocks)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        assert torch.equal(gradient, found[name]), name


@pytest.mark.parametrize("recomputed", [False, True])
def test_bfloat16_is_near(loaded: tuple[Film, Geometry, tuple[int, int]], recomputed: bool) -> None:
    """Under autocast, as the loop has it: weights and gradients stay in float32."""
    film, geometry, size = loaded
    trainee = film.trainee()
    if recomputed:
        recompute(trainee.blocks)
    x, t = random_window(geometry, size, "cpu", units=2)
    text = film.text(film.text_encoder()(PROMPTS), {}, torch.eye(2))
    with torch.no_grad():
        exact = trainee.predict(trainee.network, x, t, [text])
    with torch.autocast("cpu", torch.bfloat16):
        predicted = trainee.predict(trainee.network, x, t, [text])
    error = (predicted.float() - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert error < 0.05
    predicted.float().square().mean().backward()
    for name, p in trainee.network.named_parameters():
        assert p.dtype == torch.float32
        if p.requires_grad:
            assert p.grad is not None and p.grad.dtype == torch.float32 and p.grad.isfinite().all(), name


def test_what_open_sora_does_not_train(opensora: OpenSora) -> None:
    trainee = opensora.for_film(FilmSpec((48, 32), Fraction(24), 6, {}), RUNTIME).trainee()
    still = [name for name, p in trainee.network.named_parameters() if not p.requires_grad]
    assert still == ["rope.freqs"]


@pytest.mark.parametrize("part", ["codec", "decoder"])
def test_open_soras_autoencoder_is_not_trained(opensora: OpenSora, part: CodecPart) -> None:
    film = opensora.for_film(FilmSpec((48, 32), Fraction(24), 6, {}), RUNTIME)
    said = rf"^--train {part}: opensora-v1.2's autoencoder is not trained here; train the denoiser$"
    with pytest.raises(UserError, match=said):
        film.codec_trainee(part)


def test_an_untrained_network_comes_of_its_seed_alone(loaded: tuple[Film, Geometry, tuple[int, int]]) -> None:
    """The same size as the trained one's, and as what is not trained of it."""
    film, geometry, size = loaded
    one, same, other = (film.trainee(fresh=seed).network for seed in (1, 1, 2))
    trained = film.trainee().network
    assert one.training and one.state_dict().keys() == trained.state_dict().keys()
    learnt = {name: p for name, p in trained.named_parameters() if p.requires_grad}
    for name, p in one.named_parameters():
        assert p.dtype == torch.float32 and torch.equal(p, same.get_parameter(name)), name
        assert p.shape == trained.get_parameter(name).shape and p.requires_grad == (name in learnt), name
        assert name in learnt or torch.equal(p, trained.get_parameter(name)), name
    drawn = [name for name, p in one.named_parameters() if not torch.equal(p, other.get_parameter(name))]
    assert drawn and not any(torch.equal(one.get_parameter(name), learnt[name]) for name in drawn)

    text = film.text(film.text_encoder()(PROMPTS), {}, torch.eye(2))
    x, t = random_window(geometry, size, "cpu", units=2)
    trainee = film.trainee(fresh=1)
    with torch.no_grad():
        predicted = trainee.predict(trainee.network, x, t, [text])
    assert predicted.shape == x.shape and predicted.isfinite().all()
