"""Every hop from a timeline to its MP4, in order. (Named so that ``longvid.render`` can be the function.)"""

from __future__ import annotations

import gc
import json
import platform
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from longvid import __version__, plugins, timeline
from longvid.backends import RESIDENT, Backend, Dtype, Film, Geometry, Rung, Runtime, Text
from longvid.denoise import Finished, WindowState, denoise
from longvid.denoise import fresh as from_text
from longvid.devices import choose_device, choose_dtype, device_name, keep_memory
from longvid.document import show as display
from longvid.errors import RenderError, UserError
from longvid.finishing import Clean, Finishing, Preview
from longvid.guidance import classifier_free
from longvid.memory import first_fitting
from longvid.methods import METHODS
from longvid.noise import per_unit
from longvid.plan import RenderPlan, plan
from longvid.processes import SOLVERS
from longvid.progress import (
    Began,
    ChunkSaved,
    Done,
    Event,
    Loading,
    Noted,
    PreviewWritten,
    Show,
    Stepped,
)
from longvid.settings import Overrides
from longvid.state import WorkDirectory, check_free, checksum, identities, work_directory
from longvid.timeline import Timeline
from longvid.video import writer


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
    compile: bool = False,
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
    happening = events(
        planned,
        backend,
        film,
        device=device,
        dtype=dtype,
        compile=compile,
        overwrite=overwrite,
        fresh=fresh,
    )
    for event in happening:
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
    compile: bool = False,
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
    rungs = backend.rungs(planned.spec, what.itemsize)
    if where.type == "cuda":
        rungs = rungs[first_fitting(rungs, torch.cuda.mem_get_info(where)[0]) :]
    runtime = Runtime(where, what, rungs[0].name, compile)
    yield Loading(f"loading {planned.model}")
    if rungs[0].name != RESIDENT:
        yield Noted(f"memory: {rungs[0].says}")
    film = backend.for_film(planned.spec, runtime)
    with work_directory(output, fresh=fresh, overwrite=overwrite) as work:
        yield from _render(planned, backend, film, rungs, runtime, output, work)


def _render(
    planned: RenderPlan,
    backend: Backend,
    film: Film,
    rungs: Sequence[Rung],
    runtime: Runtime,
    output: Path,
    work: WorkDirectory,
) -> Iterator[Event]:
    """From the loaded model to the film, on the first of the rungs; on the next one where memory runs out."""
    names = identities(planned, backend.geometry, film.fingerprint, _name(runtime.dtype))
    effective = planned.effective()
    work.write_plan({key: value for key, value in effective.items() if key != "sha256"})
    run = _run(planned, runtime)
    work.write_run({**run, "status": "unfinished"})
    standing = _Standing(from_text(_unit_shape(planned, backend.geometry), runtime.device))
    finishing = Finishing(planned, names, work, runtime.device)
    preview = Preview(work, planned.fps)
    down = list(rungs)
    try:
        while True:
            try:
                yield from _on_rung(
                    planned, backend.geometry, film, down[0], runtime, output, standing, finishing, preview
                )
                break
            except torch.OutOfMemoryError as error:
                if len(down) == 1:
                    raise RenderError(
                        f"{device_name(runtime.device)} has not enough memory for "
                        f"{planned.size[0]}x{planned.size[1]}; choose a smaller `size` or another --device"
                    ) from error
            # Behind the error: it holds what it was raised over.
            del film, down[0]
            gc.collect()
            if runtime.device.type == "cuda":
                torch.cuda.empty_cache()
            runtime = replace(runtime, rung=down[0].name)
            run["rung"] = down[0].name
            work.write_run({**run, "status": "unfinished"})
            yield Noted(f"memory ran out; goes on from the last step: {down[0].says}", warning=True)
            film = backend.for_film(planned.spec, runtime)
    finally:
        finishing.close()
        if finishing.frames_done:
            with suppress(RenderError):  # of a full disk, say: the reason for being here says it already
                preview.rebuild()

    writer.join(work.segments(), output, planned.fps, _chapters(planned), _metadata(planned, effective))
    seconds = time.monotonic() - (standing.began_at or 0)
    work.write_run({**run, "status": "finished", "film": checksum(output), "seconds": round(seconds, 3)})
    yield Done(str(output), planned.frames, float(planned.fps), seconds, output.stat().st_size)


@dataclass
class _Standing:
    """Where a render stands, to go on from when memory runs out."""

    state: WindowState
    began_at: float | None = None
    """Monotonic seconds of the first evaluation."""
    waiting: deque[Clean] = field(default_factory=deque)
    """Finished chunks that are not on disk yet."""
    saving: Future[ChunkSaved] | None = None
    """Of the first of them."""


def _on_rung(
    planned: RenderPlan,
    geometry: Geometry,
    film: Film,
    rung: Rung,
    runtime: Runtime,
    output: Path,
    standing: _Standing,
    finishing: Finishing,
    preview: Preview,
) -> Iterator[Event]:
    """What is left of the film, with the model held in one way."""
    yield Loading("reading the prompts")
    text, too_long = encode_prompts(film, planned)
    if standing.saving is not None:
        wait([standing.saving])
        if isinstance(standing.saving.exception(), torch.OutOfMemoryError):
            standing.saving = None  # There is more room now: it is tried again.
    finishing.use(film.codec, rung)

    def saved(*, all_of_it: bool) -> Iterator[Event]:
        """What has become of the waiting chunks; more than one of them is waited for."""
        while standing.waiting:
            if standing.saving is None:
                standing.saving = finishing.start(standing.waiting[0])
            if not (all_of_it or len(standing.waiting) > 1 or standing.saving.done()):
                return
            saving, standing.saving = standing.saving, None
            chunk = saving.result()
            standing.waiting.popleft()
            yield chunk
            if preview.due() and finishing.frames_done:
                yield PreviewWritten(str(finishing.work.preview), preview.rebuild())

    resumed = time.monotonic()
    if standing.began_at is None:
        standing.began_at = resumed
        for line in too_long:
            yield Noted(line, warning=True)
        yield _began(planned, output, runtime)
    denoising = 0.0
    for state, finished in _windows(planned, geometry, film, text, standing.state):
        standing.state = state
        denoising += time.monotonic() - resumed
        for clean in finished:
            behind = state if clean is finished[-1] else None
            standing.waiting.append(Clean(clean, behind, denoising))
            denoising = 0.0
        yield from saved(all_of_it=False)
        yield _stepped(planned, state, finishing, time.monotonic() - standing.began_at)
        resumed = time.monotonic()
    yield from saved(all_of_it=True)


def _began(planned: RenderPlan, output: Path, runtime: Runtime) -> Began:
    width, height = planned.size
    return Began(
        title=planned.title,
        output=str(output),
        model=planned.model,
        device=device_name(runtime.device),
        dtype=_name(runtime.dtype),
        size=(width * planned.scale, height * planned.scale),
        fps=float(planned.fps),
        frames=planned.frames,
        chunks=len(planned.units),
        shots=len(planned.shots),
        evaluations=planned.evaluations,
        steps=planned.steps,
    )


def _windows(
    planned: RenderPlan, geometry: Geometry, film: Film, text: Text, state: WindowState
) -> Iterator[tuple[WindowState, list[Finished]]]:
    """The denoising loop from this state on."""
    return denoise(
        METHODS[planned.method](planned.runs, planned.steps, planned.window),
        state,
        predict=classifier_free(film.denoiser(), text, [unit.guidance for unit in planned.units]),
        schedule=film.schedule,
        process=film.process,
        solver=SOLVERS[planned.solver],
        total_levels=planned.steps,
        noise=per_unit([unit.seed for unit in planned.units], _unit_shape(planned, geometry)),
    )


def _unit_shape(planned: RenderPlan, geometry: Geometry) -> tuple[int, int, int, int]:
    """(c, l, h, w) of one unit."""
    width, height = (side // geometry.pixel_stride for side in planned.size)
    return (geometry.channels, geometry.chunk_latents, height, width)


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


def encode_prompts(film: Film, planned: RenderPlan) -> tuple[Text, list[str]]:
    """All prompts encoded, and a line for each whose end is too long to be read.

    The encoder lives only here, so its memory is free again afterwards.
    """
    encoder = film.text_encoder()
    ends = ((prompt, encoder.unread(prompt)) for prompt in planned.prompts)
    too_long = [
        f"prompt {display(prompt)} is too long for {planned.model}, its end is not read: {display(end)}"
        for prompt, end in ends
        if end
    ]
    prompts = encoder(planned.prompts)
    negatives = {row: encoder.negative(text) for row, text in enumerate(planned.negatives) if text}
    mix = torch.zeros(len(planned.units), len(planned.prompts))
    for unit in planned.units:
        for prompt, weight in unit.mix:
            mix[unit.index, prompt] = weight
    return film.text(prompts, negatives, mix), too_long


def _stepped(planned: RenderPlan, state: WindowState, finishing: Finishing, seconds: float) -> Stepped:
    shot = planned.shots[planned.units[min(finishing.chunks_done, len(planned.units) - 1)].shot]
    return Stepped(
        step=state.step,
        evaluations=planned.evaluations,
        units=state.units,
        levels=state.levels,
        steps=planned.steps,
        shot=shot.index,
        shots=len(planned.shots),
        prompt=shot.prompt,
        frames_done=finishing.frames_done,
        frames=planned.frames,
        fps=float(planned.fps),
        seconds=seconds,
    )


def _run(planned: RenderPlan, runtime: Runtime) -> dict[str, Any]:
    """What the bits depend on, beside the plan."""
    packages = ("torch", "numpy", "av", "safetensors")
    return {
        "versions": {"longvid": __version__, "python": platform.python_version()}
        | {package: version(package) for package in packages},
        "device": device_name(runtime.device),
        "threads": torch.get_num_threads(),
        "dtype": _name(runtime.dtype),
        "rung": runtime.rung,
        "compiled": runtime.compile,
        "model": planned.model,
        "seed": planned.seed,
    }


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
