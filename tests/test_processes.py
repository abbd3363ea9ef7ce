from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import pytest
import torch
from torch import Tensor

from longvid.backends import Process
from longvid.noise import noise
from longvid.processes import DDIM, SOLVERS, RectifiedFlow, ab2, euler

BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
ALPHA_BARS = (1 - BETAS).cumprod(0).float()
"""The table of Stable Diffusion and its relatives."""

ZERO_SNR = torch.cos(torch.arange(1, 101) / 100 * math.pi / 2).square()
ZERO_SNR[-1] = 0

PROCESSES: list[Process] = [
    RectifiedFlow(),
    RectifiedFlow("clean - noise"),
    DDIM(ALPHA_BARS, "noise"),
    DDIM(ALPHA_BARS, "velocity"),
    DDIM(ZERO_SNR, "velocity"),
]
process_each = pytest.mark.parametrize("process", PROCESSES, ids=lambda process: repr(process)[:28])

CLEAN, NOISE = noise(0, 0, 0, (2, 3, 4, 2, 2)), noise(0, 1, 0, (2, 3, 4, 2, 2))
TIMES = torch.tensor([0.9, 0.35, 0.6, 0.2]).view(1, 1, 4, 1, 1)
ZERO, ONE = torch.tensor(0.0), torch.tensor(1.0)


def shares(process: Process, t: Tensor) -> tuple[Tensor, Tensor]:
    """The factors of clean and noise at t, read off the process itself."""
    return process.add_noise(ONE, ZERO, t), process.add_noise(ZERO, ONE, t)


def network(process: Process, clean: Tensor, more: Tensor, t: Tensor) -> Tensor:
    """What a network that knows the picture predicts, by each convention's own definition."""
    signal, sigma = shares(process, t)
    match process:
        case RectifiedFlow(predicts="noise - clean"):
            return more - clean
        case RectifiedFlow():
            return clean - more
        case DDIM(predicts="noise"):
            return more
        case _:
            return signal * more - sigma * clean


@process_each
def test_clean_at_zero_and_each_frame_at_its_own_time(process: Process) -> None:
    assert torch.equal(process.add_noise(CLEAN, NOISE, ZERO), CLEAN)
    together = process.add_noise(CLEAN, NOISE, TIMES)
    for frame in range(4):
        alone = process.add_noise(CLEAN[:, :, frame], NOISE[:, :, frame], TIMES[0, 0, frame])
        torch.testing.assert_close(together[:, :, frame], alone, rtol=0, atol=1e-6)


@process_each
def test_renoise_is_exact_in_distribution(process: Process) -> None:
    """The factors that carry (share of clean, variance) from one time to another, for many pairs of times."""
    for start in (0.0, 0.1, 0.5, 0.95):
        for end in (start, 0.5, 0.7, 0.95, 0.999):
            if end < start:
                continue
            t_from, t_to = torch.tensor(start), torch.tensor(end)
            scale, std = process.renoise(ONE, ZERO, t_from, t_to), process.renoise(ZERO, ONE, t_from, t_to)
            signal, sigma = shares(process, t_from)
            signal_to, sigma_to = shares(process, t_to)
            torch.testing.assert_close(scale * signal, signal_to, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close((scale * sigma) ** 2 + std**2, sigma_to**2, rtol=1e-5, atol=1e-6)


@process_each
def test_renoise_at_its_ends(process: Process) -> None:
    torch.testing.assert_close(
        process.renoise(CLEAN, NOISE, ZERO, TIMES), process.add_noise(CLEAN, NOISE, TIMES)
    )
    for t in (TIMES, ZERO, ONE):
        assert torch.equal(process.renoise(CLEAN, NOISE, t, t), CLEAN)
    every = process.renoise(CLEAN, NOISE, TIMES, ONE)
    assert every.isfinite().all()


def test_renoise_to_the_end_is_pure_noise_for_rectified_flow() -> None:
    assert torch.equal(RectifiedFlow().renoise(CLEAN, NOISE, TIMES, ONE), NOISE)


@process_each
def test_a_network_that_knows_the_picture_gives_it_back_in_any_steps(process: Process) -> None:
    start = 1 - 1e-3 if isinstance(process, DDIM) and process.predicts == "noise" else 1.0
    for times in ([start, 0.0], [start, 0.7, 0.69, 0.3, 0.0], torch.linspace(start, 0, 21).tolist()):
        x = process.add_noise(CLEAN, NOISE, torch.tensor(times[0]))
        for t, t_next in pairwise(torch.tensor(times)):
            slope = process.slope(x, network(process, CLEAN, NOISE, t), t)
            x = process.step(x, slope, t, t_next)
            torch.testing.assert_close(x, process.add_noise(CLEAN, NOISE, t_next), rtol=0, atol=2e-5)


@process_each
def test_the_slope_is_noise_minus_clean_and_steps_go_either_way(process: Process) -> None:
    x = process.add_noise(CLEAN, NOISE, TIMES)
    slope = process.slope(x, network(process, CLEAN, NOISE, TIMES), TIMES)
    torch.testing.assert_close(slope, NOISE - CLEAN, rtol=0, atol=2e-5)
    torch.testing.assert_close(process.step(x, slope, TIMES, TIMES), x, rtol=0, atol=1e-6)
    up = process.step(x, slope, TIMES, torch.tensor(0.97))
    torch.testing.assert_close(up, process.add_noise(CLEAN, NOISE, torch.tensor(0.97)), rtol=0, atol=2e-5)


def test_an_euler_step_of_rectified_flow() -> None:
    x, v = torch.tensor([1.0]), torch.tensor([4.0])
    t, t_next = torch.tensor(0.75), torch.tensor(0.5)
    ours, published = RectifiedFlow(), RectifiedFlow("clean - noise")
    assert ours.step(x, ours.slope(x, v, t), t, t_next) == torch.tensor([0.0])
    assert published.step(x, published.slope(x, v, t), t, t_next) == torch.tensor([2.0])


@pytest.mark.parametrize("predicts", ["noise", "velocity"])
def test_a_step_is_ddim_without_noise(predicts: Literal["noise", "velocity"]) -> None:
    """Song et al. 2021, eq. 12 with sigma = 0, written out in float64, with an arbitrary prediction."""
    process = DDIM(ALPHA_BARS, predicts)
    x, prediction = CLEAN.double(), NOISE.double()
    for index, index_next in ((999, 949), (500, 499), (20, 0), (300, -1)):
        a = ALPHA_BARS[index].double()
        a_next = ALPHA_BARS[index_next].double() if index_next >= 0 else torch.tensor(1.0).double()
        if predicts == "noise":
            eps, clean = prediction, (x - (1 - a).sqrt() * prediction) / a.sqrt()
        else:
            eps = a.sqrt() * prediction + (1 - a).sqrt() * x
            clean = a.sqrt() * x - (1 - a).sqrt() * prediction
        expected = a_next.sqrt() * clean + (1 - a_next).sqrt() * eps

        t, t_next = torch.tensor((index + 1) / 1000), torch.tensor((index_next + 1) / 1000)
        moved = process.step(CLEAN, process.slope(CLEAN, NOISE, t), t, t_next)
        torch.testing.assert_close(moved, expected.float(), rtol=1e-4, atol=1e-4)


def test_alpha_bar_meets_the_table_and_is_continuous() -> None:
    process = DDIM(ALPHA_BARS, "noise")
    at_entries = process.alpha_bar(torch.arange(1001) / 1000)
    torch.testing.assert_close(at_entries, torch.cat([torch.ones(1), ALPHA_BARS]), rtol=1e-5, atol=1e-6)
    between = process.alpha_bar(torch.tensor(0.5005))
    torch.testing.assert_close(between, (ALPHA_BARS[499] + ALPHA_BARS[500]) / 2, rtol=1e-5, atol=0)
    fine = process.alpha_bar(torch.linspace(0, 1, 20001))
    assert (fine.diff() <= 0).all() and float(-fine.diff().min()) < 1e-3
    assert process.timestep(torch.tensor([0.0, 0.001, 0.5005, 1.0])).tolist() == pytest.approx(
        [0, 0, 499.5, 999], abs=1e-3
    )


@process_each
def test_the_clock_rises_from_zero(process: Process) -> None:
    clock = process.clock(torch.linspace(0, 1, 501))
    assert clock[0] == 0 and 0.9 < clock[-1] <= 1 and (clock.diff() > 0).all()


@pytest.mark.parametrize(
    "table", [[[0.9, 0.5]], [0.5, 0.9], [0.5, 0.5], [1.1, 0.5], [0.5, -0.1]], ids=lambda table: str(table)
)
def test_a_table_that_does_not_fall_from_one_to_zero(table: list[float]) -> None:
    with pytest.raises(ValueError, match="falling row"):
        DDIM(torch.tensor(table), "noise")


def test_a_noise_network_cannot_begin_at_zero_snr() -> None:
    with pytest.raises(ValueError, match="alpha_bar = 0"):
        DDIM(ZERO_SNR, "noise")


def test_solvers_by_name() -> None:
    assert dict(SOLVERS) == {"euler": euler, "ab2": ab2}
    slope = torch.tensor([3.0])
    assert euler(slope, torch.tensor([1.0]), torch.tensor([1.0])) == (slope, None)
    assert ab2(slope, None, torch.tensor([0.0])) == (slope, slope)


def test_ab2_is_exact_where_the_slope_is_linear_in_time_whatever_the_steps() -> None:
    """dx/dt = a + b t has the integral a t + b t^2 / 2; Euler's error on it is b h^2 / 2 a step."""
    times = [1.0, 0.85, 0.8, 0.5, 0.1, 0.0]
    a, b = 0.7, -1.9
    x, previous, taken = torch.tensor(2.0), torch.tensor(a + b * 1.2), -0.2  # as if it had come from 1.2
    for t, t_next in pairwise(times):
        slope, previous = ab2(torch.tensor(a + b * t), previous, torch.tensor((t_next - t) / taken))
        assert previous is not None
        x, taken = RectifiedFlow().step(x, slope, torch.tensor(t), torch.tensor(t_next)), t_next - t
    assert float(x) == pytest.approx(2.0 - a - b / 2, abs=1e-6)
