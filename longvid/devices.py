"""Where a film is computed and in which dtype: chosen here and nowhere else."""

from __future__ import annotations

import ctypes
import platform
import re
import sys
from pathlib import Path

import torch

from longvid.backends import Dtype
from longvid.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """``auto`` is the first CUDA card, else the CPU. Raises UserError for a card that is not there."""
    cards = torch.cuda.device_count()
    if name == "auto":
        return torch.device("cuda:0" if cards else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    match = re.fullmatch(r"cuda(?::(\d{1,3}))?", name)
    if not match:
        raise UserError(f"--device {name}: unknown; use auto, cpu, cuda or cuda:N")
    index = int(match[1] or 0)
    if index >= cards:
        here = f"the last one is cuda:{cards - 1}" if cards else "there is none; use cpu"
        raise UserError(f"--device {name}: no such CUDA card here, {here}")
    return torch.device("cuda", index)


def choose_dtype(name: Dtype = "auto", device: torch.device | None = None) -> torch.dtype:
    """The network's dtype. ``auto`` is bfloat16 where the device computes in it faster, else float32.

    Latents, noise and steps are float32 always.
    """
    if name != "auto":
        if name not in DTYPES:
            raise UserError(f"--dtype {name}: unknown; use auto, {', '.join(DTYPES)}")
        return DTYPES[name]
    if device is not None and device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    return torch.bfloat16 if cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"} else torch.float32


def cpu_flags() -> frozenset[str]:
    """The CPU's features as Linux names them (``bf16`` is Arm's); none on other systems."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return frozenset()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


def device_name(device: torch.device) -> str:
    """What a person calls it, as ``NVIDIA H200`` or the CPU's model."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def keep_memory() -> bool:
    """Let the allocator keep what it has, for this process; True where that could be said.

    glibc maps and unmaps every large tensor anew, and the kernel clears its pages each time: matrix products
    on a CPU take up to twice and elementwise work three times as long. Only glibc on Linux has the switch.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 << 20))
    return all([mallopt(what, value) == 1 for what, value in settings])
