import json
import os
import time
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from longvid.commands.import_ import import_
from longvid.commands.new import STARTER
from longvid.errors import UserError
from longvid.schedules import READERS, Format, detect, imported
from longvid.schedules.imports import Asked
from tests.importing import BY_FRAME, manuscript
from tests.planning import PlanBackend


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ('{"0": "a boat"}', "deforum"),
        ('\n {"prompts": {"0": "a boat"}}', "deforum"),
        ('"0" :"a boat"', "fizznodes"),
        ('0: "a boat"', "fizznodes"),
        ('{"text": "\\"0\\": \\"a boat\\"", "max_frames": 12}', "fizznodes"),
        ('{"7": {"class_type": "PromptSchedule", "inputs": {"text": ""}}}', "fizznodes"),
        ("[0s: a boat]", "framepack"),
        ("a sea [2s-4s: a boat]", "framepack"),
        ("[0: a boat]", "framepack"),
        ("[0s:2s] a boat", "wangp"),
        ("a sea [50%:] a boat", "wangp"),
        ("[/duration=5s] a boat", "wangp"),
        ("(at 0 seconds: a boat)", "wangp"),
        ("a boat\na storm", "list"),
        ("a boat [red] (big), 16:9, [16:9], at 12:30", "list"),
        ("[Verse: one]", "list"),
    ],
)
def test_a_schedule_is_known_by_its_content(text: str, format: str) -> None:
    assert detect(text, Asked("wonder.txt")) == format


def test_every_format_has_a_reader_and_can_be_asked_for() -> None:
    assert tuple(READERS) == get_args(Format)
    annotated = get_type_hints(import_)["format"]
    assert get_args(annotated) == ("auto", *READERS)


def test_a_timeline_is_no_list_of_prompts() -> None:
    with pytest.raises(UserError, match="is a timeline already; `longvid plan` says what it becomes"):
        manuscript(STARTER)


def test_a_large_schedule_takes_no_time() -> None:
    """As many prompts as there can be, more than that, and one prompt of nothing but punctuation."""
    begun = time.perf_counter()
    most, more = (
        json.dumps({str(frame): f"scene {frame}" for frame in range(count)}, indent=0)
        for count in (5_000, 40_000)
    )
    assert manuscript(most, fps=24, seconds="5000f").text.count("prompt:") == 5_000
    with pytest.raises(UserError, match="has 40,000 prompts; a timeline is made of at most 5,000"):
        manuscript(more, fps=24, seconds="40000f")
    for one in ("(" * 900_000, "(a" + ":0" * 400_000, "[0s:" * 200_000, '"' * 900_000, "{" * 900_000):
        for text in (one, json.dumps({"0": one})):
            with pytest.raises(UserError):
                manuscript(text)
    assert time.perf_counter() - begun < 30


def test_a_model_without_the_size_or_the_rate(tmp_path: Path) -> None:
    file = tmp_path / "wonder.txt"
    file.write_text('{"prompts": {"0": "a", "20": "b"}, "W": 512, "H": 512, "fps": 30, "max_frames": 50}')
    made = imported(file, model=("planned", PlanBackend()))
    assert made.text == (
        "# From Deforum: wonder.txt, by `longvid import`.\n"
        "# Differs from it:\n"
        "# - the size 512x512 is left out: planned does not have it\n"
        "# - the rate 30 is left out: planned does not have it; times are the same\n"
        "\n"
        "model: planned\n"
        "\n"
        "shots:\n"
        "  - at: 0\n"
        "    prompt: a\n"
        "\n"
        "  - at: 0.666666667\n"
        "    prompt: b\n"
        "    until: 1.666666667\n"
    )
    assert imported(file, model=("able", BY_FRAME)).notes == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ": is empty; write a prompt a line, or a tool's schedule"),
        (b" \r\n\t", ": is empty"),
        (b"a boat\n\xff\xfeb", ":2: is not UTF-8 text; save it as UTF-8"),
        ("a boat".encode("utf-16"), ":1: is not UTF-8 text"),
        (b"a boat\nb\x00", ":2: holds the control character U+0000"),
        ("a\u0085boat\nb\x9d".encode(), ":2: holds the control character U+009D"),
        (b"a" * 1_000_001, ": has 1,000,001 bytes; a schedule has at most 1,000,000"),
    ],
)
def test_files_that_are_no_schedule(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "wonder.txt"
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        imported(file)
    assert str(caught.value).startswith(f"{file}{message}")


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path}: is a folder, not a schedule; name a file in it"):
        imported(tmp_path)
    with pytest.raises(UserError, match=f"{tmp_path}/none.txt: no such file"):
        imported(tmp_path / "none.txt")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe: is not an ordinary file"):
        imported(tmp_path / "pipe")


def test_line_ends_of_every_kind() -> None:
    assert manuscript("a\r\nb\rc\n", seconds=2).text.count("prompt:") == 3
