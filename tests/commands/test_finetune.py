"""`longvid finetune`, from a folder of clips to a film."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from longvid.video import reader
from tests.planning import longvid
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


def finetune(*flags: object, steps: int = 6) -> Any:
    common = ("--model", "tiny", "-o", "out", "--cache", "cache", "--device", "cpu", "--progress", "plain")
    return longvid("finetune", "clips", *common, "--steps", steps, "--batch", 2, "--every", 3, *flags)


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
        (("--optimizer", "sgd"), "--optimizer sgd: is adamw or adamw-8bit"),
        (("--size", "large"), "--size large: is no size; write WIDTHxHEIGHT, as 424x240"),
        (("--window", "3"), "8 steps are no multiple of the window's 3 chunks; nearest: 6 or 9"),
    ],
)
def test_wrong_flags_are_one_line(footage: Path, flags: tuple[str, ...], message: str) -> None:
    ran = finetune(*flags)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err.splitlines()[-1]


def test_a_folder_without_clips_is_one_line(workplace: Path) -> None:
    (workplace / "clips").mkdir()
    ran = finetune()
    assert ran.code == 2 and "clips" in ran.err.splitlines()[-1]
    assert not Path("out").exists()
