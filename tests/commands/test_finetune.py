"""`longvid finetune`, from a folder of clips to a film."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from longvid.training import cache, corpus, diorama, metrics
from longvid.training import finetune as training
from longvid.training.footage import load as load_footage
from longvid.training.reconstruction import measure_psnr
from longvid.training.trainer import Stepped
from longvid.video import reader
from tests.planning import longvid
from tests.tiny import RUNTIME, SPEC, TinyBackend
from tests.video import clips

pytestmark = pytest.mark.usefixtures("workplace")


@pytest.fixture
def footage(workplace: Path) -> Path:
    """Two clips with captions, one without, and one that is none."""
    folder = workplace / "clips"
    folder.mkdir()
    for name, caption in (("boat", "a red boat"), ("sea", "the sea")):
        clips.clip(folder / f"{name}.mp4", frames=60, fps=clips.Fraction(12))
        (folder / f"{name}.txt").write_text(caption)
    clips.clip(folder / "silent.mp4", frames=60)
    (folder / "broken.mp4").write_bytes(b"nothing")
    (folder / "broken.txt").write_text("a broken clip")
    return folder


def finetune(*flags: object, steps: int = 6, data: str = "clips") -> Any:
    common = ("--model", "tiny", "-o", "out", "--cache", "cache", "--device", "cpu", "--progress", "plain")
    return longvid("finetune", data, *common, "--steps", steps, "--batch", 2, "--every", 3, *flags)


def test_a_folder_of_clips_becomes_a_model_that_renders(footage: Path) -> None:
    ran = finetune()
    assert (ran.code, ran.out) == (0, "out\n"), ran.err
    assert "silent.mp4" in ran.err and "broken.mp4" in ran.err, "what could not be used is told"
    lines = [json.loads(line) for line in Path("out/training/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all({"loss", "lr", "seconds"} <= line.keys() for line in lines)
    assert longvid("models", "check", "./out/").code == 0
    card = Path("out/README.md").read_text()
    assert "| clips | 2" in card and "| steps | 6 |" in card
    assert Path("out/loss.png").read_bytes().startswith(b"\x89PNG")
    Path("film.yaml").write_text("model: ./out/\nshots: [{prompt: a red boat, seconds: 2}]\n")
    ran = longvid("render", "film.yaml", "--device", "cpu", "-q")
    assert ran.code == 0, ran.err
    assert reader.header(Path("film.mp4")).frames == 24


def test_a_training_is_followed_to_its_end(footage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind its last event a process waits for the others, who fail where it does not come."""
    real, ended = training.finetune, []

    def followed(*given: Any) -> Iterator[training.Event]:
        yield from real(*given)
        ended.append(True)

    monkeypatch.setattr(training, "finetune", followed)
    assert finetune(steps=1).code == 0
    assert ended == [True]


def test_a_lora_renders_beside_the_model(footage: Path) -> None:
    ran = finetune("--lora-rank", 2)
    assert ran.code == 0, ran.err
    assert not list(Path("out").glob("denoiser*"))
    Path("film.yaml").write_text("model: tiny\nshots: [{prompt: a red boat, seconds: 2}]\n")
    assert longvid("render", "film.yaml", "--device", "cpu", "--lora", "./out/:0.5", "-q").code == 0


def test_a_dry_run_tells_and_writes_no_model(footage: Path) -> None:
    ran = finetune("--dry-run")
    assert (ran.code, ran.out) == (0, "")
    assert "2 clips" in ran.err and "to train on" in ran.err
    assert not Path("out").exists()


def test_sample_films_are_of_the_model_to_come_and_change_nothing_of_it(footage: Path) -> None:
    flags = ("--dtype", "float32", "--held-out", 0)
    ran = finetune(*flags, "--sample-every", 2)
    assert ran.code == 0, ran.err
    samples = Path("out/training/samples")
    assert sorted(path.name for path in samples.glob("*.mp4")) == ["000002.mp4", "000004.mp4", "000006.mp4"]
    assert "sample film out/training/samples/000004.mp4" in ran.err
    timeline = str(samples / "prompts.yaml")
    ran = longvid("render", timeline, "--model", "./out/", "-o", "film.mp4", "--dtype", "float32", "-q")
    assert ran.code == 0, ran.err
    last, film = (list(reader.frames(path)) for path in (samples / "000006.mp4", Path("film.mp4")))
    assert len(film) == 2 * 4 * 8, "the window's four chunks of each caption"
    assert all((ours[1] == theirs[1]).all() for ours, theirs in zip(last, film, strict=True))

    assert finetune(*flags, "--sample-every", 0, "-o", "other").code == 0
    assert not Path("other/training/samples").exists()
    trained, other = (Path(folder, "network.safetensors").read_bytes() for folder in ("out", "other"))
    assert trained == other


def test_ones_own_timeline_is_sampled_with_every_checkpoint(footage: Path) -> None:
    Path("mine.yaml").write_text("shots: [{prompt: a boat at sea, seconds: 1}]\n")
    ran = finetune("--sample", "mine.yaml")
    assert ran.code == 0, ran.err
    films = sorted(Path("out/training/samples").iterdir())
    assert [path.name for path in films] == ["000003.mp4", "000006.mp4"]
    assert reader.header(films[0]).frames == 12
    Path("mine.yaml").write_text("shots: [{prompt: a boat at sea, seconds: 1, image: boat.png}]\n")
    ran = finetune("--sample", "mine.yaml", "-o", "other")
    assert (ran.code, Path("other").exists()) == (2, False), "nothing is spent"


def test_ctrl_c_stops_it_behind_a_checkpoint(footage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append = metrics.append

    def interrupted(path: Path, stepped: Stepped) -> None:
        append(path, stepped)
        if stepped.step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(metrics, "append", interrupted)
    ran = finetune(steps=8)
    assert (ran.code, ran.out) == (130, "")
    assert ran.err.splitlines()[-1] == "stopped at step 5 of 8, behind a checkpoint; the same command goes on"
    assert Path("out/training/checkpoints/000005").is_dir() and not Path("out/longvid.json").exists()
    ran = finetune(steps=8)
    assert (ran.code, ran.out) == (0, "out\n"), ran.err
    assert "from step 5 of 8" in ran.err


@pytest.mark.parametrize(
    ("module", "name", "last"),
    [
        (corpus, "_sha256", "stopped; what is found out of the clips is kept"),
        (cache, "write_tensors", "stopped; what is encoded is kept, and the same command goes on"),
    ],
)
def test_ctrl_c_stops_what_comes_before_training(
    footage: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, last: str
) -> None:
    work = getattr(module, name)

    def interrupted(*arguments: Any) -> Any:
        if not told:
            told.append(True)
            os.kill(os.getpid(), signal.SIGINT)
        return work(*arguments)

    told: list[bool] = []
    monkeypatch.setattr(module, name, interrupted)
    ran = finetune()
    assert (ran.code, ran.out) == (130, "")
    assert ran.err.splitlines()[-1] == last
    assert not Path("out/training/metrics.jsonl").exists()
    assert finetune().code == 0


@pytest.mark.parametrize("part", ["codec", "decoder"])
def test_a_codec_is_trained_and_tells_its_psnr(footage: Path, part: str) -> None:
    ran = finetune("--train", part, "--lr", 0.01, "--warmup", 0, "--dtype", "float32", steps=10)
    assert ran.code == 0, ran.err
    assert "MB of pixels to cache" in ran.err and "sample film" not in ran.err
    card = Path("out/README.md").read_text()
    assert f"the {part} of tiny" in card
    shown = load_footage(Path("out/training/prepared.json")).held_out
    codecs = [
        backend.for_film(SPEC, RUNTIME).codec()
        for backend in (TinyBackend(), TinyBackend(folder=Path("out")))
    ]
    before, after = (measure_psnr(one, shown, TinyBackend().geometry, RUNTIME.device) for one in codecs)
    assert f"| PSNR of the codec there | {before:.2f} dB | {after:.2f} dB |" in card and before != after
    assert f"PSNR {before:.2f} -> {after:.2f} dB" in ran.err
    colours = load_file("out/codec.safetensors")
    changed = {name for name, weight in colours.items() if not torch.equal(weight, torch.eye(3))}
    assert changed == ({"shown"} if part == "decoder" else {"seen", "shown"})
    assert longvid("models", "check", "./out/").code == 0


def test_a_model_is_made_from_nothing_of_a_dataset(workplace: Path) -> None:
    flags = ("--from-scratch", "--clips", 3, "--optimizer", "muon", "--short-steps", 2, "--cooldown", 0.5)
    ran = finetune(*flags, "--warmup", 0, "--dropout", 0.2, "--sample-every", 0, data="boats", steps=4)
    assert ran.code == 0, ran.err
    assert "dataset boats: 3 clips" in ran.err
    rates = [json.loads(line)["lr"] for line in Path("out/training/metrics.jsonl").read_text().splitlines()]
    assert rates == pytest.approx([1e-4, 1e-4, 1e-4, 5e-5])
    untrained = TinyBackend().for_film(SPEC, RUNTIME).trainee(fresh=0).network.enter
    trained = load_file("out/network.safetensors")["enter"]
    assert (trained - untrained).abs().max() < 0.01, "four steps at a rate of 1e-4 from where the seed put it"
    ran = finetune(data="boots")
    assert ran.code == 2 and "no dataset 'boots'; did you mean boats?" in ran.err.splitlines()[-1]


def test_figures_are_there_for_programs(footage: Path) -> None:
    ran = finetune("--sample-every", 0, "--progress", "json", steps=4)
    assert ran.code == 0, ran.err
    said = [json.loads(line) for line in ran.err.splitlines()]
    steps = [event for event in said if event["event"] == "training_stepped"]
    assert [event["step"] for event in steps] == [1, 2, 3, 4]
    assert [event["measured"] for event in steps] == [False, False, True, True]
    assert all(event["held_out"] > 0 and event["samples_per_second"] > 0 for event in steps)
    assert steps[-1]["seconds_left"] == 0
    assert [event["step"] for event in said if event["event"] == "checkpoint_written"] == [3, 4]
    assert said[-1]["event"] == "training_done" and said[-1]["output"] == "out"
    assert [path.name[:19] for path in Path("out/training/tensorboard").iterdir()] == ["events.out.tfevents"]


def test_it_goes_on_where_it_was(footage: Path) -> None:
    assert finetune(steps=3).code == 0
    ran = finetune(steps=6)
    assert ran.code == 0, ran.err
    assert "from step 3 of 6" in ran.err
    assert "encoding passages: 0 of" not in ran.err, "what is encoded stays"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--merge",), "--merge: adds a LoRA to the model; give --lora-rank too"),
        (("--lora-rank", "2", "--from-scratch"), "--from-scratch: a LoRA adapts weights that are there; "),
        (("--clips", "3"), "--clips: is how many a dataset makes; clips is a folder, and all of it is taken"),
        (
            ("--train", "codec", "--lora-rank", "2"),
            "--lora-rank: is for the denoiser; with --train codec leave",
        ),
        (
            ("--train", "decoder", "--sample", "a.yaml"),
            "--sample: is for the denoiser; with --train decoder ",
        ),
        (("--size", "large"), "--size large: is no size; write WIDTHxHEIGHT, as 424x240"),
        (
            ("--micro-batch", "3", "--batch", "4"),
            "--batch 4 --micro-batch 3: a batch of 4 cannot be ",
        ),
        (("--optimizer", "adamw-8bit", "--dry-run"), "--optimizer adamw-8bit: needs a CUDA card and "),
        (("--optimizer", "muon", "--shard"), "--optimizer muon: needs whole matrices; leave --shard out"),
        (("--window", "3"), "8 steps are no multiple of the window's 3 chunks; nearest: 6 or 9"),
    ],
)
def test_wrong_flags_are_one_line(footage: Path, flags: tuple[str, ...], message: str) -> None:
    ran = finetune(*flags)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("boats", "--model", "diorama"),
            "makes diorama of its own world, diorama --model diorama; else name a ",
        ),
        (
            ("diorama", "--model", "tiny"),
            "makes diorama of its own world, diorama --model diorama; else name a ",
        ),
        (
            ("diorama", "--model", "diorama", "--steps", "5"),
            "--steps: --train all has its own; leave it out, or",
        ),
        (
            ("diorama", "--model", "diorama", "--from-scratch"),
            "--from-scratch: --train all has its own; leave ",
        ),
    ],
)
def test_a_whole_recipe_takes_no_numbers_of_ones_own(
    workplace: Path, arguments: tuple[str, ...], message: str
) -> None:
    ran = longvid("finetune", *arguments, "-o", "out", "--train", "all")
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err and len(ran.err.splitlines()) == 1
    assert not Path("out").exists()


def test_a_whole_recipe_is_made_by_its_seed(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(diorama, "make", lambda *given: made.append(given))
    ran = longvid("finetune", "diorama", "--model", "diorama", "-o", "out", "--train", "all", "--seed", 7)
    assert (ran.code, ran.out) == (0, "out\n"), ran.err
    assert made == [(Path("out"), 7)]


def test_a_file_is_no_models_folder(footage: Path) -> None:
    Path("out").write_text("of somebody")
    ran = finetune("--dry-run")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "error: --output out: is a file; name a folder\n"


def test_a_folder_without_clips_is_one_line(workplace: Path) -> None:
    (workplace / "clips").mkdir()
    ran = finetune()
    assert ran.code == 2 and "clips" in ran.err.splitlines()[-1]
    assert not Path("out").exists()
