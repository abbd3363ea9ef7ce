import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from longvid.benchmarks import Setup
from longvid.benchmarks.steps import (
    TURNS,
    WINDOW_SECONDS,
    Probe,
    Rate,
    flop_counter,
    measure_steps,
    product,
    take_turns,
)
from tests.installed import install_tiny

CPU = torch.device("cpu")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(install_tiny(tmp_path)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def counted(call: Callable[[], object]) -> tuple[int, dict[tuple[int, int, int], int]]:
    counter, shapes = flop_counter()
    with torch.inference_mode(), counter:
        call()
    return counter.get_total_flops(), dict(shapes)


def test_linear_layers_are_counted_with_their_shapes() -> None:
    x, weight, bias = torch.randn(2, 3, 4), torch.randn(5, 4), torch.randn(5)
    assert counted(lambda: F.linear(x, weight, bias)) == (2 * 6 * 4 * 5, {(6, 4, 5): 1})
    assert counted(lambda: F.linear(x[0], weight)) == (2 * 3 * 4 * 5, {(3, 4, 5): 1})
    twice = counted(lambda: (F.linear(x, weight, bias), F.linear(x, weight, bias)))
    assert twice == (2 * 2 * 6 * 4 * 5, {(6, 4, 5): 2})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_is_counted_on_a_cpu(dtype: torch.dtype) -> None:
    b, heads, n, m, e = 2, 3, 5, 7, 8
    q, k, v = (torch.randn(b, heads, tokens, e, dtype=dtype) for tokens in (n, m, m))
    assert counted(lambda: F.scaled_dot_product_attention(q, k, v)) == (2 * 2 * b * heads * n * m * e, {})


def test_convolutions_are_counted() -> None:
    x, weight = torch.randn(1, 2, 4, 4), torch.randn(3, 2, 3, 3)
    assert counted(lambda: F.conv2d(x, weight, padding=1)) == (2 * 3 * 4 * 4 * 2 * 3 * 3, {})


def test_a_rate() -> None:
    assert Rate((10, 20, 30), 0.5).flops == 2 * 10 * 20 * 30 / 0.5
    shape, probe = product((2, 3, 4), torch.bfloat16, CPU)
    assert shape == (2, 3, 4)
    made = probe.call()
    assert isinstance(made, torch.Tensor)
    assert (made.shape, made.dtype) == ((2, 4), torch.bfloat16)


def test_everything_is_timed_in_turn() -> None:
    calls: list[str] = []
    slow, fast = (
        Probe(lambda name=name, pause=pause: (calls.append(name), time.sleep(pause)), CPU)
        for name, pause in (("slow", WINDOW_SECONDS / TURNS), ("fast", 0.004))
    )
    calls.clear()
    take_turns([slow, fast], deadline=time.monotonic() + 60)
    assert len(slow.seconds) == TURNS
    # A turn is 0.01 s long: three of the fast one's calls at most, one where the machine is busy.
    assert TURNS <= len(fast.seconds) <= 3 * TURNS
    assert calls[0] == "slow"
    assert [calls[i + 1] for i, name in enumerate(calls[:-1]) if name == "slow"] == ["fast"] * TURNS
    assert min(slow.times) >= WINDOW_SECONDS / TURNS


def test_without_time_left_the_first_counts() -> None:
    probe = Probe(lambda: time.sleep(0.002), CPU)
    take_turns([probe], deadline=time.monotonic())
    assert probe.seconds == []
    assert probe.times == [probe.first_seconds]
    assert probe.first_seconds >= 0.002


@pytest.mark.usefixtures("tiny")
def test_a_step_is_measured_in_every_way() -> None:
    steps = measure_steps(Setup("tiny", dtype="bfloat16"), [1, 2], 60)
    assert [(run.latents, run.dtype, run.compiled) for run in steps.runs] == [
        (2, "bfloat16", False),
        (4, "bfloat16", False),
    ]
    assert (steps.size, steps.skipped, steps.card) == ((24, 16), (), False)
    assert steps.threads == torch.get_num_threads()
    for run in steps.runs:
        assert run.calls == 2
        assert run.runs >= TURNS
        assert 0 < run.seconds <= run.median_seconds
        assert run.square.shape == (1024, 1024, 1024)
        assert run.linear is not None
        assert run.linear.shape == (1, 8, 8)  # its only one: what the window's prompt says
    narrow, wide = steps.runs
    assert wide.flop > narrow.flop > 0


@pytest.mark.usefixtures("tiny")
def test_a_window_without_time_is_skipped() -> None:
    steps = measure_steps(Setup("tiny", dtype="float32"), [1, 3], 0)
    assert [run.latents for run in steps.runs] == [2]
    assert steps.skipped == (6,)
    assert steps.runs[0].seconds == steps.runs[0].first_seconds


@pytest.mark.usefixtures("tiny")
def test_float32_stands_beside_what_a_render_computes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for flags, dtypes in ((["avx512_bf16"], ["bfloat16", "float32"]), ([], ["float32"])):
        monkeypatch.setattr("longvid.devices.cpu_flags", lambda flags=flags: frozenset(flags))
        steps = measure_steps(Setup("tiny"), [1], 0)
        assert [run.dtype for run in steps.runs] == dtypes
        assert [run.dtype for run in steps.rendering()] == dtypes[:1]
