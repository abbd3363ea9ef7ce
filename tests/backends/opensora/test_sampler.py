"""Trajectories recorded from the public samplers, replayed through the `denoise` that renders films."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from longvid.backends import Prompts
from longvid.backends.flow_shift import shift
from longvid.backends.opensora.config import TransformerSize
from longvid.backends.opensora.denoiser import OpenSoraDenoiser, OpenSoraText
from longvid.backends.opensora.schedule import shift_ratio
from longvid.backends.opensora.stdit3 import STDiT3, cast
from longvid.denoise import WindowState, denoise
from longvid.guidance import classifier_free
from longvid.methods import WindowStep
from longvid.noise import UnitNoise
from longvid.processes import RectifiedFlow, euler
from tests import walking
from tests.backends.opensora.cases import Case
from tests.backends.opensora.reading import network, readings
from tests.backends.opensora.test_schedule import reference_latents

KIND = "sampler"
TOLERANCE = 1e-4
FLOW = RectifiedFlow("clean - noise")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Trajectory:
    """What one replay needs. ``given``: latents at the film's start that were there before."""

    steps: Sequence[WindowStep]
    state: WindowState
    noise: UnitNoise
    levels: int
    unit_latents: int
    given: Tensor


@dataclass(frozen=True)
class Replayed:
    shown: list[Tensor]
    """The window before each evaluation."""
    times: list[Tensor]
    film: Tensor


def test_trajectory(case: Case) -> None:
    if case.in_bf16:
        check_bf16(case)
        return
    stdit3 = network(case)
    for recorded, picture in samples(case.tensors()):
        compare(replay(stdit3, case.config, recorded, picture), recorded)


def samples(recorded: dict[str, Tensor]) -> Iterator[tuple[dict[str, Tensor], tuple[float, float]]]:
    """What was recorded of each sample of each loop alone: their windows need not be at the same levels. And
    the picture that positions are scaled by, which is the first sample's."""
    height, width = (recorded[f"in/{side}"][0].item() for side in ("height", "width"))
    loops = sorted({name.partition("/")[0] for name in recorded if name.startswith("loop")})
    for loop in loops or [""]:
        in_loop = {name.removeprefix(f"{loop}/"): value for name, value in recorded.items()}
        for sample in range(len(in_loop["in/z"])):
            yield {name: value[sample % len(value)][None] for name, value in in_loop.items()}, (height, width)


def compare(ours: Replayed, recorded: dict[str, Tensor]) -> None:
    """Every recorded window and its times, and what came out."""
    compared = 0
    for name, theirs in recorded.items():
        match name.split("/"):
            case ["step", step, "t"]:
                # Plain: one time a sample, and 0 where the mask holds a latent.
                mask = recorded.get(f"step/{step}/x_mask", torch.ones(1))
                times = 1000 * ours.times[int(step)]
                assert torch.allclose(times, theirs.view(1, -1) * mask, rtol=0, atol=1e-3), name
            case ["step", step, "z"]:
                assert torch.allclose(ours.shown[int(step)], theirs, rtol=0, atol=TOLERANCE), name
            case ["out", "final"]:
                # Where the reference stops short or rounds down, ours has more.
                film = ours.film[:, :, : theirs.shape[2]]
                assert film.shape == theirs.shape
                assert torch.allclose(film, theirs, rtol=0, atol=TOLERANCE), name
            case _:
                continue
        compared += 1
    assert compared


def replay(
    stdit3: STDiT3, config: dict[str, Any], recorded: dict[str, Tensor], picture: tuple[float, float]
) -> Replayed:
    """Our film from the recorded start, prompts and draws."""
    scheduler = config["scheduler"]
    schedule: Callable[[Tensor], Tensor] = torch.clone
    if scheduler.get("use_timestep_transform"):
        height, width, frames = (recorded[f"in/{name}"].item() for name in ("height", "width", "num_frames"))
        schedule = partial(shift, ratio=shift_ratio(height, width, reference_latents(int(frames))))
    start = progressive if scheduler.get("pa_vdm") else masked
    made = start(config, recorded, schedule)

    y, null = recorded["in/y"][:, 0], recorded.get("in/y_null", stdit3.null_embeddings[None, None])[0, 0]
    prompts = Prompts(y, recorded.get("in/mask", torch.ones(y.shape[:2])).bool())
    units = 1 + max(max(step.reads) for step in made.steps)
    text = OpenSoraText.of(prompts, null, {}, torch.ones(units, 1))
    scale = config.get("guidance_scale")
    scale = scheduler.get("cfg_scale", 7.0) if scale is None else scale
    denoiser = OpenSoraDenoiser(stdit3, recorded["in/fps"].item(), picture, CPU)
    guided = classifier_free(denoiser, text, [scale] * units)
    shown, times = [], []

    def predict(x: Tensor, t: Tensor, units: tuple[int, ...]) -> Tensor:
        shown.append(x)
        times.append(t)
        return guided(x, t, units)

    film = dict(enumerate(made.given.split(made.unit_latents, 2)))
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
    for _, finished in happening:
        film |= {unit.unit: unit.latents for unit in finished}
    assert sorted(film) == list(range(len(film)))
    return Replayed(shown, times, torch.cat([film[unit] for unit in sorted(film)], 2))


def progressive(
    config: dict[str, Any], recorded: dict[str, Tensor], schedule: Callable[[Tensor], Tensor]
) -> Trajectory:
    """PA-VDM's sampler: from one clean chunk or from noise and of any length, or from a noised clip."""
    scheduler, z = config["scheduler"], recorded["in/z"]
    chunk, steps = scheduler["latent_chunk_size"], scheduler["num_sampling_steps"]
    keep, asked = bool(scheduler.get("keep_x0")), config["num_ar_latent_frames"]
    window = config["num_frames"] // chunk - keep
    stride = steps // window
    method = partial(walking.progressive, given=int(keep), overlap=int(keep))
    given = z[:, :, : chunk * keep]
    if scheduler.get("variable_length"):
        walk = list(method([-(-asked // chunk)], steps, window))
        state = WindowState(0, (0,) * keep, (0,) * keep, given, None)

        def drawn(unit: int, step: int) -> Tensor:
            return recorded[f"draw/{unit - keep:03d}"]

        return Trajectory(walk, state, drawn, steps, chunk, given)

    # The clip fills the window as if it had been rendered up to here. One draw has the noise of all that the
    # clip and, behind a clean chunk, the first new one need.
    start = (window - 1) * stride
    walk = list(method([window + asked], steps, window))
    levels = tuple(stride * (k + (not keep)) for k in range(window))
    draws = recorded["draw/000"].split(chunk, 2)
    behind = [torch.zeros_like(draws[0])] * keep + list(draws)

    def noise(unit: int, step: int) -> Tensor:
        return behind[unit] if unit < len(behind) else recorded[f"draw/{unit - len(behind) + 1:03d}"]

    times = schedule(torch.tensor(levels).repeat_interleave(chunk) / steps).view(1, 1, -1, 1, 1)
    noised = FLOW.add_noise(z, torch.cat(behind[:window], 2), times)
    state = WindowState(start, tuple(range(window)), levels, noised, None)
    walk = [step for step in walk if start <= step.step < start + asked]
    return Trajectory(walk, state, noise, steps, chunk, given)


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
    new = int(mask.sum())
    if mask.tolist() == [0] * (len(mask) - new) + [1] * new and new:
        given = len(mask) - new
        assert walk == list(walking.replacement([len(mask)], steps, new, given=given, overlap=given))
    clean = tuple(unit for unit in units if mask[unit] < 1)
    state = WindowState(0, clean, (0,) * len(clean), z[:, :, list(clean)], None)

    def noise(unit: int, step: int) -> Tensor:
        # What is all new comes in as noise already.
        drawn = z if mask[unit] == 1 else recorded[f"draw/{step:03d}"]
        return drawn[:, :, unit : unit + 1]

    return Trajectory(walk, state, noise, steps, 1, z)


def check_bf16(case: Case) -> None:
    """From the same draws, ours in bf16 stays nearer to ours in fp32 than the recorded bf16 does."""
    exact = case.beside(case.config["inputs"])
    inputs = exact.tensors() | {name: value.float() for name, value in case.tensors().items()}
    windows = [name for name in case.tensors() if re.fullmatch(r"step/\d+/z", name)]
    for recorded, picture in samples(inputs):
        wide, narrow = (
            replay(stdit3, exact.config, recorded, picture).shown
            for stdit3 in (network(exact), cast(network(exact), torch.bfloat16))
        )
        our_error = their_error = 0.0
        for name in windows:
            step = int(name.split("/")[1])
            our_error += (narrow[step] - wide[step]).square().mean().item()
            their_error += (recorded[name] - wide[step]).square().mean().item()
        assert our_error < their_error


@torch.inference_mode()
def test_the_network_is_told_the_time_the_rate_and_the_picture() -> None:
    torch.manual_seed(0)
    stdit3 = STDiT3(TransformerSize(48, 1, 4, caption_channels=24, model_max_length=12)).eval()
    x, t, y = torch.randn(1, 4, 3, 4, 5), torch.rand(1, 3), torch.randn(1, 12, 24)
    prompts = Prompts(y, torch.arange(12)[None] < 7)
    text = OpenSoraText.of(prompts, stdit3.null_embeddings, {}, torch.ones(3, 1))
    velocity = OpenSoraDenoiser(stdit3, 12, (144, 256), CPU)(x, t, text)
    reads = readings(stdit3, y[:, None], prompts.mask, 3)
    assert torch.equal(velocity, stdit3(x, 1000 * t, 12, (144, 256), reads)[:, :4])
    assert not torch.allclose(velocity, stdit3(x, 1000 * t, 24, (144, 256), reads)[:, :4], rtol=0, atol=1e-3)
