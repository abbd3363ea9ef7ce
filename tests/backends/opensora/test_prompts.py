from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from longvid.backends.opensora import prompts
from longvid.backends.opensora.prompts import (
    Options,
    Scores,
    append_scores,
    clean,
    merge_loops,
    pick_loop,
    prepare,
    read_options,
    split_loops,
    unknown_words,
)
from longvid.errors import UserError
from tests.backends.opensora.cases import Case
from tests.backends.opensora.tiny_t5 import write_tiny_t5

KIND = "text_prompts"
NO_SCORES = Scores(aesthetic=None)


def recorded_scores(variant: str, rows: list[dict[str, Any]]) -> Scores:
    """The scores behind a variant, as what it adds to the texts that have none yet says them."""
    added = " ".join(
        text.removeprefix(segment)
        for row in rows
        if variant in row
        for text, segment in zip(row[variant]["scored"], row["segments"], strict=True)
    )
    aesthetic, motion, camera = (
        re.search(rf" {label}: (.+?)\.(?= |$)", added)
        for label in ("aesthetic score", "motion score", "camera motion")
    )
    return Scores(
        float(aesthetic[1]) if aesthetic else None,
        float(motion[1]) if motion else None,
        camera[1] if camera else None,
    )


def recorded_variants(case: Case) -> Iterator[tuple[dict[str, Any], Scores, dict[str, Any]]]:
    """Each row with each variant's scores and what became of it."""
    rows = case.about["rows"]
    variants = {key for row in rows for key in row} - {"prompt", "segments", "loop_idx"}
    scores = {variant: recorded_scores(variant, rows) for variant in variants}
    for row in rows:
        for variant in variants & row.keys():
            yield row, scores[variant], row[variant]


def test_recorded_prompts(case: Case) -> None:
    for row, scores, expected in recorded_variants(case):
        segments, loops = split_loops(row["prompt"])
        assert (segments, loops) == (row["segments"], row["loop_idx"])
        scored = [append_scores(segment, scores) for segment in segments]
        assert scored == expected["scored"]
        cleaned = [clean(text) for text in scored]
        assert cleaned == expected["cleaned"]
        merged = merge_loops(cleaned, loops)
        assert merged == expected["merged"]
        assert [pick_loop(merged, loop) for loop in range(len(expected["loops"]))] == expected["loops"]


def test_recorded_prompts_as_a_film_has_them(case: Case) -> None:
    for row, scores, expected in recorded_variants(case):
        for segment, cleaned in zip(row["segments"], expected["cleaned"], strict=True):
            assert prepare(segment, scores) == (cleaned if segment else "")


def test_a_prompt_is_cleaned_twice() -> None:
    assert clean("a%252520boat") == "a%20boat"


def test_a_label_has_one_decimal_and_is_said_once() -> None:
    every = Scores(aesthetic=6, motion=12.25, camera="static")
    text = append_scores("a boat.", every)
    assert text == "a boat. aesthetic score: 6.0. motion score: 12.2. camera motion: static."
    assert append_scores(text, Scores(1, 1, "zoom in")) == text
    assert append_scores("a boat.", NO_SCORES) == "a boat."


def test_the_null_prompt_stays_the_null_prompt() -> None:
    assert prepare("", Scores()) == ""


@pytest.mark.parametrize("prompt", ["c:\\boat.txt", "/usr/boat", "<?xml version='1.0'?> a boat", "http:boat"])
def test_what_looks_like_a_path_or_markup_warns_of_nothing(prompt: str) -> None:
    clean(prompt)


def test_broken_markup_is_named() -> None:
    with pytest.raises(UserError) as failed:
        prepare("a boat <![ b", NO_SCORES)
    assert str(failed.value) == "prompt 'a boat <![ b': reads as broken HTML; write it without `<![`"


@pytest.mark.parametrize(
    ("module", "package"), [("bs4", "beautifulsoup4"), ("ftfy", "ftfy"), ("diffusers", "diffusers")]
)
def test_without_a_cleaning_package_nothing_is_left_uncleaned(
    module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    prompts._cleaner.cache_clear()
    with pytest.raises(UserError) as failed:
        prepare("a boat", Scores())
    assert str(failed.value) == f"Open-Sora's prompts need {package}; pip install 'longvid[models]'"


def test_loops_out_of_order_text_and_plain_prompts() -> None:
    assert split_loops("|1| a |2| b") == (["|1| a |2| b"], None)
    assert split_loops("|0| a | b |10| c") == (["a | b", "c"], [0, 10])
    assert [pick_loop("|0|a|10|c", loop) for loop in (0, 9, 10, 99)] == ["a", "a", "c", "c"]
    assert pick_loop("a", 7) == "a"


# Options


def test_the_options_defaults() -> None:
    assert read_options({}) == Options(Scores(6.5, None, None), "auto")


def test_options_are_read() -> None:
    every = {"aesthetic": 5, "motion": 0, "camera": "tilt up", "text_encoder": "4bit"}
    assert read_options(every) == Options(Scores(5.0, 0.0, "tilt up"), "4bit")
    off = {"aesthetic": None, "motion": None, "camera": None}
    assert read_options(off) == Options(NO_SCORES, "auto")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"asthetic": 6},
            "model_options.asthetic: Open-Sora has no such option; did you mean aesthetic?",
        ),
        (
            {"x": 6},
            "model_options.x: Open-Sora has no such option; "
            "there is: aesthetic, motion, camera, text_encoder",
        ),
        (
            {"aesthetic": 11},
            "model_options.aesthetic: 11 is out of range; 1 to 10, or null to leave it out",
        ),
        (
            {"aesthetic": "high"},
            "model_options.aesthetic: 'high' is no number; 1 to 10, or null to leave it out",
        ),
        ({"aesthetic": True}, "model_options.aesthetic: True is no number; 1 to 10, or null to leave it out"),
        (
            {"motion": float("nan")},
            "model_options.motion: nan is out of range; 0 to 100, or null to leave it out",
        ),
        (
            {"camera": "pan rigth"},
            "model_options.camera: no camera motion 'pan rigth'; did you mean pan right?; null leaves it out",
        ),
        (
            {"text_encoder": "8-bit"},
            "model_options.text_encoder: no way to run it '8-bit'; did you mean 8bit?",
        ),
        (
            {"text_encoder": None},
            "model_options.text_encoder: no way to run it nothing; there is: auto, cpu, 8bit, 4bit",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_wrong_option_is_named_with_the_nearest_fix(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as failed:
        read_options(options)
    assert str(failed.value).lower() == message.lower()


def test_options_are_read_without_torch() -> None:
    code = (
        "import sys; from longvid.backends.opensora.prompts import read_options; read_options({'motion': 5});"
        "print(*{'torch', 'diffusers', 'transformers', 'sentencepiece', 'numpy'} & set(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


# Words


def test_words_that_the_vocabulary_lacks(tmp_path: Path) -> None:
    file = tmp_path / "spiece.model"
    assert unknown_words("кот", file) == []
    write_tiny_t5(tmp_path)
    assert unknown_words("A Red boat, кот 😀 {x} 船! кот (24 fps)", file) == ["кот", "😀", "船"]
