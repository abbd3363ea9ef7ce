"""Level lists and times recorded from the public reference."""

from __future__ import annotations

import re

import torch

from longvid.backends.opensora.schedule import shift, shift_ratio
from longvid.methods import METHODS
from tests.backends.opensora.cases import Case

KIND = "schedule"
TOLERANCE = 1e-3
"""Of 0 .. 1000."""

progressive, replacement = METHODS["progressive"], METHODS["replace"]


def reference_latents(frames: int) -> int:
    """Latents of a window of so many frames, as the reference counts them: 5 for each whole 17 frames."""
    return 1 if frames == 1 else frames // 17 * 5


def test_levels_and_times(case: Case) -> None:
    recorded, about = case.tensors(), case.about
    compared = set()

    def compare(key: str, levels: list[int], steps: int) -> None:
        """The levels, and each list of times made of them by the transform."""
        level = torch.tensor(levels) / steps
        close = torch.allclose(1000 * level, recorded[key], rtol=0, atol=TOLERANCE)
        assert close, key
        compared.add(key)
        group, name = key.split("/", 1)
        for height, width, frames, dtype in about["config"]["args"]:
            rounded = "_bf16" if "bfloat16" in dtype else ""
            args = f"{height}x{width}x{frames}{rounded}"
            timed = f"{group}/{args}/{name}" if name != "raw" else f"{group}/{args}"
            timed = timed if timed in recorded else f"{group}/{name.removesuffix('/raw')}/{args}"
            if rounded:  # The reference rounds the ratio there; ours has it in full, and differs by as much.
                compared.add(timed)
                continue
            times = 1000 * shift(level, shift_ratio(height, width, reference_latents(frames)))
            assert torch.allclose(times, recorded[timed], rtol=0, atol=TOLERANCE), timed
            compared.add(timed)

    for latents, steps, chunk in about["config"]["combos"]:
        name = f"n{latents}_s{steps}_c{chunk}"
        if not about["combos_info"][name]["valid"]:
            compared |= {key for key in recorded if key.startswith(f"{name}/")}
            continue
        window, stages = latents // chunk, about["combos_info"][name]["num_stages"]
        stride = steps // window
        assert stages == stride
        walk = list(progressive([2 * window], steps, window))
        for stage in range(stages):
            step = walk[(window - 1) * stride + stage]
            assert len(step.reads) == window and step.reads[0] == 0
            compare(f"{name}/stage{stage}", [level for level in step.before for _ in range(chunk)], steps)
        compare_all = torch.arange(1, latents + 1) / latents * 1000
        assert torch.allclose(recorded[f"{name}/all"], compare_all, rtol=0, atol=TOLERANCE)
        compared.add(f"{name}/all")

    for key in recorded:
        if plain := re.fullmatch(r"plain/(\d+)/raw", key):
            steps = int(plain[1])
            compare(key, [step.before[0] for step in replacement([1], steps, 1)], steps)

    for height, width, frames, dtype in about["config"]["args"]:
        key = f"transform/{height}x{width}x{frames}" + ("_bf16" if "bfloat16" in dtype else "")
        if key in recorded and "bfloat16" not in dtype:
            times = shift(
                recorded["transform/input"] / 1000, shift_ratio(height, width, reference_latents(frames))
            )
            assert torch.allclose(1000 * times, recorded[key], rtol=0, atol=TOLERANCE), key
        compared.add(key)
    assert recorded.keys() - compared <= {"transform/input"}


def test_a_small_ratio_keeps_the_noisiest_time_at_one() -> None:
    for side in range(16, 512, 8):
        ends = shift(torch.tensor([0.0, 1.0]), shift_ratio(side, side, 1))
        assert ends.tolist() == [0.0, 1.0]
