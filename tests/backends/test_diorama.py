"""Every installed backend keeps the contract; the bundled one ships whole, small and the same every time."""

from __future__ import annotations

import os
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import longvid
from longvid import plugins
from longvid.backends import FilmSpec, Runtime
from longvid.backends.contract import check_backend
from longvid.backends.diorama import FILES, WEIGHTS, Diorama, world
from longvid.backends.diorama.film import DioramaFilm, check_weights
from longvid.denoise import denoise, fresh
from longvid.errors import UserError
from longvid.guidance import Predict, classifier_free, starting_from
from longvid.noise import per_unit
from longvid.plugins import FOLDER_FILE
from longvid.processes import euler
from longvid.video import reader
from tests.walking import progressive

MODEL_CARD, SHEET = "MODEL_CARD.md", "sheet.png"


@pytest.mark.parametrize(
    "name", [name for name in plugins.registered() if not plugins.backend(name).missing_files()]
)
def test_a_backend_whose_weights_are_here_keeps_the_contract(name: str) -> None:
    backend = plugins.backend(name)
    assert backend.name == name
    check_backend(backend)


def test_diorama_is_installed() -> None:
    assert "diorama" in plugins.registered()
    assert plugins.backend("diorama") == Diorama()


# What ships


def test_weights_and_their_card_ship_and_nothing_else() -> None:
    assert {path.name for path in WEIGHTS.iterdir()} == {*FILES, FOLDER_FILE, MODEL_CARD, SHEET}


def test_the_weights_are_at_most_16_mb_of_safetensors() -> None:
    """Read as safetensors, and as nothing that could run code."""
    for name in FILES:
        with safe_open(WEIGHTS / name, "pt") as file:
            assert len(file.keys()) > 0
    assert sum((WEIGHTS / name).stat().st_size for name in FILES) <= 16_000_000


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no codec\.safetensors there; a diorama folder holds"):
        DioramaFilm.load(tmp_path, Runtime(torch.device("cpu"), torch.float32))


def changed(
    folder: Path, name: str, tensors: dict[str, Tensor], metadata: dict[str, str] | None
) -> DioramaFilm:
    """diorama in a folder in which one file holds something else."""
    for each in FILES:
        shutil.copy(WEIGHTS / each, folder / each)
    save_file(tensors, folder / name, metadata)
    return DioramaFilm.load(folder, Runtime(torch.device("cpu"), torch.float32))


def test_a_codec_of_another_layout_is_named(tmp_path: Path) -> None:
    """Such as one that was finetuned before diorama's changed."""
    tensors = load_file(WEIGHTS / "codec.safetensors")
    tensors["decoder.99.weight"] = tensors.pop("decoder.0.weight")
    film = changed(tmp_path, "codec.safetensors", tensors, None)
    assert check_weights(tmp_path) == [
        "codec.safetensors: decoder.0.weight is missing",
        "codec.safetensors: decoder.99.weight is unexpected",
    ]
    with pytest.raises(UserError, match=r"codec\.safetensors: decoder\.0\.weight is missing; train it anew"):
        film.codec()


def test_a_denoiser_whose_header_has_no_size_is_named(tmp_path: Path) -> None:
    film = changed(tmp_path, "denoiser.safetensors", load_file(WEIGHTS / "denoiser.safetensors"), None)
    for asked in (film.denoiser, lambda: check_weights(tmp_path)):
        with pytest.raises(UserError, match=r"denoiser\.safetensors: does not begin with a denoiser's size"):
            asked()


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_short_is_named(name: str, tmp_path: Path) -> None:
    for each in FILES:
        shutil.copy(WEIGHTS / each, tmp_path / each)
    os.truncate(tmp_path / name, 5000)
    film = DioramaFilm.load(tmp_path, Runtime(torch.device("cpu"), torch.float32))
    parts = dict(zip(FILES, (film.codec, film.text_encoder, film.denoiser), strict=True))
    for asked in (parts[name], lambda: check_weights(tmp_path)):
        with pytest.raises(UserError, match=name.replace(".", r"\.")):
            asked()


# What it knows


def test_words_outside_its_world_are_named_once_and_in_order() -> None:
    prompt = "A red Zeppelin, over the sea; a zeppelin made of cheese at dawn"
    assert Diorama().unknown_words(prompt) == ["zeppelin", "made", "cheese"]
    assert Diorama().unknown_words("a red balloon drifting right over green hills at dawn") == []
    assert Diorama().unknown_words("") == []


def test_an_unknown_word_is_not_read() -> None:
    encoder = loaded().text_encoder()
    known, more = encoder(["a boat at night"]), encoder(["a boat cheese at night"])
    assert torch.equal(known.embeddings, more.embeddings)
    assert Diorama().unknown_words("a boat cheese at night") == ["cheese"]


# What it shows


def loaded() -> DioramaFilm:
    spec = FilmSpec((192, 128), Fraction(12), 4, {})
    return Diorama().for_film(spec, Runtime(torch.device("cpu"), torch.float32))


def drawn(seed: int) -> Tensor:
    """A picture [1 3 h w] of the world: a red kite at rest over a city by night, where the seed has it."""
    spec = {"scene": 3, "time": 2, "weather": 0, "count": 0, "shape": 3, "color": 0, "motion": 3, "camera": 0}
    (shown,) = world.render(world.Story((spec,)), 1, np.random.default_rng(seed)).frames
    return torch.from_numpy(shown).permute(2, 0, 1)[None] / 127.5 - 1


def test_a_picture_is_a_latent_of_four_equal_frames_and_comes_back() -> None:
    codec, picture = loaded().codec(), drawn(0)
    latent = codec.encode_picture(picture)
    assert latent.shape == (1, 24, 1, 8, 12)
    assert torch.equal(latent, codec.encode(picture[:, :, None].expand(-1, -1, 4, -1, -1)))
    frames, _ = codec.decode(latent, {})
    error = (frames - picture[:, :, None]).square().mean((0, 1, 3, 4))
    assert bool((error < 4 * 10**-3.0).all()), "each frame is within 30 dB of the picture"


def test_chunks_are_decoded_as_the_whole_is() -> None:
    """Each latent is told of the one before it, and its first frames are eased towards the last of that."""
    codec = loaded().codec()
    latents = torch.randn(1, 24, 8, 8, 12, generator=torch.Generator().manual_seed(0))
    whole, _ = codec.decode(latents, {})
    first, carry = codec.decode(latents[:, :, :4], {})
    second, _ = codec.decode(latents[:, :, 4:], carry)
    torch.testing.assert_close(torch.cat([first, second], 2), whole)
    alone, _ = codec.decode(latents[:, :, 4:], {})
    assert not torch.allclose(alone[:, :, :8], second[:, :, :8], atol=0.01)


def test_a_film_begins_like_its_picture() -> None:
    """It has less than a quarter of the squared error of a film of the same prompt and seed without."""
    film, shape = loaded(), (24, 4, 8, 12)
    codec = film.codec()
    prompts = film.text_encoder()(["a red kite standing still over a city at night"])
    guided = classifier_free(film.denoiser(), film.text(prompts, {}, torch.ones(1, 1)), [1.5])

    def first_frame(predict: Predict) -> Tensor:
        *_, (_, (chunk,)) = denoise(
            progressive((1,), 8, 4),
            fresh(shape, torch.device("cpu")),
            predict=predict,
            schedule=film.schedule,
            process=film.process,
            solver=euler,
            total_levels=8,
            noise=per_unit([0], shape),
        )
        return codec.decode(chunk.latents, {})[0][:, :, 0]

    without = first_frame(guided)
    for seed in range(3):
        picture = drawn(seed)
        begun = first_frame(starting_from(guided, {0: codec.encode_picture(picture)}))
        errors = [float((frame - picture).square().mean()) for frame in (begun, without)]
        assert 4 * errors[0] < errors[1], seed


def test_three_chunks_twice_are_the_same_bytes(tmp_path: Path) -> None:
    timeline = {
        "seed": 7,
        "model": "diorama",
        "steps": 4,
        "shots": [
            {"prompt": "a red boat on a calm sea at dawn", "seconds": "32f"},
            {"prompt": "the city at night", "seconds": "16f"},
        ],
    }
    one, same = (longvid.render(timeline, tmp_path / name, device="cpu") for name in ("1.mp4", "2.mp4"))
    header = reader.header(one)
    assert (header.frames, header.fps, header.size) == (48, Fraction(12), (384, 256))
    assert one.read_bytes() == same.read_bytes()
    other = longvid.render(timeline, tmp_path / "3.mp4", device="cpu", seed=8)
    assert one.read_bytes() != other.read_bytes()


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    (tmp_path / "codec.safetensors").touch()
    missing = [str(tmp_path / name) for name in ("text.safetensors", "denoiser.safetensors")]
    assert Diorama(tmp_path).missing_files() == missing
    assert Diorama().missing_files() == []
