"""Every model of diffusers, on tiny random weights: a film that is killed and goes on, and the commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from longvid import benchmarks, memory, plugins
from longvid.backends import Geometry
from longvid.benchmarks import Setup
from longvid.benchmarks.films import measure_film
from longvid.video import reader
from tests.backends.diffusers.tiny import write_tiny_skyreels
from tests.backends.diffusers.tiny_ltx import write_tiny_ltx
from tests.backends.diffusers.tiny_unet import write_tiny_modelscope
from tests.backends.diffusers.tiny_wan import write_tiny_wan
from tests.disk import Disk, Killed
from tests.edits import contents
from tests.installed import install_models
from tests.planning import longvid
from tests.video import clips

WRITERS: Mapping[str, Callable[[Path], Path]] = {
    "skyreels-v2-1.3b": write_tiny_skyreels,
    "wan-2.2-5b": write_tiny_wan,
    "ltx-video": write_tiny_ltx,
    "modelscope-1.7b": write_tiny_modelscope,
}
NETWORKS = {"modelscope-1.7b": "unet"}
"""Folder of the network's weights, where it is not ``transformer``."""


@dataclass(frozen=True)
class Model:
    name: str
    folder: Path
    geometry: Geometry
    size: tuple[int, int]

    def film(self) -> dict[str, Any]:
        """Two prompts with a blend of a chunk between them, and behind a cut a third: four chunks."""
        first, more = self.geometry.first_chunk_frames, self.geometry.chunk_frames
        blend = float(more / self.geometry.fps)
        return {
            "model": f"{self.folder}/",
            "size": list(self.size),
            "seed": 7,
            "steps": self.geometry.window_units,
            "output": {"scale": 1},
            "shots": [
                {"prompt": "a red boat", "seconds": f"{first}f"},
                {
                    "prompt": "a calm sea",
                    "seconds": f"{2 * more}f",
                    "blend_seconds": blend,
                    "negative": "rain",
                },
                {"prompt": "a city at night", "seconds": f"{first - 1}f", "cut": True, "guidance": 1},
            ],
        }

    @property
    def weights(self) -> Path:
        return self.folder / NETWORKS.get(self.name, "transformer") / "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_models(tmp_path_factory.mktemp("installed") / "models")


@pytest.fixture(scope="module", params=WRITERS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, installed: Path) -> Model:
    folder = WRITERS[request.param](tmp_path_factory.mktemp("folder") / request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(installed))
        backend = plugins.backend(f"{folder}/")
    assert backend.name == request.param
    stride = backend.geometry.pixel_stride
    return Model(request.param, folder, backend.geometry, (2 * stride, 2 * stride))


@pytest.fixture
def here(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, where the models' names are known."""
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def ends(*command: object) -> None:
    ran = longvid(*command)
    assert (ran.code, ran.out) == (0, "film.mp4\n"), ran.err


def test_a_film_killed_and_extended_is_that_of_one_run(
    model: Model, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both films, and both as they are after they have grown by a chunk, are the same to the byte."""
    disk = Disk(monkeypatch)
    render = ("render", "film.yaml", "--dtype", "float32", "--device", "cpu", "--quiet")
    by = f"{model.geometry.chunk_frames}f"
    extend = ("extend", "film.mp4", "--seconds", by, "--device", "cpu", "--quiet")
    whole, killed = here / "whole", here / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        (folder / "film.yaml").write_text(json.dumps(model.film()))

    def is_killed(at: float, *command: object) -> None:
        """After this share of the calls to the disk that it took to do it whole."""
        disk.start(killed_at=int(at * len(disk.calls)))
        monkeypatch.chdir(killed)
        with pytest.raises(Killed):
            longvid(*command)
        disk.start()

    def happens_whole(*command: object) -> dict[str, object]:
        disk.start()
        monkeypatch.chdir(whole)
        ends(*command)
        return contents(whole / "film.mp4")

    film = happens_whole(*render)
    first, more = model.geometry.first_chunk_frames, model.geometry.chunk_frames
    assert reader.header(whole / "film.mp4").frames == 2 * first - 1 + 2 * more
    is_killed(0.5, *render)
    assert 0 < len(list((killed / "film.longvid/chunks").iterdir())) < 4
    ends(*render)
    assert contents(killed / "film.mp4") == film

    grown = happens_whole(*extend)
    assert reader.header(whole / "film.mp4").frames == 2 * first - 1 + 3 * more
    is_killed(0.75, *extend)
    assert len(list((killed / "film.longvid/chunks").iterdir())) == 4
    ends("resume", "film.longvid", "--quiet")
    assert contents(killed / "film.mp4") == grown


def test_a_clip_goes_on(model: Model, here: Path) -> None:
    """Through the codec's encoder, and what was made of it is found whole again."""
    more, frames = min(8, model.geometry.chunk_frames), model.geometry.first_chunk_frames + 1
    clip = clips.clip(here / "clip.mp4", frames=frames, fps=model.geometry.fps, size=model.size)
    shots = {"size": list(model.size), "shots": [{"prompt": "a red boat", "seconds": f"{more}f"}]}
    Path("shots.yaml").write_text(json.dumps(shots))
    flags = (
        "--model",
        f"{model.folder}/",
        "--timeline",
        "shots.yaml",
        "--steps",
        model.geometry.window_units,
    )
    ran = longvid(
        "extend", clip, "-o", "longer.mp4", *flags, "--device", "cpu", "--dtype", "float32", "--quiet"
    )
    assert (ran.code, ran.out) == (0, "longer.mp4\n"), ran.err
    assert reader.header(Path("longer.mp4")).frames == frames + more
    ran = longvid("verify", "longer.longvid", "--quiet")
    assert ran.code == 0, ran.out


def test_a_plan_tells_cost_memory_and_licence(
    model: Model, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "cards", lambda: [])
    Path("film.yaml").write_text(json.dumps(model.film()))
    said = json.loads(longvid("plan", "film.yaml", "--json").out)
    # Three chunks of one run, K steps each, a step between their entries; behind the cut K more.
    assert said["cost"]["evaluations"] == 2 + 2 * model.geometry.window_units
    # The CPU's four bytes a number; a card's are two.
    assert said["cost"]["memory_bytes"] > said["memory"]["rungs"][0]["peak_bytes"] > 0
    ran = longvid("plan", "film.yaml")
    assert ran.code == 0, ran.err
    shown, backend = " ".join(ran.out.split()), plugins.backend(f"{model.folder}/")
    assert f"licence: {backend.licence}" in shown
    assert f"expect: {backend.expects}" in shown


def test_check_names_what_is_wrong(model: Model, here: Path) -> None:
    check = ("models", "check", f"{model.folder}/")
    assert longvid(*check).out == f"{model.name} in {model.folder}: good\n"
    Path("film.yaml").write_text(json.dumps(model.film()))
    whole = model.weights.read_bytes()
    try:
        model.weights.write_bytes(whole[:-100])
        assert f"{model.weights}: is no whole safetensors file" in longvid(*check).out
        model.weights.unlink()
        assert f"missing file {model.weights}\n" in longvid(*check).out
        ran = longvid("render", "film.yaml", "--quiet")
        pull = f"`longvid models pull {model.name}` fetches it"
        assert (ran.code, ran.err) == (2, f"error: {model.name}: {model.weights} is missing; {pull}\n")
    finally:
        model.weights.write_bytes(whole)


def test_bench_with_random_weights(model: Model, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the folder's sizes, in this process: a window of one chunk, and of one model a film of a second."""
    monkeypatch.setattr(benchmarks, "alone", lambda function, *args: function(*args))
    width, height = model.size
    flags = ("--size", f"{width}x{height}", "--latents", model.geometry.chunk_latents, "--dtype", "float32")
    ran = longvid(
        "bench", f"{model.folder}/", "--random-weights", "--no-films", "--json", "--device", "cpu", *flags
    )
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert (said["model"], said["random_weights"]) == (model.name, True)
    (step,) = said["steps"]
    assert step["network_calls"] == 2 and step["flop"] > 0 and step["seconds"] > 0
    if model.name != "skyreels-v2-1.3b":
        return  # what a film does beyond a window is the same for all
    setup = Setup(f"{model.folder}/", True, model.size, "cpu", "float32", False, None)
    film = measure_film(setup, 1)
    assert film.frames == model.geometry.fps and film.network_calls > 0
