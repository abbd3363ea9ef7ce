"""What a machine does with a model, measured: one denoising step by window size, and whole films.

Each measurement runs in a process of its own (`alone`), so that its memory and its threads are its own.
Torch-free at import.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from longvid import plugins, timeline
from longvid.backends import Backend, Dtype
from longvid.plan import RenderPlan, plan

if TYPE_CHECKING:
    import torch

P = ParamSpec("P")
T = TypeVar("T")

PROMPTS = ("a red boat on a calm sea at dawn", "the sea in the rain at night", "a city in the snow")
SHORT_SECONDS = 10
"""Shorter films have one shot."""


@dataclass(frozen=True)
class Setup:
    """What is measured, and how. ``size``: (width, height) in pixels, the model's default for None;
    ``threads``: of the CPU, as many as PyTorch takes for None."""

    model: str
    random_weights: bool = False
    size: tuple[int, int] | None = None
    device: str = "auto"
    dtype: Dtype = "auto"
    compile: bool = False
    threads: int | None = None

    def backend(self) -> Backend:
        """Raises UserError for an unknown model, and for one that has no random weights."""
        backend = plugins.backend(self.model)
        return backend.with_random_weights() if self.random_weights else backend

    def plan(self, seconds: int, shots: int | None = None) -> RenderPlan:
        """A film of so many shots of about the same length: by default all PROMPTS, one where it is short.

        Raises UserError where the model has no such size.
        """
        shots = shots or (len(PROMPTS) if seconds >= SHORT_SECONDS else 1)
        ends = [seconds * (i + 1) // shots for i in range(shots)]
        content = {"shots": [{"prompt": PROMPTS[i], "until": end} for i, end in enumerate(ends)]}
        size = {} if self.size is None else {"size": list(self.size)}
        return plan(timeline.build({**content, **size}), self.backend())

    def begin(self) -> tuple[torch.device, torch.dtype]:
        """Settle this process as a render does; the device, and what the network computes in."""
        import torch

        from longvid.devices import choose_device, choose_dtype, keep_memory

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        device = choose_device(self.device)
        if device.type == "cpu":
            keep_memory()
        return device, choose_dtype(self.dtype, device)


def alone(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the function returns, from a fresh process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()
