"""`longvid finetune` of the models of diffusers, on tiny random weights: from clips to a film."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from safetensors.torch import load_file

from longvid import plugins
from longvid.video import reader
from tests.backends.diffusers.test_films import WRITERS
from tests.planning import longvid
from tests.training.footage import captioned

pytestmark = pytest.mark.usefixtures("models_installed")


@pytest.fixture(params=WRITERS)
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model's, where the working folder holds two clips of two chunks."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    (tmp_path / "here/clips").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    folder = WRITERS[request.param](tmp_path / "model")
    geometry = plugins.backend(f"{folder}/").geometry
    for name, caption in (("boat", "a red boat"), ("sea", "a calm sea")):
        frames = geometry.first_chunk_frames + geometry.chunk_frames
        captioned(Path(f"clips/{name}.mp4"), caption, frames, fps=geometry.fps)
    return folder


def film(model: str) -> Path:
    """Of one chunk."""
    geometry = plugins.backend(model).geometry
    said = {
        "model": model,
        "size": [2 * geometry.pixel_stride, geometry.pixel_stride],
        "steps": 2 * geometry.window_units,
        "output": {"scale": 1},
        "shots": [{"prompt": "a red boat", "seconds": f"{geometry.first_chunk_frames}f"}],
    }
    Path("film.yaml").write_text(json.dumps(said))
    return Path("film.yaml")


def finetune(folder: Path, *flags: object) -> None:
    stride = plugins.backend(f"{folder}/").geometry.pixel_stride
    sample = ("--sample", film(f"{folder}/"))
    few = ("--steps", 2, "--batch", 2, "--micro-batch", 2, "--every", 2, "--window", 2, "--sampling-steps", 4)
    where = ("--size", f"{2 * stride}x{stride}", "--device", "cpu", "--dtype", "float32", *sample)
    ran = longvid(
        "finetune", "clips", "--model", f"{folder}/", "-o", "out", "--lr", 0.01, *few, *where, *flags
    )
    assert (ran.code, ran.out) == (0, "out\n"), ran.err
    lines = [json.loads(line) for line in Path("out/training/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert all(0 < line["loss"] < 100 for line in lines)


def render(model: str, output: str, *flags: object) -> bytes:
    where = ("--device", "cpu", "--dtype", "float32", "-q")
    ran = longvid("render", film(model), "-o", output, *where, *flags)
    assert ran.code == 0, ran.err
    assert reader.header(Path(output)).frames == plugins.backend(model).geometry.first_chunk_frames
    return Path(output).read_bytes()


def test_clips_become_a_model_that_renders(folder: Path) -> None:
    finetune(folder)
    assert longvid("models", "check", "./out/").code == 0
    network = plugins.backend(f"{folder}/").model.network
    stored, learnt = (
        load_file(each / network / "diffusion_pytorch_model.safetensors") for each in (folder, Path("out"))
    )
    assert stored.keys() == learnt.keys()
    assert all(stored[name].shape == learnt[name].shape for name in stored)
    assert any(not stored[name].equal(learnt[name]) for name in stored)
    part = "vae/diffusion_pytorch_model.safetensors"
    assert (Path("out") / part).read_bytes() == (folder / part).read_bytes()
    render("./out/", "film.mp4")


def test_a_lora_renders_beside_the_model(folder: Path) -> None:
    finetune(folder, "--lora-rank", 2)
    assert not list(Path("out").glob("*/diffusion_pytorch_model*"))
    adapted = render(f"{folder}/", "adapted.mp4", "--lora", "./out/:3")
    assert adapted != render(f"{folder}/", "plain.mp4")
