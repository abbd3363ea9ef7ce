"""A film's start from what is there already: the end of a clip, chunks of its own, pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from longvid.backends import Backend, Geometry, VideoCodec
from longvid.denoise import WindowState
from longvid.errors import RenderError, UserError
from longvid.files import checksum, read_sealed
from longvid.identities import Identities
from longvid.keeping import Kept
from longvid.plan import RenderPlan, digest_of
from longvid.request import Request
from longvid.settings import settle
from longvid.starts import Fit, Start
from longvid.state import Chunk, WorkDirectory, take_folders
from longvid.times import length
from longvid.video import source

if TYPE_CHECKING:
    from numpy.typing import NDArray


def start_from(request: Request, backend: Backend) -> Start | None:
    """What the clip that a timeline starts from hands over; None where it is a picture.

    With the hand-off ``context`` one chunk, clean; with ``noised`` as many behind it as the window takes, or
    the clip has. Raises UserError for a clip that is no use, or too short.
    """
    path = request.timeline.start_path
    assert path is not None
    clip = source.probe(path)
    if clip.picture:
        if request.handoff == "noised":
            raise UserError(f"{path}: is a picture, and has no motion to hand over; leave out --handoff")
        return None
    settings = settle(request.timeline, backend, request.overrides)
    wanted = settings.window if request.handoff == "noised" else 1
    counts = backend.geometry.chunk_frame_counts(wanted)
    chunks = sum(total <= clip.seconds * settings.fps for total in accumulate(counts))
    least = 2 if request.handoff == "noised" else 1
    if chunks < least:
        raise UserError(
            f"{path}: lasts {length(clip.seconds)}; to go on from it takes at least "
            f"{length(Fraction(sum(counts[:least])) / settings.fps)}"
        )
    fit: Fit = request.extension.fit if request.extension else "crop"
    frames = _ending(path, backend.geometry, chunks, settings.fps, settings.size, fit)
    return Start.of_clip(path, tuple(map(_digest, frames)), chunks - 1, fit)


def _ending(
    path: Path, geometry: Geometry, chunks: int, fps: Fraction, size: tuple[int, int], fit: Fit
) -> list[NDArray[np.uint8]]:
    """The frames [f h w 3] of a clip's last chunks, in the model's size and rate."""
    borders = list(accumulate(geometry.chunk_frame_counts(chunks), initial=0))
    frames = source.last(source.probe(path), borders[-1], fps)
    fitted = np.stack([source.fit(frame, size, fit) for frame in frames])
    return [fitted[begin:end] for begin, end in pairwise(borders)]


def _digest(frames: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(frames).tobytes()).hexdigest()


def encode(planned: RenderPlan, geometry: Geometry, codec: VideoCodec, device: torch.device) -> list[Tensor]:
    """Latents [1 c l h w] of each chunk that the film takes over from its clip. Raises UserError."""
    start = planned.start
    assert start is not None and start.clip is not None
    chunks = _ending(start.clip, geometry, len(start.sources), planned.fps, planned.size, start.fit)
    if tuple(map(_digest, chunks)) != start.sources:
        raise UserError(f"{start.clip}: is not the clip any more that this film was begun from")
    latents = codec.encode(_video(np.concatenate(chunks), device)).float()
    return list(latents.split(geometry.chunk_latents, dim=2))


def _video(frames: NDArray[np.uint8], device: torch.device) -> Tensor:
    """[1 3 f h w] in [-1, 1] of pixels [f h w 3]."""
    return torch.from_numpy(frames).to(device).permute(3, 0, 1, 2)[None] / 127.5 - 1


def encode_pictures(
    planned: RenderPlan, done: int, codec: VideoCodec, device: torch.device
) -> dict[int, Tensor]:
    """The latent [1 c 1 h w] of each picture that a run starts from whose first unit is not among the
    ``done`` ones, by that unit. Raises UserError for a file that is no picture, or another one by now."""
    known = {shot.first_unit: shot.picture for shot in planned.shots}
    found = {}
    for unit, path in planned.pictures.items():
        if unit < done:
            continue
        if digest_of(path) != known[unit]:
            raise UserError(f"{path}: is not the picture any more that this film was begun from")
        pixels = source.fit(source.picture(source.probe(path)), planned.size, "crop")
        found[unit] = codec.encode_picture(_video(pixels[None], device)[:, :, 0]).float()
    return found


# In the work directory


def is_missing(planned: RenderPlan, kept: Kept) -> bool:
    """Whether a render could not begin with what is ``kept``: it lacks what the film starts from."""
    start = planned.start
    if start is None or kept.units == len(planned.units):
        return False
    return kept.latents < start.given or bool(start.noised and kept.state is None)


def put_clip(work: WorkDirectory, names: Identities, start: Start, latents: Sequence[Tensor]) -> None:
    """What a clip hands over, its ``latents`` [1 c l h w] chunk by chunk: the given ones as finished chunks,
    which are still to be decoded, since the next one's decoding may hear them; and the window."""
    for unit in range(start.given):
        chunk = Chunk(
            index=unit,
            identity="",
            latents_identity=names.latents[unit],
            conditions=names.conditions[unit],
            frames=0,
            seconds={"denoise": 0.0},
            latents=latents[unit],
            segment=None,
            state=None,
            state_identity="",
            carry={},
        )
        work.save_chunk(chunk)
    if start.noised:
        _put_window(work, names, start, latents[start.given - 1 :])


def put_own(work: WorkDirectory, names: Identities, start: Start, device: torch.device) -> None:
    """The film's own chunks that are noised, in the window; once they were made anew, a take has them. Raises
    RenderError where one that the film starts from is damaged."""
    takes = [WorkDirectory(take) for take in take_folders(work.path)]
    latents = []
    for unit, identity in enumerate(start.sources):
        places = (work, *takes) if unit >= start.given else (work,)
        path = next((place.latents(unit) for place in places if _holds(place, unit, identity)), None)
        if path is None:
            raise RenderError(
                f"{work.latents(unit)}: is missing or damaged, and the film goes on from it; "
                f"`longvid takes {work.path}` lists the takes, --use NAME makes one that is whole the film"
            )
        if start.noised and unit >= start.given - 1:
            latents.append(load_file(path, str(device))["latents"])
    if start.noised:
        _put_window(work, names, start, latents)


def _holds(work: WorkDirectory, unit: int, identity: str) -> bool:
    """Whether a chunk's latents are there, undamaged, and of this identity."""
    record, path = read_sealed(work.record(unit)) or {}, work.latents(unit)
    wanted = record.get("files", {}).get(f"latents/{path.name}")
    return record.get("latents") == identity and path.exists() and checksum(path) == wanted


def _put_window(work: WorkDirectory, names: Identities, start: Start, latents: Sequence[Tensor]) -> None:
    """The loop's state before the first evaluation: the last given chunk and all that is noised, still clean
    (paper Alg. 1); ``latents`` are theirs."""
    parts = names.walk.parts
    units = tuple(range((start.given - 1) * parts, len(start.sources) * parts))
    state = WindowState(0, units, (0,) * len(units), torch.cat(list(latents), dim=2), None)
    work.save_entry(start.given, state, {}, names.of_state(0))
