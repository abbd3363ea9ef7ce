"""Trajectories recorded from the public samplers, replayed through the `denoise` that renders films."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longvid.backends import Prompts
from longvid.backends.opensora.denoiser import OpenSoraDenoiser, OpenSoraText
from longvid.backends.opensora.schedule import shift, shift_ratio
from longvid.backends.opensora.stdit3 import STDiT3, cast
from longvid.denoise import WindowState, denoise
from longvid.guidance import classifier_free
from longvid.methods import METHODS, WindowStep
from longvid.noise import UnitNoise
from longvid.processes import RectifiedFlow, euler
from tests.backends.opensora.cases import Case
from tests.backends.opensora.reading import network
from tests.backends.opensora.test_schedule import reference_latents

KIND = "sampler"
TOLERANCE = 1e-4
FLOW = RectifiedFlow("clean - noise")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Trajectory:
    """What one replay needs. ``given``: latents of the film's start that were there before."""

    steps: Iterable[WindowStep]
    state: WindowState
    noise: UnitNoise
    levels: int
    given: Tensor


@dataclass(frozen=True)
class Replayed:
    shown: list[Tensor]
    """The window before each evaluation."""
    times: list[Tensor]
    film: Tensor


def test_trajectory(case: Case) -> None:
    config, recorded = case.config, case.tensors()
    if "inputs" in config:
        check_bf16(case.beside(config["inputs"]), recorded)
        return
    stdit3 = network(case.beside(config["model"]), config["model_config"])
    loops = sorted({key.partition("/")[0] + "/" for key in recorded if key.startswith("loop")})
    for prefix in loops or [""]:
        in_loop = {key.removeprefix(prefix): value for key, value in recorded.items()}
        for sample in range(len(in_loop["in/z"])):
            one = only(in_loop, sample)
            compare(replay(stdit3, config, one), one)


def only(recorded: dict[str, Tensor], sample: int) -> dict[str, Tensor]:
    """One sample of a batch: their windows need not be at the same levels."""
    return {key: value[sample % len(value)][None] for key, value in recorded.items()}


def compare(ours: Replayed, recorded: dict[str, Tensor]) -> None:
    """Every recorded window and time, and what came out."""
    final = recorded["out/final"]
    windows = 0
    for step, (shown, t) in enumerate(zip(ours.shown, ours.times, strict=True)):
        if f"step/{step:03d}/t" in recorded:
            times = recorded[f"step/{step:03d}/t"]
            if times.ndim == 1:
                mask = recorded.get(f"step/{step:03d}/x_mask", torch.ones(1, t.shape[1], dtype=torch.bool))
                times = times[:, None] * mask
            assert torch.allclose(1000 * t, times, rtol=0, atol=1e-3), f"times of step {step}"
        if f"step/{step:03d}/z" in recorded:
            close = torch.allclose(shown, recorded[f"step/{step:03d}/z"], rtol=0, atol=TOLERANCE)
            assert close, f"window of step {step}"
            windows += 1
    assert windows
    # Where the reference stops short or rounds down, ours has more.
    assert ours.film.shape[2] >= final.shape[2]
    assert torch.allclose(ours.film[:, :, : final.shape[2]], final, rtol=0, atol=TOLERANCE)


def replay(stdit3: STDiT3, config: dict[str, Any], recorded: dict[str, Tensor]) -> Replayed:
    """Our film from the recorded start, prompts and draws."""
    scheduler = config["scheduler"]
    schedule = identity
    picture = float(recorded["in/height"][0]), float(recorded["in/width"][0])
    if scheduler.get("use_timestep_transform"):
        latents = reference_latents(int(recorded["in/num_frames"][0]))
        ratio = shift_ratio(*picture, latents)
        schedule = lambda level: shift(level, ratio)  # noqa: E731  a partial would hide its argument's name
    start = progressive if scheduler["pa_vdm"] else masked
    made = start(config, recorded, schedule)

    mask = recorded["in/mask"].bool()
    prompts = Prompts(recorded["in/y"][:, 0], mask)
    units = 1 + max(max(step.reads) for step in made.steps)
    text = OpenSoraText.of(prompts, recorded["in/y_null"][0, 0], {}, torch.ones(units, 1))
    scale = config.get("guidance_scale", scheduler["cfg_scale"])
    denoiser = OpenSoraDenoiser(stdit3, float(recorded["in/fps"][0]), picture, CPU)
    guided = classifier_free(denoiser, text, [scale] * units)
    shown, times = [], []

    def predict(x: Tensor, t: Tensor, units: tuple[int, ...]) -> Tensor:
        shown.append(x)
        times.append(t)
        return guided(x, t, units)

    finished = {}
    happening = denoise(
        made.steps,
        made.state,
        predict=predict,
        schedule=schedule,
        process=FLOW,
        solver=euler,
        total_levels=made.levels,
        noise=made.noise,
    )
    for _, clean in happening:
        finished |= {unit.unit: unit.latents for unit in clean}
    l = next(iter(finished.values())).shape[2]  # noqa: E741  the shape alphabet's name for it
    film = [
        finished.get(unit, made.given[:, :, unit * l : (unit + 1) * l]) for unit in range(max(finished) + 1)
    ]
    return Replayed(shown, times, torch.cat(film, 2))


def identity(level: Tensor) -> Tensor:
    return level


def progressive(
    config: dict[str, Any], recorded: dict[str, Tensor], schedule: Callable[[Tensor], Tensor]
) -> Trajectory:
    """PA-VDM's sampler: from one clean chunk or from noise and of any length, or from a noised clip."""
    scheduler, z = config["scheduler"], recorded["in/z"]
    chunk, steps = scheduler["latent_chunk_size"], scheduler["num_sampling_steps"]
    keep, asked = bool(scheduler.get("keep_x0")), config["num_ar_latent_frames"]
    window = (config["num_frames"] - chunk * keep) // chunk
    stride = steps // window
    method, overlap = METHODS["progressive"], int(keep)
    if scheduler.get("variable_length"):
        walk = list(method([-(-asked // chunk)], steps, window, given=int(keep), overlap=overlap))
        given = z[:, :, : chunk * keep]
        state = WindowState(0, (0,) * keep, (0,) * keep, given, None)
        return Trajectory(walk, state, lambda unit, step: recorded[f"draw/{unit - keep:03d}"], steps, given)

    # The clip fills the window as if it had been rendered up to here. One draw has the noise of all that the
    # clip and, behind a clean chunk, the first new one need.
    start = (window - 1) * stride
    walk = list(method([window + asked], steps, window, given=int(keep), overlap=overlap))
    levels = tuple(stride * (k + (not keep)) for k in range(window))
    draws = recorded["draw/000"].split(chunk, 2)
    behind = [torch.zeros_like(draws[0])] * keep + list(draws)

    def noise(unit: int, step: int) -> Tensor:
        return behind[unit] if unit < len(behind) else recorded[f"draw/{unit - len(behind) + 1:03d}"]

    times = schedule(torch.tensor(levels).repeat_interleave(chunk) / steps).view(1, 1, -1, 1, 1)
    noised = FLOW.add_noise(z, torch.cat(behind[:window], 2), times)
    state = WindowState(start, tuple(range(window)), levels, noised, None)
    return Trajectory([step for step in walk if start <= step.step < start + asked], state, noise, steps, z)


def masked(
    config: dict[str, Any], recorded: dict[str, Tensor], schedule: Callable[[Tensor], Tensor]
) -> Trajectory:
    """Open-Sora's own sampler, one latent a unit: a latent enters when time has come down to its mask's
    share, noised from what it was, and one whose mask is 0 is only read."""
    steps, z = config["scheduler"]["num_sampling_steps"], recorded["in/z"]
    mask = recorded.get("in/x_cond_mask", torch.ones(1, z.shape[2]))[0]
    times = schedule(torch.arange(steps + 1) / steps)
    units = range(len(mask))
    walk = []
    for step in range(steps):
        level = steps - step
        moves = [bool(mask[unit] >= times[level]) for unit in units]
        walk.append(
            WindowStep(
                step,
                tuple(units),
                tuple(level if moves[unit] else 0 for unit in units),
                tuple(level - 1 if moves[unit] else None for unit in units),
                tuple(unit for unit in units if moves[unit] and level == 1),
            )
        )
    if set(mask.tolist()) <= {0.0, 1.0} and mask.sort().values.equal(mask):
        given = int((mask == 0).sum())
        new = len(mask) - given
        assert walk == list(METHODS["replace"]([len(mask)], steps, new, given=given, overlap=given))
    clean = tuple(unit for unit in units if mask[unit] < 1)
    state = WindowState(0, clean, (0,) * len(clean), z[:, :, list(clean)], None)

    def noise(unit: int, step: int) -> Tensor:
        # What is all new comes in as noise already.
        drawn = z if mask[unit] == 1 else recorded[f"draw/{step:03d}"]
        return drawn[:, :, unit : unit + 1]

    return Trajectory(walk, state, noise, steps, z)


def check_bf16(exact: Case, recorded: dict[str, Tensor]) -> None:
    """From the same draws, ours in bf16 stays nearer to ours in fp32 than the recorded bf16 does."""
    recorded = {key: value.float() for key, value in recorded.items()}
    config, inputs = exact.config, exact.tensors() | recorded
    stdit3 = network(exact.beside(config["model"]), config["model_config"])
    wide = replay(stdit3, config, inputs)
    narrow = replay(cast(deepcopy(stdit3), torch.bfloat16), config, inputs)
    windows = [step for step in range(1, len(wide.shown)) if f"step/{step:03d}/z" in recorded]
    assert windows
    for step in windows:
        ours, theirs = (
            (z - wide.shown[step]).square().mean()
            for z in (narrow.shown[step], recorded[f"step/{step:03d}/z"])
        )
        print(step, ours, theirs)
        assert ours < theirs, f"window of step {step}"
