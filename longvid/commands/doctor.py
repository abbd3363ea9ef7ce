"""`longvid doctor`: what is here to render with, each thing tried rather than believed."""

from __future__ import annotations

import io
import json
import os
import platform
import shutil
import warnings
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from longvid.commands import options

if TYPE_CHECKING:
    import torch
    from av.video.stream import VideoStream

PACKAGES = ("torch", "numpy", "av", "safetensors", "diffusers", "transformers", "xformers", "moviepy")
LITTLE_DISK = 2_000_000_000


@dataclass(frozen=True)
class Finding:
    """One line of the report. ``works`` is None where there is nothing to judge."""

    what: str
    works: bool | None
    detail: str


def doctor(as_json: options.Json = False) -> None:
    """Show what works here: versions, devices, encoders, models, disk."""
    import longvid
    from longvid.progress import Loading, showing

    with showing("auto", quiet=as_json) as show:
        show(Loading("looking around"))
        found = {
            "versions": versions(longvid.__version__),
            "devices": devices(),
            "attention": attention(),
            "encoders": [encoder("libx264"), encoder("h264_nvenc")],
            "models": models(),
            "disk": [disk(Path())],
        }
    if as_json:
        said = {section: [asdict(finding) for finding in findings] for section, findings in found.items()}
        typer.echo(json.dumps(said, indent=2, ensure_ascii=False))
        return

    from rich.console import Console
    from rich.table import Table

    marks = {True: "[green]yes[/]", False: "[yellow]no[/]", None: ""}
    lines = Table.grid(padding=(0, 2))
    for section, findings in found.items():
        lines.add_row(f"[bold]{section}[/]")
        for finding in findings:
            lines.add_row(f"  {finding.what}", marks[finding.works], finding.detail.replace("[", r"\["))
    Console(highlight=False).print(lines)


def versions(ours: str) -> list[Finding]:
    found = [
        Finding("longvid", None, ours),
        Finding("python", None, f"{platform.python_version()} on {platform.platform()}"),
    ]
    for package in PACKAGES:
        try:
            found.append(Finding(package, None, version(package)))
        except PackageNotFoundError:
            found.append(Finding(package, None, "not installed"))
    return found


def devices() -> list[Finding]:
    import torch

    from longvid.devices import choose_dtype, device_name

    def name(dtype: torch.dtype) -> str:
        return str(dtype).removeprefix("torch.")

    cpu = torch.device("cpu")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = [
        Finding(
            "cpu",
            True,
            f"{device_name(cpu)}, {torch.get_num_threads()} threads, {memory / 1e9:.0f} GB, "
            f"computes in {name(choose_dtype('auto', cpu))}",
        )
    ]
    for index in range(torch.cuda.device_count()):
        card = torch.device("cuda", index)
        total = torch.cuda.get_device_properties(card).total_memory
        dtype = name(choose_dtype("auto", card))
        found.append(
            Finding(str(card), True, f"{device_name(card)}, {total / 1e9:.0f} GB, computes in {dtype}")
        )
    if not torch.cuda.is_available():
        found.append(Finding("cuda", False, "no CUDA card that PyTorch can use"))
    return found


def attention() -> list[Finding]:
    """Every kernel of PyTorch's fused attention, and xformers' where it is installed, run on eight tokens."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from longvid.backends.opensora.attention import attention_kernel
    from longvid.devices import choose_device, choose_dtype

    device = choose_device()
    q = torch.ones(1, 2, 8, 64, device=device, dtype=choose_dtype("auto", device))
    found = []
    for kernel in (
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
        SDPBackend.CUDNN_ATTENTION,
        SDPBackend.MATH,
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns once for each reason a kernel cannot run
            try:
                with sdpa_kernel(kernel), torch.inference_mode():
                    torch.nn.functional.scaled_dot_product_attention(q, q, q)
                works, detail = True, f"on {device}"
            except RuntimeError:  # which says no more than that
                works, detail = False, f"not on {device}"
        found.append(Finding(f"torch {kernel.name.lower().removesuffix('_attention')}", works, detail))
    found.append(xformers(q))
    used = {"sdpa": "PyTorch's attention", "xformers": "xformers' attention"}
    found.append(Finding("opensora-v1.2", None, f"takes {used[attention_kernel(device, q.dtype)]}"))
    return found


def xformers(q: torch.Tensor) -> Finding:
    """It installs and imports on any machine, and only says what it lacks when it is called."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import_module("xformers.ops").memory_efficient_attention(q, q, q)
            return Finding("xformers", True, f"on {q.device}")
        except ImportError:
            return Finding("xformers", False, "not installed; PyTorch's own attention is used")
        except (RuntimeError, NotImplementedError, ValueError) as error:
            return Finding("xformers", False, first_line(error))


def encoder(name: str) -> Finding:
    """Whether a frame can be encoded: that an encoder is compiled in says nothing about the machine."""
    import av

    try:
        with av.open(io.BytesIO(), "w", format="mp4") as container:
            stream = cast("VideoStream", container.add_stream(name, rate=24))
            stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
            frame = av.VideoFrame(256, 256, "yuv420p")
            frame.pts = 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
    except av.FFmpegError as error:
        return Finding(name, False, f"cannot be opened: {error.strerror}")
    except ValueError as error:
        return Finding(name, False, first_line(error))
    return Finding(name, True, "")


def models() -> list[Finding]:
    """Every installed backend, and whether its weights are there."""
    from longvid import plugins
    from longvid.errors import UserError

    found = []
    for name in plugins.registered():
        try:
            backend = plugins.backend(name)
        except UserError as error:
            found.append(Finding(name, False, str(error)))
            continue
        missing = backend.missing_files()
        (width, height), fps = backend.geometry.sizes[0], float(backend.geometry.fps)
        detail = f"{width}x{height}, {fps:g} frames a second"
        if missing:
            detail = f"missing: {', '.join(missing)}"
            if backend.downloads:
                detail = f"{len(missing)} files are missing; `longvid models pull {name}` fetches them"
        found.append(Finding(name, not missing, detail))
    return found


def disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    return Finding("free here", free > LITTLE_DISK, f"{free / 1e9:.1f} GB in {folder.absolute()}")


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
