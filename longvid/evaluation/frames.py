"""The frames of a film: as its file has them, or from its clean latents, before an encoder saw them.

An encoder alone makes seams where segments meet, and smooths flicker away.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

from longvid import plugins
from longvid.backends import Backend, Dtype, FilmSpec, Runtime, VideoCodec
from longvid.devices import choose_dtype, device_name
from longvid.errors import UserError
from longvid.files import checksum
from longvid.finishing import decode
from longvid.request import Request
from longvid.state import WorkDirectory
from longvid.takes import Take
from longvid.video import post

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from longvid.backends import Carry


def codec_of(take: Take, device: torch.device) -> VideoCodec:
    """What decodes a take's latents as its render did. Raises UserError where nothing here does."""
    backend = _backend(take)
    if backend.missing_files():
        raise UserError(f"the weights of {backend.name} are not here")
    work = WorkDirectory(take.path)
    for record in take.records:
        latents = work.latents(record["chunk"])
        if not latents.is_file() or checksum(latents) != record["files"][f"latents/{latents.name}"]:
            raise UserError(f"{latents} is missing or damaged")
    plan, run = take.plan, take.run
    dtype: Dtype = run["dtype"] if run.get("device") == device_name(device) else "auto"
    runtime = Runtime(device, choose_dtype(dtype, device))
    spec = FilmSpec(tuple(plan["size"]), Fraction(plan["fps"]), plan["window"], plan["model_options"])
    film = backend.for_film(spec, runtime)
    if film.fingerprint != run.get("fingerprint"):
        raise UserError(f"the weights of {backend.name} are others than those it was made with")
    return film.codec()


def from_latents(take: Take, codec: VideoCodec, device: torch.device) -> Iterator[NDArray[np.uint8]]:
    """The frames [h w 3] of a complete take, decoded and enlarged as its render did, one at a time."""
    work = WorkDirectory(take.path)
    ends = _run_ends(take)
    carry: Carry = {}
    for record in take.records:
        latents = load_file(work.latents(record["chunk"]), str(device))["latents"]
        frames, carry = decode(codec, latents, carry, record["chunk"] in ends)
        skipped = record.get("skipped", 0)
        shown = frames[:, skipped : skipped + record["frames"]]
        yield from post.finish(shown, take.plan["output"]["scale"])


def _run_ends(take: Take) -> set[int]:
    """The last chunk of each run."""
    ends: set[int] = set()
    behind = 0
    for chunks in take.plan["runs"]:
        behind += chunks
        ends.add(behind - 1)
    return ends


def _backend(take: Take) -> Backend:
    if take.request:
        return Request.of(take.request).choose().backend
    return plugins.backend(take.plan["model"])
