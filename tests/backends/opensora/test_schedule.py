"""Level lists and times recorded from the public reference."""

from __future__ import annotations

import re
from functools import cache

import pytest
import torch
from torch import Tensor

from longvid.backends.flow_shift import shift
from longvid.backends.opensora.schedule import shift_ratio
from tests.backends.opensora.cases import Case
from tests.walking import progressive, replacement

KIND = "schedule"
TOLERANCE = 1e-3
"""Of 0 .. 1000."""


def reference_latents(frames: int) -> int:
    """Latents of a window of so many frames, as the reference counts them: 5 for each whole 17 frames."""
    return 1 if frames == 1 else frames // 17 * 5


def test_levels_and_times(case: Case) -> None:
    """Each list by its name's grammar: levels, and by the transform of "240x426x119" the times of them."""
    recorded, combos = case.tensors(), case.about.get("combos_info", {})
    compared = 0
    for name, theirs in recorded.items():
        match name.split("/"):
            case ["transform", "input"]:
                continue
            case ["transform", args]:
                level = recorded["transform/input"] / 1000
            case ["plain", steps, args]:
                level = plain_levels(int(steps))
                args = "" if args == "raw" else args
            case [combo, "all"]:
                latents, _, _ = combo_numbers(combo)
                args, level = "", torch.arange(1, latents + 1) / latents
            case [combo, *maybe_args, stage]:
                latents, steps, chunk = combo_numbers(combo)
                if latents != steps or not combos.get(combo, {}).get("valid", True):
                    continue  # Stages of a wrong length, which the reference cannot sample with.
                level = stage_levels(steps, chunk)[int(stage.removeprefix("stage"))]
                args = "".join(maybe_args)
            case _:
                pytest.fail(f"{case.path}: no test knows what {name} is")
        if args:
            found = re.fullmatch(r"(\d+)x(\d+)x(\d+)(_bf16)?", args)
            assert found, name
            height, width, frames = map(int, found.groups()[:3])
            if found[4] or not reference_latents(frames):
                continue  # The reference rounds the ratio, or has none for less than a chunk of frames.
            level = shift(level, shift_ratio(height, width, reference_latents(frames)))
        assert torch.allclose(1000 * level, theirs, rtol=0, atol=TOLERANCE), name
        compared += 1
    assert compared
    for combo, info in combos.items():
        if info.get("valid") and "num_stages" in info:
            _, steps, chunk = combo_numbers(combo)
            assert info["num_stages"] == len(stage_levels(steps, chunk))


def combo_numbers(combo: str) -> tuple[int, int, int]:
    """ "n30_s30_c5" is 30 latents in 30 steps, 5 to a chunk."""
    found = re.fullmatch(r"n(\d+)_s(\d+)_c(\d+)", combo)
    assert found, combo
    latents, steps, chunk = map(int, found.groups())
    return latents, steps, chunk


@cache
def stage_levels(latents: int, chunk: int) -> list[Tensor]:
    """The levels that a full window goes through until its oldest chunk is finished."""
    window = latents // chunk
    walk = progressive([2 * window], latents, window)
    full = [step for step in walk if len(step.reads) == window and step.reads[0] == 0]
    return [torch.tensor(step.before).repeat_interleave(chunk) / latents for step in full]


def plain_levels(steps: int) -> Tensor:
    walk = replacement([1], steps, 1)
    return torch.tensor([step.before[0] for step in walk]) / steps


def test_a_small_ratio_keeps_the_noisiest_time_at_one() -> None:
    for width in range(8, 512, 8):
        for latents in (1, 5, 10):
            ends = shift(torch.tensor([0.0, 1.0]), shift_ratio(64, width, latents))
            assert ends.tolist() == [0.0, 1.0]
