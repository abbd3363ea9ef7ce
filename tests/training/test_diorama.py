"""The recipe of diorama's weights, whole, on a small network and little of all."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import load_file
from torch import Tensor

from longvid import plugins
from longvid.backends import FilmSpec
from longvid.backends.diorama import FILES, codec, text
from longvid.backends.diorama.dataset import VERSION
from longvid.backends.diorama.denoiser import DenoiserSize
from longvid.errors import UserError
from longvid.plugins import FOLDER_FILE
from longvid.training import checkpoints, diorama, trainer
from longvid.training.recipe import Recipe
from tests.planning import longvid
from tests.tiny import RUNTIME

SIZE = DenoiserSize(
    latent_channels=codec.CHANNELS,
    latent_height=8,
    latent_width=12,
    conv=8,
    width=96,
    depth=1,
    heads=2,
    text_width=text.WIDTH,
)
AMOUNTS = diorama.Amounts(
    clips=2,
    codec_clips=2,
    text_steps=2,
    codec_steps=2,
    decoder_steps=1,
    steps=3,
    short_steps=1,
    cooldown=0.4,
)


@torch.inference_mode()
def hear_and_see(folder: Path) -> tuple[Tensor, Tensor]:
    """The velocity that the folder's backend predicts for a chunk of noise, and the chunk's frames."""
    backend = plugins.backend(str(folder))
    film = backend.for_film(FilmSpec((192, 128), Fraction(12), 4, {}), RUNTIME)
    words = film.text(film.text_encoder()(["a red boat at sea"]), {}, torch.ones(1, 1))
    noise = torch.randn(1, 24, 4, 8, 12)
    return film.denoiser()(noise, torch.ones(1, 4), words), film.codec().decode(noise, {})[0]


def changed(before: Path, after: Path) -> set[str]:
    """Of the three files, those with other numbers."""
    return {
        name
        for name in FILES
        if any(
            not torch.equal(tensor, load_file(after / name)[key])
            for key, tensor in load_file(before / name).items()
        )
    }


def test_weights_from_nothing_that_the_backend_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stage changes its own part and hands on the rest; what is done is not done again."""
    ran = []

    def launch(arguments: Sequence[str], processes: int) -> None:
        done = longvid(*arguments, "-q")
        assert (done.code, processes) == (0, 1), done.err
        ran.append(arguments[2])

    monkeypatch.setattr(diorama, "SIZE", SIZE)
    monkeypatch.setattr(diorama, "launch", launch)
    monkeypatch.setattr(diorama, "BATCH", 2)
    weights, stages = tmp_path / "mine", tmp_path / "mine" / "stages"
    diorama.make(weights, 0, AMOUNTS, 1)
    assert ran == [f"--model={stages / base}" for base in ("text", "codec", "decoder")]
    parts = {
        ("untrained", "text"): "text.safetensors",
        ("text", "codec"): "codec.safetensors",
        ("codec", "decoder"): "codec.safetensors",
        ("decoder", "denoiser"): "denoiser.safetensors",
    }
    for (before, after), file in parts.items():
        assert changed(stages / before, stages / after) == {file}
    codecs = [load_file(stages / name / "codec.safetensors") for name in ("codec", "decoder")]
    assert all(torch.equal(codecs[1][name], codecs[0][name]) for name in codecs[0] if "encoder" in name)

    assert {path.name for path in weights.iterdir()} == {*FILES, FOLDER_FILE, stages.name}
    for name in FILES:
        for key, tensor in load_file(weights / name).items():
            assert torch.equal(tensor, load_file(stages / "denoiser" / name)[key].half())
    assert not plugins.backend(str(weights)).check_weights()
    velocity, frames = hear_and_see(weights)
    assert velocity.shape == (1, 24, 4, 8, 12) and velocity.isfinite().all()
    assert frames.shape == (1, 3, 16, 128, 192) and frames.isfinite().all()

    diorama.make(weights, 0, AMOUNTS, 1)
    assert len(ran) == 3


def test_a_folder_is_of_one_seed_one_world_and_the_same_amounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though every stage in it is done."""
    for part in ("write_untrained", "train_text", "launch", "package"):
        monkeypatch.setattr(diorama, part, lambda *_: None)
    diorama.make(tmp_path, 1, AMOUNTS, 1)
    diorama.make(tmp_path, 1, AMOUNTS, 1)
    with pytest.raises(UserError) as error:
        diorama.make(tmp_path, 2, AMOUNTS, 1)
    assert str(error.value) == (
        f"{tmp_path}/stages/asked.json: was begun with seed 1, this run has 2; "
        "give the same, or another folder"
    )
    with pytest.raises(UserError, match="was begun with codec_steps 2, this run has 4; give"):
        diorama.make(tmp_path, 1, replace(AMOUNTS, codec_steps=4), 1)
    monkeypatch.setattr(diorama, "VERSION", VERSION + 1)
    with pytest.raises(UserError, match="was begun with world"):
        diorama.make(tmp_path, 1, AMOUNTS, 1)


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"")
    with pytest.raises(UserError, match=r"mine/stages: cannot write there: Not a directory; choose another"):
        diorama.make(tmp_path / "mine", 0, AMOUNTS, 1)


def test_the_text_encoder_is_the_last_and_not_chosen_by_what_is_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter((2.0, 0.5, 1.0))  # of none, one and two steps
    monkeypatch.setattr(trainer, "measure", lambda *_: {"captions": next(losses)})
    monkeypatch.setattr(diorama, "Recipe", partial(Recipe, checkpoint_steps=1))
    monkeypatch.setattr(diorama, "SIZE", SIZE)
    diorama.write_untrained(tmp_path / "untrained", 0)
    diorama.train_text(tmp_path / "untrained", tmp_path / "text", 2, 0)
    folder = tmp_path / "text" / "training" / "checkpoints"
    best, (last, _) = checkpoints.best(folder), checkpoints.newest(folder)
    assert best is not None and last is not None and (best.step, last.step) == (1, 2)
    average = last.tensors("average")
    assert all(
        torch.equal(tensor, average[name])
        for name, tensor in load_file(tmp_path / "text" / "text.safetensors").items()
    )


def test_an_untrained_model_comes_of_its_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diorama, "SIZE", SIZE)
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        diorama.write_untrained(tmp_path / name, seed)
    assert not plugins.backend(str(tmp_path / "one")).check_weights()
    assert changed(tmp_path / "one", tmp_path / "same") == set()
    assert changed(tmp_path / "one", tmp_path / "other") == set(FILES)


def test_stages_are_commands_that_a_person_can_give(tmp_path: Path) -> None:
    """In order, each on the model of the one before; two processes share a batch."""
    stages = diorama.stages(diorama.Amounts(clips=20, codec_clips=10, steps=30, short_steps=4, cooldown=0.5))
    assert [(stage.base, stage.name) for stage in stages] == [
        ("text", "codec"),
        ("codec", "decoder"),
        ("decoder", "denoiser"),
    ]
    given = [stage.arguments(tmp_path, 7, 2) for stage in stages]
    assert all(arguments[:2] == ["finetune", "diorama"] for arguments in given)
    said = [dict(flag.removeprefix("--").split("=") for flag in arguments[2:]) for arguments in given]
    assert [(each["train"], each["clips"]) for each in said] == [
        ("codec", "10"),
        ("decoder", "10"),
        ("denoiser", "20"),
    ]
    last = said[2]
    assert (last["model"], last["output"]) == (str(tmp_path / "decoder"), str(tmp_path / "denoiser"))
    assert (last["batch"], last["micro-batch"], last["seed"]) == ("8", "4", "7")
    assert (last["steps"], last["short-steps"], last["cooldown"]) == ("30", "4", "0.5")


@pytest.mark.parametrize(
    ("processes", "end", "code"),
    [(1, "raise SystemExit(3)", 3), (2, "import os; os.kill(os.getpid(), 9)", 137)],
)
def test_a_stage_runs_in_processes_of_its_own(
    processes: int, end: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose threads share the cores; where it fails, so does the recipe."""
    commands = []
    real = subprocess.Popen

    def popen(command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        commands.append((command, env["OMP_NUM_THREADS"]))
        return real([sys.executable, "-c", end])

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(4)), raising=False)
    with pytest.raises(typer.Exit) as failed:
        diorama.launch(["finetune", "--help"], processes)
    assert failed.value.exit_code == code
    ((command, threads),) = commands
    assert command[-4:] == ["-m", "longvid", "finetune", "--help"] and threads == str(4 // processes)
    assert ("torch.distributed.run" in command) == (processes == 2)


@pytest.mark.parametrize(
    ("number", "child", "code"),
    [
        (signal.SIGINT, "sys.exit(1)", 130),
        (signal.SIGTERM, "signal.sigwait([signal.SIGTERM])", 143),
    ],
)
def test_a_stage_that_is_to_stop_is_told_so(
    number: signal.Signals, child: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C comes to its processes by itself; whatever code they end with, the next stage does not begin."""
    real, runs = subprocess.Popen, []

    def popen(command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        block = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])"
        told = f"import os, signal, sys; {block}; os.kill(os.getppid(), {number:d}); {child}"
        runs.append(real([sys.executable, "-c", told]))
        return runs[0]

    monkeypatch.setattr(subprocess, "Popen", popen)
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(typer.Exit) as stopped:
        diorama.launch([], 1)
    assert stopped.value.exit_code == code
    assert runs[0].returncode == (1 if number == signal.SIGINT else 0)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
