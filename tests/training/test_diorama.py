"""`python -m longvid.training.diorama`, whole, on a small world and a small network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

from longvid import plugins
from longvid.backends import FilmSpec, Runtime
from longvid.backends.diorama import text
from longvid.backends.diorama.denoiser import DenoiserSize
from longvid.training import denoiser, diorama

SIZE = DenoiserSize(
    latent_channels=16,
    latent_height=8,
    latent_width=12,
    conv=8,
    width=96,
    depth=1,
    heads=2,
    text_width=text.WIDTH,
)
COUNTS = {
    "clips": 20,
    "codec-steps": 2,
    "decoder-steps": 1,
    "text-steps": 2,
    "steps": 3,
    "short-steps": 1,
    "cooldown-steps": 1,
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in (denoiser, diorama):
        monkeypatch.setattr(module, "SIZE", SIZE)
    monkeypatch.setattr(diorama, "keep_memory", lambda: True)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def train(folder: Path) -> None:
    app = typer.Typer()
    app.command()(diorama.main)
    options = [f"--{name}={count}" for name, count in COUNTS.items()]
    result = CliRunner().invoke(app, [str(folder), *options, "--processes=1"], catch_exceptions=False)
    assert result.exit_code == 0


def steps_measured(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@torch.inference_mode()
def hear_and_see(folder: Path) -> tuple[Tensor, Tensor]:
    """The velocity that the folder's backend predicts for a chunk of noise, and the chunk's frames."""
    backend = plugins.backend(str(folder))
    film = backend.for_film(
        FilmSpec((96, 64), Fraction(12), 4, {}), Runtime(torch.device("cpu"), torch.float32)
    )
    words = film.text(film.text_encoder()(["a red boat at sea"]), {}, torch.ones(1, 1))
    noise = torch.randn(1, 16, 4, 8, 12)
    return film.denoiser()(noise, torch.ones(1, 4), words), film.codec().decode(noise, {})[0]


def test_weights_from_nothing_that_the_backend_loads(tmp_path: Path) -> None:
    train(tmp_path)
    weights = tmp_path / "weights"
    names = ("codec.safetensors", "text.safetensors", "denoiser.safetensors")
    assert sorted(path.name for path in weights.iterdir()) == sorted((*names, "longvid.json"))
    assert steps_measured(tmp_path) == [3]

    velocity, frames = hear_and_see(weights)
    assert velocity.shape == (1, 16, 4, 8, 12) and velocity.isfinite().all()
    assert frames.shape == (1, 3, 16, 64, 96) and frames.isfinite().all()

    before = [load_file(weights / name) for name in names]
    train(tmp_path)
    for name, tensors in zip(names, before, strict=True):
        again = load_file(weights / name)
        assert tensors.keys() == again.keys()
        assert all(torch.equal(tensor, again[key]) for key, tensor in tensors.items())
    assert steps_measured(tmp_path) == [3]
