"""Open-Sora from the command line, on a tiny random one in the published layout."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from longvid import plugins
from longvid.backends import FilmSpec, Runtime
from longvid.backends.contract import check_backend
from longvid.backends.opensora import OpenSora
from longvid.plan import plan
from longvid.timeline import build
from longvid.video import reader
from tests.backends.opensora.tiny import write_tiny_opensora
from tests.planning import longvid

TIMELINE = """
model: ./tiny
size: [48, 32]
window: 3
steps: 6
seed: 5
model_options: {aesthetic: 6.5, motion: 5}
negative: blurry
shots:
  - {prompt: a red boat on a calm sea, seconds: 2}
  - {prompt: a storm at night, seconds: 3, blend_seconds: 1.5}
  - {prompt: a street in the snow, seconds: 2, cut: true, negative: ""}
"""
SIZE = (48, 32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    Path("film.yaml").write_text(TIMELINE)
    return write_tiny_opensora(tmp_path / "tiny")


def test_it_is_a_backend(folder: Path) -> None:
    check_backend(OpenSora(folder), size=SIZE, options={"motion": 5})


def test_from_the_weights_to_the_film(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = longvid("models", "check", "./tiny")
    assert checked.code == 0, checked.err
    planned = json.loads(longvid("plan", "film.yaml", "--json").out)
    assert planned["model"] == "opensora-v1.2" and planned["model_options"]["motion"] == 5
    rendered = longvid("render", "film.yaml", "--dtype", "float32", "--progress", "plain")
    assert (rendered.code, rendered.out) == (0, "film.mp4\n"), rendered.err
    frames = list(reader.frames(Path("film.mp4")))
    assert len(frames) == planned["frames"] == 7 * 24
    first = Path("film.mp4").read_bytes()

    # The prompts are on disk, so T5 is not loaded again; and the film is the same.
    monkeypatch.setattr("longvid.backends.opensora.t5.load", None)
    again = longvid("render", "film.yaml", "-o", "again.mp4", "--dtype", "float32", "--progress", "plain")
    assert again.code == 0, again.err
    assert Path("again.mp4").read_bytes() == first
    works = (sorted(Path(work).glob("latents/*")) for work in ("film.longvid", "again.longvid"))
    latents, latents_again = ([file.read_bytes() for file in files] for files in works)
    assert latents == latents_again


def test_weights_that_do_not_fit_are_named(folder: Path) -> None:
    config = folder / "transformer" / "config.json"
    config.write_text(config.read_text().replace('"depth": 2', '"depth": 3'))
    checked = longvid("models", "check", "./tiny")
    assert checked.code == 2
    assert "spatial_blocks.2.attn.qkv.weight" in checked.out + checked.err
    refused = longvid("render", "film.yaml")
    assert refused.code == 2 and "missing: spatial_blocks.2.scale_shift_table" in refused.err
    assert not Path("film.mp4").exists()


def test_a_missing_part_comes_from_the_fetched_weights(folder: Path) -> None:
    fetched = Path("data") / "longvid" / "models" / "opensora-v1.2"
    fetched.mkdir(parents=True)
    (folder / "vae").rename(fetched / "vae")
    ours = plugins.backend("./tiny")
    assert isinstance(ours, OpenSora) and ours.part("vae").resolve() == (fetched / "vae").resolve()
    assert not ours.missing_files()
    (fetched / "vae" / "model.safetensors").unlink()
    refused = longvid("render", "film.yaml")
    assert refused.code == 2 and "`longvid models pull opensora-v1.2` fetches it" in refused.err


def latents_of_a_film(folder: Path, device: str) -> Tensor:
    """The clean latents of a film of two prompts, a blend and a cut."""
    from longvid.denoise import denoise, fresh
    from longvid.guidance import classifier_free
    from longvid.noise import per_unit
    from longvid.processes import euler
    from longvid.sampling import encode_prompts

    timeline = build(
        {
            "size": list(SIZE),
            "steps": 6,
            "window": 3,
            "shots": [
                {"prompt": "a red boat", "seconds": 2},
                {"prompt": "a storm at night", "seconds": 2, "blend_seconds": 1},
                {"prompt": "snow", "seconds": 1, "cut": True},
            ],
        }
    )
    backend = OpenSora(folder)
    planned = plan(timeline, backend)
    film = backend.for_film(planned.spec, Runtime(torch.device(device), torch.float32))
    text, _ = encode_prompts(film, planned)
    shape = (4, 5, SIZE[1] // 8, SIZE[0] // 8)
    happening = denoise(
        planned.walk.steps_in_order(),
        fresh(shape, torch.device(device)),
        predict=classifier_free(film.denoiser(), text, [unit.guidance for unit in planned.units]),
        schedule=film.schedule,
        process=film.process,
        solver=euler,
        total_levels=planned.steps,
        noise=per_unit([unit.seed for unit in planned.units], shape),
    )
    return torch.cat([clean.latents.cpu() for _, finished in happening for clean in finished], 2)


@pytest.mark.gpu
def test_a_card_gives_the_cpus_latents(folder: Path) -> None:
    ours, reference = latents_of_a_film(folder, "cuda"), latents_of_a_film(folder, "cpu")
    assert torch.allclose(ours, reference, rtol=0, atol=1e-3)


def test_the_network_is_told_the_nominal_size(folder: Path) -> None:
    film = OpenSora(folder).for_film(
        FilmSpec((424, 240), Fraction(24), 6, {}), Runtime(torch.device("cpu"), torch.float32)
    )
    assert film.picture == (240, 426)
    # 119 frames of 240 x 426: the published transform's ratio.
    assert film.ratio == pytest.approx(0.6245115399360657 * 35**0.5, rel=1e-6)
