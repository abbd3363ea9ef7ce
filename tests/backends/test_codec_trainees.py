"""A codec in training: it is the one that films have, in float32 and bfloat16, and learns what was asked."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from longvid import plugins
from longvid.backends import CodecPart, Film, FilmSpec, Geometry
from longvid.backends.diorama import FILES, WEIGHTS, Diorama, codec
from longvid.backends.diorama.folder import save
from longvid.errors import UserError
from longvid.files import checksum
from longvid.training.distributed import recompute
from tests.tiny import RUNTIME, SPEC, TinyBackend

DIORAMA = FilmSpec((192, 128), Fraction(12), 4, {})
PARTS: tuple[CodecPart, ...] = ("codec", "decoder")


@pytest.fixture(params=["tiny", "diorama"])
def loaded(request: pytest.FixtureRequest) -> tuple[Film, Geometry, tuple[int, int]]:
    backend, spec = (TinyBackend(), SPEC) if request.param == "tiny" else (Diorama(), DIORAMA)
    return backend.for_film(spec, RUNTIME), backend.geometry, spec.size


def shown(geometry: Geometry, size: tuple[int, int], samples: int = 2) -> Tensor:
    """Random frames [b 3 f h w] of one chunk each."""
    torch.manual_seed(0)
    return torch.rand(samples, 3, geometry.chunk_frames, size[1], size[0]) * 2 - 1


def test_it_is_the_codec_that_films_have(loaded: tuple[Film, Geometry, tuple[int, int]]) -> None:
    """Latents are those of films; with a latent in front, what is decoded is what comes behind it."""
    film, geometry, size = loaded
    trainee, frames = film.codec_trainee("codec"), shown(geometry, size)
    latents = film.codec().encode(frames)
    noise = torch.randn(latents.shape)
    with torch.no_grad():
        found, whole = trainee.reconstruct(trainee.network, frames, noise, 0)
        again, behind = trainee.reconstruct(trainee.network, frames, noise, 1)
        _, middle = trainee.reconstruct(
            trainee.network, frames[:, :, trainee.latent_frames :], noise[:, :, 1:], 0
        )
    torch.testing.assert_close(found, latents, atol=1e-5, rtol=1e-4)
    assert torch.equal(again, found)
    assert whole.shape == frames.shape
    assert behind.shape[2] == frames.shape[2] - trainee.latent_frames
    torch.testing.assert_close(behind, whole[:, :, trainee.latent_frames :], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(middle, behind, atol=1e-4)


@pytest.mark.parametrize("part", PARTS)
def test_what_is_asked_for_learns(loaded: tuple[Film, Geometry, tuple[int, int]], part: CodecPart) -> None:
    film, geometry, size = loaded
    trainee, frames = film.codec_trainee(part), shown(geometry, size, samples=1)
    assert trainee.network.training
    assert {p.dtype for p in trainee.network.parameters()} == {torch.float32}
    asks = {name for name, p in trainee.network.named_parameters() if p.requires_grad}
    everything = {name for name, _ in trainee.network.named_parameters()}
    still = {name for name in everything if name.startswith(("encoder.", "seen"))}
    assert still and asks == (everything if part == "codec" else everything - still)
    latents, decoded = trainee.reconstruct(trainee.network, frames, torch.zeros(()), 1)
    (decoded.square().mean() + latents.square().mean()).backward()
    assert {name for name, p in trainee.network.named_parameters() if p.grad is not None} == asks


def test_recomputed_blocks_and_bfloat16() -> None:
    """Recomputed, gradients are equal; under autocast all stays in float32 outside, and near."""
    film = Diorama().for_film(DIORAMA, RUNTIME)
    frames = shown(Diorama().geometry, DIORAMA.size, samples=1)
    gradients = []
    for recomputed, half in ((False, False), (True, False), (True, True)):
        trainee = film.codec_trainee("codec")
        assert len({type(block) for block in trainee.blocks}) == 1
        if recomputed:
            recompute(trainee.blocks)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            latents, decoded = trainee.reconstruct(trainee.network, frames, torch.zeros(()), 1)
        assert latents.dtype == decoded.dtype == torch.float32
        decoded.square().mean().backward()
        gradients.append([p.grad for p in trainee.network.parameters() if p.grad is not None])
    exact, again, near = gradients
    assert len(exact) == len(again) == len(near)
    assert all(torch.equal(one, other) for one, other in zip(exact, again, strict=True))
    whole, off = (torch.cat([tensor.flatten() for tensor in each]) for each in (exact, near))
    assert off.isfinite().all() and (off - whole).norm() < 0.1 * whole.norm()


@pytest.mark.parametrize("part", PARTS)
def test_an_untrained_codec_comes_of_its_seed_alone(
    loaded: tuple[Film, Geometry, tuple[int, int]], part: CodecPart
) -> None:
    """An encoder that is frozen is the trained one."""
    film, _, _ = loaded
    one, same, other = (film.codec_trainee(part, fresh=seed).network for seed in (1, 1, 2))
    trained = film.codec_trainee(part).network
    drawn = set()
    for name, p in one.named_parameters():
        assert torch.equal(p, same.get_parameter(name)), name
        assert p.requires_grad or torch.equal(p, trained.get_parameter(name)), name
        if not torch.equal(p, other.get_parameter(name)):
            drawn.add(name)
            assert p.requires_grad and not torch.equal(p, trained.get_parameter(name)), name
    assert any(name.startswith(("decoder.", "shown")) for name in drawn)
    assert any(name.startswith(("encoder.", "seen")) for name in drawn) == (part == "codec")


def test_a_trained_codec_becomes_a_model(tmp_path: Path) -> None:
    """The rest of the folder is the model's; an untrained codec brings a mean and a deviation of its own."""
    film = Diorama().for_film(DIORAMA, RUNTIME)
    trainee = film.codec_trainee("decoder")
    weights = {name: p + 1 for name, p in trainee.network.named_parameters() if p.requires_grad}
    trainee.save(tmp_path / "mine", weights)
    backend = plugins.backend(str(tmp_path / "mine"))
    assert backend.name == "diorama" and not backend.check_weights()
    before, after = (load_file(folder / "codec.safetensors") for folder in (WEIGHTS, tmp_path / "mine"))
    for name, tensor in after.items():
        wanted = weights[name] if name in weights else before[name].float()
        assert torch.equal(tensor, wanted), name
    for name in set(FILES) - {"codec.safetensors"}:
        assert checksum(tmp_path / "mine" / name) == checksum(WEIGHTS / name)

    own = {"mean": torch.ones(codec.CHANNELS), "std": torch.full((codec.CHANNELS,), 2.0)}
    save(WEIGHTS, tmp_path / "scaled", {"codec.safetensors": own})
    scaled = Diorama(tmp_path / "scaled").for_film(DIORAMA, RUNTIME)
    scaled.codec_trainee("codec", fresh=0).save(tmp_path / "fresh", {})
    untrained = load_file(tmp_path / "fresh" / "codec.safetensors")
    assert not untrained["mean"].any() and untrained["std"].unique().tolist() == [1]


def test_a_codec_without_a_lesson_says_so() -> None:
    film = TinyBackend(causal=True).for_film(SPEC, RUNTIME)
    with pytest.raises(UserError, match=r"^--train codec: the causal tiny codec is not trained here"):
        film.codec_trainee("codec")
