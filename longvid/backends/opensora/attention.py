"""The one seam to attention kernels: PyTorch's own, or xformers' where it is installed and works."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Kernel = Literal["sdpa", "xformers"]

HEAD_WIDTH = 72
"""Channels of a head in the published weights."""
TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}
"""How far a right kernel may be from PyTorch's over inputs from N(0, 1); a wrong one is off by about 1."""

_chosen: dict[tuple[torch.device, torch.dtype, int], Kernel] = {}


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / √e) v [b n h e] of queries [b n h e] over keys and values [b m h e], head by head.

    No mask: whoever calls it gives each query the keys that it may see, and no others.
    """
    if attention_kernel(q.device, q.dtype, q.shape[-1]) == "xformers":
        return xformers(q, k, v)
    return sdpa(q, k, v)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # PyTorch leaves it untyped.
def attention_kernel(device: torch.device, dtype: torch.dtype, head_width: int = HEAD_WIDTH) -> Kernel:
    """Which kernel `attend` takes there. xformers' is tried once, on a few tokens."""
    key = (device, dtype, head_width)
    if key not in _chosen:
        # xformers has no kernel for a CPU, and says so in a warning when it is imported there.
        there = device.type == "cuda" and find_spec("xformers") is not None
        _chosen[key] = "xformers" if there and works(xformers, *key) else "sdpa"
    return _chosen[key]


def works(
    kernel: Callable[[Tensor, Tensor, Tensor], Tensor],
    device: torch.device,
    dtype: torch.dtype,
    head_width: int,
) -> bool:
    """Whether a kernel runs there and is right; xformers' builds fit few versions of PyTorch, few cards."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(2, tokens, 2, head_width, generator=generator).to(device, dtype)
        for tokens in (35, 21, 21)
    )
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            off = (kernel(q, k, v).float() - sdpa(q, k, v).float()).abs().max().item()
    except Exception:  # A kernel that does not fit raises anything from ImportError to RuntimeError.
        return False
    return off <= TOLERANCE[dtype]


def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def xformers(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    # An extra, and mostly not there.
    from xformers.ops import memory_efficient_attention  # type: ignore[import-not-found, unused-ignore]

    read: Tensor = memory_efficient_attention(q, k, v)
    return read
