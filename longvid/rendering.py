"""Every hop from a timeline to its MP4, in order. (Named so that ``longvid.render`` can be the function.)"""

from __future__ import annotations

import gc
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from longvid import __version__, exchange, timeline
from longvid.backends import RESIDENT, Backend, Dtype, Film, Geometry, Rung, Runtime
from longvid.clips import encode, encode_pictures, is_missing, put_clip, put_own
from longvid.denoise import fresh as from_text
from longvid.devices import choose_device, choose_dtype, device_name, keep_memory
from longvid.errors import RenderError, UserError
from longvid.files import checksum, read_sealed
from longvid.finishing import Clean, Finishing, Preview, again
from longvid.identities import Identities, identities
from longvid.joining import join_film, rehearse
from longvid.keeping import better_take, forget_entries, go_on, is_done, keep
from longvid.lora import parse as parse_lora
from longvid.memory import first_fitting
from longvid.outputs import check_free
from longvid.plan import RenderPlan
from longvid.progress import Event, Loading, Noted, PreviewWritten, Show
from longvid.reports import Standing, began, done, dtype_name, run_record, stepped, without_seal
from longvid.request import FILE as REQUEST
from longvid.request import Request
from longvid.sampling import encode_prompts, unit_shape, windows
from longvid.settings import Overrides
from longvid.state import STOP, WorkDirectory, work_directory
from longvid.timeline import Timeline

ABRUPT = 3.0
"""How much more the picture may change at a join than around it, until another hand-off is recommended."""


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
    lora: Sequence[str] | None = None,
    show: Show | None = None,
) -> Path:
    """Render a timeline into an MP4 and return the film's path.

    ``source``: a YAML file, or its content as a mapping or a Timeline. ``output``: the film; left out, the
    timeline's stem + ``.mp4`` in the current folder. The other arguments are those of ``longvid render`` and
    go before what the timeline says; ``lora`` is a list of ``PATH`` or ``PATH:STRENGTH``, in place of the
    timeline's. ``show`` is called with every event of the render, to display progress.

    Raises UserError for wrong input (nothing is spent), LockedError where another process renders into the
    same work directory, RenderError where a render fails; what is finished stays in the work directory.
    """
    if isinstance(source, str | Path):
        parsed = timeline.load(Path(source))
    else:
        parsed = source if isinstance(source, Timeline) else timeline.build(source)
    overrides = Overrides(seed=seed, steps=steps, guidance=guidance, method=method, draft=draft)
    loras = None if lora is None else tuple(map(parse_lora, lora))
    request = Request(parsed, model, overrides, device, dtype, compile, loras=loras)
    film = film_path(parsed, output)
    backend = request.choose().backend
    request = request.settled(backend)
    happening = events(
        request.plan(backend),
        backend,
        film,
        device=device,
        dtype=dtype,
        compile=compile,
        overwrite=overwrite,
        fresh=fresh,
        request=request,
    )
    for event in happening:
        if show is not None:
            show(event)
    return film


def film_path(parsed: Timeline, output: Path | str | None) -> Path:
    """The film's path: the one given, else the timeline's stem + ``.mp4`` in the current folder.

    Raises UserError where that is the timeline itself, or the clip that it starts from.
    """
    written = Path(parsed.source.name)
    film = Path(output) if output is not None else Path(f"{written.stem}.mp4")
    read = {"the timeline itself": written, "the clip that the film starts from": parsed.start_path}
    for what, path in read.items():
        with suppress(OSError):  # of a name that is no file (yet), or none at all
            if path is not None and film.samefile(path):
                raise UserError(f"--output {film}: is {what}; name another file")
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
    request: Request | None = None,
) -> Generator[Event, Request | None, None]:
    """Render the plan, event by event, going on from what an earlier render left; the last one is Done.

    A request that is sent in answer to Stepped takes the plan's place, if it changes nothing that has entered
    the window by then; Noted says whether it does. ``request`` is what the plan was made of; with it `longvid
    resume` can go on without the timeline's file. Whatever an event speaks of is on disk, so closing the
    iterator between two of them stops the render cleanly. Raises as ``render`` does.
    """
    where = choose_device(device)
    what = choose_dtype(dtype, where)
    check_free(output, overwrite=overwrite)
    if request is not None:
        rehearse(planned, request, output)
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
        yield from _render(planned, backend, film, rungs, runtime, output, work, request)


def _render(
    planned: RenderPlan,
    backend: Backend,
    film: Film,
    rungs: Sequence[Rung],
    runtime: Runtime,
    output: Path,
    work: WorkDirectory,
    request: Request | None,
) -> Generator[Event, Request | None, None]:
    """From the loaded model to the film, on the first of the rungs; on the next one where memory runs out."""

    exchange.finish(work.path)
    names = identities(planned, backend.geometry, film.fingerprint, dtype_name(runtime.dtype))
    first_chunks = [unit.chunk == 0 for unit in planned.units]
    if (take := better_take(work, names, first_chunks, runtime.device)) is not None:
        yield Noted(f"goes on with {take}, which holds more of this film")
        work.take_aside()
        exchange.exchange(work.path, take.name)
        work.weigh_states()
    kept = keep(work, names, first_chunks, runtime.device)
    if planned.start and planned.start.clip is None and is_missing(planned, kept):
        put_own(work, names, planned.start, runtime.device)
        kept = keep(work, names, first_chunks, runtime.device)
    for path in kept.damaged:
        yield Noted(f"{path}: is not what was written there, and is not used", warning=True)
    run = run_record(planned, runtime, film.fingerprint)
    if is_done(work, kept, planned, output, request):
        work.forget_state(STOP)
        if request is not None and work.path / REQUEST in kept.damaged:
            work.write_request(request.content())
        yield done(planned, output, 0.0, 0, extended=request is not None and request.extension is not None)
        return
    yield from go_on(work, kept, planned, run)
    forget_entries(work, names)
    # That of before, or one that was about to take the name at a kill, has it until another takes it.
    before = read_sealed(work.path / "run.json") or {}
    run |= {key: before[key] for key in ("film", "next_film") if key in before}
    # In this order: where the plan is another, the film is known to be unfinished.
    work.write_run({**run, "status": "unfinished"})
    work.write_plan(without_seal(planned))
    if request is not None:
        work.write_request(request.content())
    if planned.start and planned.start.clip is not None and is_missing(planned, kept):
        yield Loading(f"reading {planned.start.clip}")
        latents = encode(planned, backend.geometry, film.codec(), runtime.device)
        put_clip(work, names, planned.start, latents)
        kept = keep(work, names, first_chunks, runtime.device)

    empty = from_text(unit_shape(planned, backend.geometry), runtime.device)
    ended = replace(empty, step=names.end if kept.units == len(planned.units) else 0)
    start = kept.state or ended
    standing = Standing(start, again(kept, runtime.device), start.step)
    finishing = Finishing(
        planned, names, work, runtime.device, done=kept.frames, skipped=kept.skipped, carry=kept.carry
    )
    preview = Preview(work, planned.fps)
    held = _Held(planned, names, film, runtime)
    try:
        yield from _all_chunks(held, backend, rungs, output, work, run, standing, finishing, preview)
    except (GeneratorExit, KeyboardInterrupt) as stop:
        # Stopped: what is finished is saved, if there is time, and where the loop stands between two chunks.
        if isinstance(stop, GeneratorExit):
            for clean in standing.unsaved():
                finishing.start(clean).result()
        # While an earlier render's chunks are decoded again, the one that it left still stands.
        if finishing.chunks_done == held.names.finished(standing.state.step):
            finishing.save_stop(standing.state)
        raise
    finally:
        finishing.close()
        if finishing.frames_done:
            with suppress(RenderError):  # of a full disk, say: the reason for being here says it already
                preview.rebuild(finishing.chunks_done)

    planned = held.planned
    join = join_film(work, planned.effective(), __version__, output, request)
    seconds = time.monotonic() - (standing.began_at or 0)
    run.pop("next_film", None)
    work.write_run({**run, "status": "finished", "film": checksum(output), "seconds": round(seconds, 3)})
    work.forget_state(STOP)
    if join is not None:
        hint = request is not None and request.handoff == "context" and join.ratio > ABRUPT
        noised = "; --handoff noised takes the motion along" if hint else ""
        yield Noted(f"at the join the picture changes {join.ratio:.2f} times as much as around it{noised}")
    kept_frames = sum(unit.frames for unit in planned.units[: kept.units])
    yield done(planned, output, seconds, kept_frames, extended=join is not None)


@dataclass
class _Held:
    """The plan at hand, which an edit replaces; and the model, held in another way where memory runs out."""

    planned: RenderPlan
    names: Identities
    film: Film
    runtime: Runtime


def _all_chunks(
    held: _Held,
    backend: Backend,
    rungs: Sequence[Rung],
    output: Path,
    work: WorkDirectory,
    run: dict[str, Any],
    standing: Standing,
    finishing: Finishing,
    preview: Preview,
) -> Generator[Event, Request | None, None]:
    """What is left of the film: on one rung after the other, under one plan after the other."""
    down = list(rungs)
    while True:
        try:
            edited = yield from _on_rung(
                held.planned,
                backend.geometry,
                held.film,
                down[0],
                held.runtime,
                output,
                standing,
                finishing,
                preview,
            )
            if edited is None:
                return
            yield _take_over(edited, held, backend, work, standing.state.step, finishing)
            continue
        except torch.OutOfMemoryError as error:
            if len(down) == 1:
                width, height = held.planned.size
                raise RenderError(
                    f"{device_name(held.runtime.device)} has not enough memory for {width}x{height}; "
                    "choose a smaller `size` or another --device"
                ) from error
        # Behind the error: it holds what it was raised over.
        del down[0]
        gc.collect()
        if held.runtime.device.type == "cuda":
            torch.cuda.empty_cache()
        held.runtime = replace(held.runtime, rung=down[0].name)
        run["rung"] = down[0].name
        work.write_run({**run, "status": "unfinished"})
        yield Noted(f"memory ran out; goes on from the last step: {down[0].says}", warning=True)
        held.film = backend.for_film(held.planned.spec, held.runtime)


def _take_over(
    edited: Request, held: _Held, backend: Backend, work: WorkDirectory, step: int, finishing: Finishing
) -> Noted:
    """Go on under an edited plan, where it changes nothing that has entered the window."""
    new = edited.plan(backend)
    names = identities(new, backend.geometry, held.film.fingerprint, dtype_name(held.runtime.dtype))
    if not _in_window(held.names, names, step, finishing.chunks_done):
        why = "the edit reaches chunks that are finished or in the window; it is not taken over"
        return Noted(why, warning=True)
    held.planned, held.names = new, names
    finishing.replan(new, names)
    work.write_plan(without_seal(new))
    work.write_request(edited.content())
    return Noted("the edit is taken over")


def _in_window(before: Identities, after: Identities, step: int, chunks_done: int) -> bool:
    """Whether an edit leaves all that is finished, and all that has entered before this step, as it is."""
    return (
        before.of_state(step) == after.of_state(step)
        and before.chunks[:chunks_done] == after.chunks[:chunks_done]
    )


def _on_rung(
    planned: RenderPlan,
    geometry: Geometry,
    film: Film,
    rung: Rung,
    runtime: Runtime,
    output: Path,
    standing: Standing,
    finishing: Finishing,
    preview: Preview,
) -> Generator[Event, Request | None, Request | None]:
    """What is left of the film, with the model held in one way.

    A request that is sent in answer to Stepped ends it behind that step, and is what it returns.
    """
    yield Loading("reading the prompts")
    text, too_long = encode_prompts(film, planned)
    if standing.saving is not None:
        wait([standing.saving])
        if isinstance(standing.saving.exception(), torch.OutOfMemoryError):
            standing.saving = None  # There is more room now: it is tried again.
    codec = finishing.use(film.codec, rung)
    done = finishing.names.finished(standing.state.step)
    pictures = encode_pictures(planned, done, codec, runtime.device)

    def saved(*, all_of_it: bool) -> Generator[Event, Request | None, None]:
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
                yield PreviewWritten(str(finishing.work.preview), preview.rebuild(finishing.chunks_done))

    resumed = time.monotonic()
    if standing.began_at is None:
        standing.began_at = resumed
        for line in too_long:
            yield Noted(line, warning=True)
        yield began(planned, output, runtime)
    denoising = 0.0
    for left in standing.again:
        standing.waiting.append(left)
        yield from saved(all_of_it=False)
    for state, finished in windows(planned, geometry, film, text, pictures, standing.state):
        standing.state = state
        denoising += time.monotonic() - resumed
        for clean in finished:
            behind = state if clean is finished[-1] else None
            standing.waiting.append(Clean(clean, behind, denoising))
            denoising = 0.0
        enters = finishing.names.is_entry(state.step)
        yield from saved(all_of_it=enters)
        if enters:
            finishing.save_entry(state)
        edited = yield stepped(planned, state, finishing, standing)
        if edited is not None:
            yield from saved(all_of_it=True)
            return edited
        resumed = time.monotonic()
    yield from saved(all_of_it=True)
    return None
