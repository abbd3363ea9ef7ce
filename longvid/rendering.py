"""Every hop from a timeline to its MP4, in order. (Named so that ``longvid.render`` can be the function.)"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longvid import __version__, plugins, timeline
from longvid.backends import Backend, Carry, Dtype, Film, Geometry, Text, VideoCodec
from longvid.denoise import Finished, WindowState, denoise
from longvid.denoise import fresh as from_text
from longvid.devices import choose_device, choose_dtype, device_name, keep_memory
from longvid.errors import RenderError, UserError
from longvid.guidance import classifier_free
from longvid.methods import METHODS
from longvid.plan import RenderPlan, plan
from longvid.processes import SOLVERS
from longvid.progress import Began, ChunkSaved, Done, Event, Loading, PreviewWritten, Show, Stepped
from longvid.settings import Overrides
from longvid.state import Chunk, WorkDirectory, check_free, checksum, identities, work_directory
from longvid.timeline import Timeline
from longvid.video import post, writer

PREVIEW_SECONDS = 10.0
PREVIEW_SHARE = 0.05
"""Rebuilding the preview may take this share of the time: the longer the film, the rarer."""


def render(
    source: Timeline | Mapping[str, Any] | Path | str,
    output: Path | str | None = None,
    *,
    model: str | None = None,
    seed: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    method: str | None = None,
    draft: bool = False,
    device: str = "auto",
    dtype: Dtype = "auto",
    overwrite: bool = False,
    fresh: bool = False,
    show: Show | None = None,
) -> Path:
    """Render a timeline into an MP4 and return the film's path.

    ``source``: a YAML file, or its content as a mapping or a Timeline. ``output``: the film; left out, the
    timeline's stem + ``.mp4`` in the current folder. The other arguments are those of ``longvid render`` and
    go before what the timeline says. ``show`` is called with every event of the render, to display progress.

    Raises UserError for wrong input (nothing is spent), LockedError where another process renders into the
    same work directory, RenderError where a render fails; what is finished stays in the work directory.
    """
    if isinstance(source, str | Path):
        parsed = timeline.load(Path(source))
    else:
        parsed = source if isinstance(source, Timeline) else timeline.build(source)
    backend = plugins.choose(parsed, model).backend
    overrides = Overrides(seed=seed, steps=steps, guidance=guidance, method=method, draft=draft)
    film = film_path(parsed, output)
    planned = plan(parsed, backend, overrides)
    for event in events(planned, backend, film, device=device, dtype=dtype, overwrite=overwrite, fresh=fresh):
        if show is not None:
            show(event)
    return film


def film_path(parsed: Timeline, output: Path | str | None) -> Path:
    """The film's path: the one given, else the timeline's stem + ``.mp4`` in the current folder.

    Raises UserError where that is the timeline itself.
    """
    written = Path(parsed.source.name)
    film = Path(output) if output is not None else Path(f"{written.stem}.mp4")
    with suppress(OSError):  # of a name that is no file (yet), or none at all
        if film.samefile(written):
            raise UserError(f"--output {film}: is the timeline itself; name another file")
    return film


def events(
    planned: RenderPlan,
    backend: Backend,
    output: Path,
    *,
    device: str = "auto",
    dtype: Dtype = "auto",
    overwrite: bool = False,
    fresh: bool = False,
) -> Generator[Event, None, None]:
    """Render the plan, event by event; the last one is Done.

    Whatever an event speaks of is on disk, so closing the iterator between two of them stops the render
    cleanly. Raises as ``render`` does.
    """
    where = choose_device(device)
    what = choose_dtype(dtype, where)
    check_free(output, fresh=fresh, overwrite=overwrite)
    if where.type == "cpu":
        keep_memory()
    yield Loading(f"loading {planned.model}")
    film = backend.for_film(planned.size, planned.fps, planned.model_options, where, what)
    with work_directory(output, fresh=fresh, overwrite=overwrite) as work:
        yield from _render(planned, backend.geometry, film, output, work, where, what)


def _render(
    planned: RenderPlan,
    geometry: Geometry,
    film: Film,
    output: Path,
    work: WorkDirectory,
    device: torch.device,
    dtype: torch.dtype,
) -> Iterator[Event]:
    yield Loading("reading the prompts")
    text = encode_prompts(film, planned)
    names = identities(planned, geometry, film.fingerprint, _name(dtype))
    effective = planned.effective()
    work.write_plan({key: value for key, value in effective.items() if key != "sha256"})
    run = _run(planned, device, dtype)
    work.write_run({**run, "status": "unfinished"})
    yield _began(planned, output, device, dtype)

    windows = _windows(planned, geometry, film, text, device)
    codec: VideoCodec = film.codec()
    carry: Carry = {}
    frames_left = [0] * len(planned.runs)
    for unit in planned.units:
        frames_left[unit.run] += unit.frames
    chunks_done = frames_done = 0
    preview = Preview(work, planned.fps)
    began = resumed = time.monotonic()
    denoising = 0.0
    try:
        for state, finished in windows:
            denoising += time.monotonic() - resumed
            for clean in finished:
                unit = planned.units[clean.unit]
                ends_run = unit.chunk == planned.runs[unit.run] - 1
                started = time.monotonic()
                frames, carry = decode(codec, clean.latents, {} if unit.chunk == 0 else carry, ends_run)
                pixels = post.finish(frames[:, : frames_left[unit.run]], planned.scale)
                decoded = time.monotonic()
                segment = writer.encode(pixels, planned.fps, planned.crf) if len(pixels) else None
                encoded = time.monotonic()
                chunk = Chunk(
                    index=unit.index,
                    identity=names[unit.index],
                    frames=len(pixels),
                    seconds={
                        "denoise": denoising,
                        "decode": decoded - started,
                        "encode": encoded - decoded,
                    },
                    latents=clean.latents,
                    segment=segment,
                    state=state if clean is finished[-1] else None,
                    carry=carry,
                )
                work.save_chunk(chunk)
                denoising = 0.0
                chunks_done += 1
                frames_done += len(pixels)
                frames_left[unit.run] -= len(pixels)
                if ends_run and frames_left[unit.run]:
                    raise RenderError(
                        f"the codec of {planned.model} gave {frames_left[unit.run]} frames less than "
                        f"its geometry promises for {planned.runs[unit.run]} chunks"
                    )
                yield ChunkSaved(unit.index, len(planned.units), frames_done, planned.frames)
                if preview.due() and frames_done:
                    yield PreviewWritten(str(work.preview), preview.rebuild())
            yield _stepped(planned, state, chunks_done, frames_done, time.monotonic() - began)
            resumed = time.monotonic()
    except torch.OutOfMemoryError as error:
        raise RenderError(
            f"{device_name(device)} has not enough memory for {planned.size[0]}x{planned.size[1]}; "
            "choose a smaller `size` or another --device"
        ) from error
    finally:
        if frames_done:
            with suppress(RenderError):  # of a full disk, say: the reason for being here says it already
                preview.rebuild()

    writer.join(work.segments(), output, planned.fps, _chapters(planned), _metadata(planned, effective))
    seconds = time.monotonic() - began
    work.write_run({**run, "status": "finished", "film": checksum(output), "seconds": round(seconds, 3)})
    yield Done(str(output), planned.frames, float(planned.fps), seconds, output.stat().st_size)


def _began(planned: RenderPlan, output: Path, device: torch.device, dtype: torch.dtype) -> Began:
    width, height = planned.size
    return Began(
        title=planned.title,
        output=str(output),
        model=planned.model,
        device=device_name(device),
        dtype=_name(dtype),
        size=(width * planned.scale, height * planned.scale),
        fps=float(planned.fps),
        frames=planned.frames,
        chunks=len(planned.units),
        shots=len(planned.shots),
        evaluations=planned.evaluations,
        steps=planned.steps,
    )


def _windows(
    planned: RenderPlan, geometry: Geometry, film: Film, text: Text, device: torch.device
) -> Iterator[tuple[WindowState, list[Finished]]]:
    """The denoising loop over the whole film, from text alone."""
    width, height = (side // geometry.pixel_stride for side in planned.size)
    unit_shape = (geometry.channels, geometry.chunk_latents, height, width)
    return denoise(
        METHODS[planned.method](planned.runs, planned.steps, planned.window),
        from_text(unit_shape, device),
        predict=classifier_free(film.denoiser(), text, [unit.guidance for unit in planned.units]),
        schedule=film.schedule,
        process=film.process,
        solver=SOLVERS[planned.solver],
        total_levels=planned.steps,
        unit_shape=unit_shape,
        seeds=[unit.seed for unit in planned.units],
    )


def _chapters(planned: RenderPlan) -> list[writer.Chapter]:
    return [
        writer.Chapter(shot.title or shot.prompt, shot.start_frame, shot.end_frame) for shot in planned.shots
    ]


def _metadata(planned: RenderPlan, effective: Mapping[str, Any]) -> dict[str, str]:
    return {
        "title": planned.title,
        "prompts": json.dumps([shot.prompt for shot in planned.shots], ensure_ascii=False),
        "seed": str(planned.seed),
        "model": planned.model,
        "longvid": __version__,
        "plan": effective["sha256"],
    }


class Preview:
    """The film so far as one file, that a player can open at any time; rebuilt when the last one is old."""

    def __init__(self, work: WorkDirectory, fps: Fraction) -> None:
        self.work = work
        self.fps = fps
        self.due_at = 0.0

    def due(self) -> bool:
        return time.monotonic() >= self.due_at

    def rebuild(self) -> int:
        """Returns its number of frames."""
        began = time.monotonic()
        frames = writer.join(self.work.segments(), self.work.preview, self.fps)
        now = time.monotonic()
        self.due_at = now + max(PREVIEW_SECONDS, (now - began) / PREVIEW_SHARE)
        return frames


def decode(codec: VideoCodec, latents: Tensor, carry: Carry, ends_run: bool) -> tuple[Tensor, Carry]:
    """Frames [3 f h w] of a chunk [b c l h w], at its run's end with those that the codec held back."""
    with torch.inference_mode():
        frames, carry = codec.decode(latents, carry)
        held = codec.flush(carry) if ends_run else None
        return (frames if held is None else torch.cat([frames, held], dim=2))[0], carry


def encode_prompts(film: Film, planned: RenderPlan) -> Text:
    """All prompts encoded; the encoder lives only here, so its memory is free again afterwards."""
    encoder = film.text_encoder()
    prompts = encoder(planned.prompts)
    negatives = {row: encoder([negative]) for row, negative in enumerate(planned.negatives) if negative}
    mix = torch.zeros(len(planned.units), len(planned.prompts))
    for unit in planned.units:
        for prompt, weight in unit.mix:
            mix[unit.index, prompt] = weight
    return film.text(prompts, negatives, mix)


def _stepped(
    planned: RenderPlan, state: WindowState, chunks_done: int, frames_done: int, seconds: float
) -> Stepped:
    shot = planned.shots[planned.units[min(chunks_done, len(planned.units) - 1)].shot]
    return Stepped(
        step=state.step,
        evaluations=planned.evaluations,
        units=state.units,
        levels=state.levels,
        steps=planned.steps,
        shot=shot.index,
        shots=len(planned.shots),
        prompt=shot.prompt,
        frames_done=frames_done,
        frames=planned.frames,
        fps=float(planned.fps),
        seconds=seconds,
    )


def _run(planned: RenderPlan, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What the bits depend on, beside the plan."""
    packages = ("torch", "numpy", "av", "safetensors")
    return {
        "versions": {"longvid": __version__, "python": platform.python_version()}
        | {package: version(package) for package in packages},
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "dtype": _name(dtype),
        "model": planned.model,
        "seed": planned.seed,
    }


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
