"""One denoising step, guidance included, by window size, beside the matrix products of the same machine."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from math import ceil, prod
from statistics import median
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from longvid.backends import Backend, Geometry, Runtime
from longvid.benchmarks import Setup
from longvid.devices import device_name
from longvid.guidance import Predict, classifier_free
from longvid.memory import first_fitting
from longvid.plan import RenderPlan
from longvid.sampling import encode_prompts

Shape = tuple[int, int, int]
"""(m, k, n) of a matrix product [m k] x [k n]: 2 m k n FLOP."""

SQUARE_SIDE = {"cpu": 1024, "cuda": 8192}
"""Side of the matrices whose product shows a device's peak: larger ones are no faster."""
Way = tuple[torch.dtype, bool]
"""What the network computes in, and whether it is compiled."""
LINEARS = 4
"""So many of the network's own shapes are timed, those that it spends most on."""

TURNS, TURN_SECONDS = 5, 0.01
"""Everything at one window size takes turns of at least so long, at least so often: a machine's speed changes
while it is measured, and so it changes for all alike."""
WINDOW_SECONDS = 0.5
"""Turns are taken for about so long."""


@dataclass(frozen=True)
class Rate:
    """A matrix product, and its best time."""

    shape: Shape
    seconds: float

    @property
    def flops(self) -> float:
        """FLOP a second."""
        m, k, n = self.shape
        return 2 * m * k * n / self.seconds


@dataclass(frozen=True)
class StepRun:
    """A denoising step's network calls, with guidance two, at one window size in one way."""

    latents: int
    """Latent frames in the window."""
    dtype: str
    compiled: bool
    seconds: float
    """The best time of all calls together."""
    median_seconds: float
    first_seconds: float
    """The first time: compilation, and whatever else is made ready once, included."""
    runs: int
    calls: int
    flop: int
    """Of matrix products, convolutions and attention."""
    square: Rate
    """A large square matrix product in this dtype, timed in turn with the step."""
    linear: Rate | None
    """The fastest of the network's own linear layers, likewise; None where it has none."""

    @property
    def flops(self) -> float:
        """FLOP a second."""
        return self.flop / self.seconds


@dataclass(frozen=True)
class Steps:
    """The first way that each window size was measured in is a render's. ``skipped``: window sizes in latents
    for which there was no time."""

    device: str
    card: bool
    """Whether that is a CUDA card."""
    threads: int
    size: tuple[int, int]
    runs: tuple[StepRun, ...]
    skipped: tuple[int, ...]

    def rendering(self) -> list[StepRun]:
        """The runs as a render computes, one a window size."""
        way = (self.runs[0].dtype, self.runs[0].compiled)
        return [run for run in self.runs if (run.dtype, run.compiled) == way]


@dataclass
class Probe:
    """Something to time, and how long it took: at first, and then."""

    call: Callable[[], object]
    device: torch.device
    first_seconds: float = 0.0
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.first_seconds = self.time()

    def time(self) -> float:
        started = now(self.device)
        self.call()
        return now(self.device) - started

    @property
    def times(self) -> list[float]:
        """Without the first, unless there is no other."""
        return self.seconds or [self.first_seconds]


Product = tuple[Shape, Probe]


def measure_steps(setup: Setup, windows: Sequence[int], budget_seconds: float) -> Steps:
    """Time a step for windows of so many units, in ascending order.

    Where the setup leaves the dtype open, what a render computes in is measured, and float32 beside it; where
    it compiles, the network as it is beside it. A window for which too little of the budget is left is
    skipped, and so are all behind it; the first one never is.
    """
    deadline = time.monotonic() + budget_seconds
    device, dtype = setup.begin()
    backend = setup.backend()
    geometry = backend.geometry
    planned = setup.plan(ceil(windows[-1] * geometry.chunk_frames / geometry.fps), shots=1)
    dtypes = dict.fromkeys([dtype, torch.float32] if setup.dtype == "auto" else [dtype])
    networks = {
        (dtype, compiled): load(backend, planned, device, dtype, compiled)
        for dtype in dtypes
        for compiled in ([True, False] if setup.compile else [False])
    }
    runs: list[StepRun] = []
    measured: list[StepRun] = []
    for place, units in enumerate(windows):
        if measured:
            growth = units / windows[place - 1]
            expected = sum(run.first_seconds + run.seconds for run in measured) * growth
            if time.monotonic() + expected > deadline:
                break
        with torch.inference_mode():
            measured = measure_window(networks, geometry, planned, units, device, deadline)
        runs += measured
    done = {run.latents for run in runs}
    skipped = {units * geometry.chunk_latents for units in windows} - done
    return Steps(
        device=device_name(device),
        card=device.type == "cuda",
        threads=torch.get_num_threads(),
        size=planned.size,
        runs=tuple(runs),
        skipped=tuple(sorted(skipped)),
    )


def load(
    backend: Backend, planned: RenderPlan, device: torch.device, dtype: torch.dtype, compiled: bool
) -> Predict:
    """The guided network, held as a render would hold it."""
    rungs = backend.rungs(planned.spec, dtype.itemsize)
    place = first_fitting(rungs, torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0
    film = backend.for_film(planned.spec, Runtime(device, dtype, rungs[place].name, compiled))
    text, _ = encode_prompts(film, planned)
    return classifier_free(film.denoiser(), text, [unit.guidance for unit in planned.units])


def measure_window(
    networks: Mapping[Way, Predict],
    geometry: Geometry,
    planned: RenderPlan,
    units: int,
    device: torch.device,
    deadline: float,
) -> list[StepRun]:
    """Time all ways at one window size, in turn."""
    latents = units * geometry.chunk_latents
    width, height = (side // geometry.pixel_stride for side in planned.size)
    x = torch.randn(1, geometry.channels, latents, height, width, device=device)
    t = torch.full((1, latents), 0.5, device=device)

    steps: dict[Way, Probe] = {}
    flop: dict[torch.dtype, int] = {}
    squares: dict[torch.dtype, Product] = {}
    linears: dict[torch.dtype, list[Product]] = {}
    for dtype in dict.fromkeys(dtype for dtype, _ in networks):
        eager = steps[dtype, False] = Probe(
            partial(networks[dtype, False], x, t, tuple(range(units))), device
        )
        counter, shapes = flop_counter()
        with counter:  # not at first: what is made of a prompt is made once
            eager.call()
        flop[dtype] = counter.get_total_flops()
        if (dtype, True) in networks:
            steps[dtype, True] = Probe(partial(networks[dtype, True], x, t, tuple(range(units))), device)
        side = SQUARE_SIDE[device.type]
        squares[dtype] = product((side, side, side), dtype, device)
        most = sorted(shapes, key=lambda shape: prod(shape) * shapes[shape], reverse=True)
        linears[dtype] = [product(shape, dtype, device) for shape in most[:LINEARS]]

    products = [*squares.values(), *chain.from_iterable(linears.values())]
    take_turns([*(probe for _, probe in products), *steps.values()], deadline)

    def rate(timed: Product) -> Rate:
        shape, probe = timed
        return Rate(shape, min(probe.times))

    return [
        StepRun(
            latents=latents,
            dtype=str(dtype).removeprefix("torch."),
            compiled=compiled,
            seconds=min(steps[dtype, compiled].times),
            median_seconds=median(steps[dtype, compiled].times),
            first_seconds=steps[dtype, compiled].first_seconds,
            runs=len(steps[dtype, compiled].times),
            calls=1 if planned.units[0].guidance == 1 else 2,
            flop=flop[dtype],
            square=rate(squares[dtype]),
            linear=max(map(rate, linears[dtype]), key=lambda rate: rate.flops, default=None),
        )
        for dtype, compiled in networks
    ]


def take_turns(probes: Sequence[Probe], deadline: float) -> None:
    """Time each in turn, again and again; stops before what would not end by the deadline."""
    began = time.monotonic()
    turns = 0
    while turns < TURNS or time.monotonic() - began < WINDOW_SECONDS:
        for probe in probes:
            spent = 0.0
            while spent < TURN_SECONDS:
                if time.monotonic() + probe.times[-1] > deadline:
                    return
                probe.seconds.append(probe.time())
                spent += probe.seconds[-1]
        turns += 1


def flop_counter() -> tuple[FlopCounterMode, Counter[Shape]]:
    """PyTorch's counter, and the shapes of the linear layers that it met, by how often it did."""
    shapes = Counter[Shape]()

    def linear(a: Sequence[int], b: Sequence[int]) -> int:
        shapes[a[0], a[1], b[1]] += 1
        return 2 * a[0] * a[1] * b[1]

    aten = torch.ops.aten
    counted: dict[Any, Callable[..., int]] = {
        aten.mm: lambda a, b, *_, **__: linear(a, b),
        aten.addmm: lambda _, a, b, *__, **___: linear(a, b),
        # PyTorch knows its attention on cards alone.
        aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    }
    return FlopCounterMode(display=False, custom_mapping=counted), shapes


def product(shape: Shape, dtype: torch.dtype, device: torch.device) -> Product:
    """A linear layer of a shape, to time."""
    m, k, n = shape
    x, weight, bias = (torch.randn(sides, dtype=dtype, device=device) for sides in ((m, k), (n, k), (n,)))
    return shape, Probe(partial(F.linear, x, weight, bias), device)


def now(device: torch.device) -> float:
    """Seconds. A card works on behind the program's back: it has to be waited for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
