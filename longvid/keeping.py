"""What of a work directory holds for a plan: which chunks are kept, and where a render goes on from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from longvid import exchange
from longvid.backends import Carry, Geometry
from longvid.denoise import WindowState
from longvid.errors import UserError
from longvid.files import checksum, digest, read_sealed
from longvid.identities import Identities, identities, unit_conditions
from longvid.outputs import is_take
from longvid.plan import RenderPlan
from longvid.progress import Noted
from longvid.request import FILE as REQUEST
from longvid.request import Request
from longvid.starts import Start
from longvid.state import FOLDERS, SHEETS, STOP, WorkDirectory, load_state, state_identity, take_folders
from longvid.times import clock

OF_ALL_CHUNKS = ("model", "model_options", "size", "fps")
"""Keys of plan.json without which a chunk cannot be taken over as it is."""


@dataclass(frozen=True)
class Again:
    """A chunk whose latents are kept and that is only decoded again; and the loop's state behind it."""

    unit: int
    latents: Path
    state: Path | None


@dataclass(frozen=True)
class Kept:
    """``frames``: written of each chunk from the first that is kept whole, and ``skipped`` of all of them
    together, as a clip's. ``again``: those behind them whose latents are kept as well, decoded with ``carry``
    to begin with. ``state``: the loop's behind those, to go on from, or None for the film's beginning.
    ``latents``: chunks whose latents hold, which may be more: from some of them nothing goes on. ``damaged``:
    files that are not what was written, and so no use.
    """

    frames: tuple[int, ...]
    skipped: int
    again: tuple[Again, ...]
    carry: Carry
    state: WindowState | None
    latents: int
    damaged: tuple[Path, ...]

    @property
    def chunks(self) -> int:
        """Chunks that are kept whole."""
        return len(self.frames)

    @property
    def units(self) -> int:
        """Units that need no evaluation any more."""
        return self.chunks + len(self.again)


def keep(work: WorkDirectory, names: Identities, first_chunks: Sequence[bool], device: torch.device) -> Kept:
    """Read and check what the directory holds, as far as it holds for a film of these identities.

    ``first_chunks``: of each unit whether it begins a run, so that its decoding begins with an empty carry.
    """
    damaged = [
        path for path in (work.path / name for name in SHEETS) if path.exists() and not read_sealed(path)
    ]
    finished, latents = _finished(work, names, damaged)
    states = sorted(_states(work, names, latents, damaged), key=lambda state: state.step, reverse=True)

    # Go on from the latest state that fits. Where nothing is in the window none is needed: what is finished
    # is all there is to know.
    units, chosen = latents, None
    if latents < len(names.latents):
        units = max(unit for unit in range(latents + 1) if names.is_clear(unit))
        later = (state for state in states if state.step > names.enter[units] and state.finished <= latents)
        fits = next((state for state in later if state.holds(names, damaged)), None)
        if fits is not None:
            chosen, units = load_state(fits.path, device)[0], fits.finished
        elif units:
            begun = max((unit for unit in range(units + 1) if first_chunks[unit]), default=0)
            chosen = _clear(work, names, range(max(begun, units - names.walk.context_chunks), units), device)

    # What lies behind it is decoded again from its latents, from where the codec's carry is known.
    whole = min(len(finished), units)
    carry: Carry = {}
    while 0 < whole < len(first_chunks) and not first_chunks[whole]:
        # The carry behind a chunk that holds does too, however the film goes on from there.
        known = (state for state in states if state.finished == whole and state.is_right(damaged))
        # What a film starts from is put there before anything is decoded.
        found = next(
            (state for state in known if state.of_chunk or (state.step and state.holds(names, damaged))), None
        )
        if found is not None:
            carry = load_state(found.path, device)[1]
            break
        whole -= 1
    behind = {
        state.finished: state.path
        for state in states
        if state.of_chunk and whole < state.finished <= units and state.holds(names, damaged)
    }
    again = tuple(Again(unit, work.latents(unit), behind.get(unit + 1)) for unit in range(whole, units))
    frames = tuple(frames for frames, _ in finished[:whole])
    skipped = sum(skipped for _, skipped in finished[:whole])
    return Kept(frames, skipped, again, carry, chosen, latents, tuple(damaged))


def better_take(
    work: WorkDirectory, names: Identities, first_chunks: Sequence[bool], device: torch.device
) -> Path | None:
    """The take, of those that were put aside, of which more of a film of these identities is kept than of the
    directory itself, as after an edit that is taken back; None without one."""

    def held(folder: Path) -> int:
        records = (read_sealed(WorkDirectory(folder).record(unit)) or {} for unit in count())
        pairs = zip(names.latents, records, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[1].get("latents") == pair[0], pairs))

    def kept(folder: Path) -> int:
        return keep(WorkDirectory(folder), names, first_chunks, device).units

    # Every file is read only where the records tell of more. What is damaged is no use, whatever they tell.
    here = held(work.path)
    better = [take for take in take_folders(work.path) if take.name.isdecimal() and held(take) > here]
    best = max(better, key=kept, default=None)
    return best if best is not None and kept(best) > kept(work.path) else None


def _clear(work: WorkDirectory, names: Identities, context: range, device: torch.device) -> WindowState:
    """The state in which all units before the end of ``context`` are finished and nothing is in the window;
    what follows sees those of it as context."""
    parts = names.walk.parts
    units = tuple(range(context.start * parts, context.stop * parts))
    # Without any, the last chunk's file is asked for its shape.
    chunks = context or range(context.stop - 1, context.stop)
    latents = torch.cat([load_file(work.latents(unit), str(device))["latents"] for unit in chunks], dim=2)
    held = latents if units else latents[:, :, :0]
    return WindowState(max(names.enter[context.stop], 0), units, (0,) * len(units), held, None)


def would_keep(work: Path, planned: RenderPlan, geometry: Geometry) -> Kept | None:
    """What a render of this plan would keep, by the last one's model and dtype; None without a last one."""
    run = read_sealed(work / "run.json") or {}
    if not {"fingerprint", "dtype"} <= run.keys():
        return None
    directory = WorkDirectory(work)
    names = identities(planned, geometry, run["fingerprint"], run["dtype"])
    first_chunks, cpu = [unit.chunk == 0 for unit in planned.units], torch.device("cpu")
    if (take := better_take(directory, names, first_chunks, cpu)) is not None:
        directory = WorkDirectory(take)
    return keep(directory, names, first_chunks, cpu)


def own_start(work: Path, units: int, planned: RenderPlan, noised: int = 0) -> Start | None:
    """The first ``units`` chunks on disk as what a film starts from, the last ``noised`` of them made anew;
    without any, what it starts from by its plan.

    ``planned``: of the film without them. Raises UserError where one is missing, or no chunk of such a film.
    """
    if not units:
        return planned.start
    other = differing(read_sealed(work / "plan.json") or {}, planned)
    if other := [key for key in other if key in OF_ALL_CHUNKS]:
        raise UserError(f"{work}: its chunks cannot be kept (other {', '.join(other)})")
    found = []
    for unit in range(units):
        path = WorkDirectory(work).record(unit)
        record = read_sealed(path)
        if record is None:
            raise UserError(
                f"{path}: is missing or damaged, and that chunk was to be kept; "
                f"`longvid resume {work}` makes it again"
            )
        found.append(record["latents"])
    lead, hidden = (planned.start.lead, planned.start.hidden) if planned.start else (0, 0)
    return Start(tuple(found), noised, lead=lead, hidden=hidden)


def unchanged(work: Path, planned: RenderPlan) -> int:
    """Finished chunks before the first unit whose own conditions are others now: what --freeze keeps."""
    conditions = unit_conditions(planned)
    for unit, condition in enumerate(conditions):
        record = read_sealed(work / "chunks" / f"{unit:06d}.json")
        if record is None or record.get("conditions") != condition:
            return unit
    return len(conditions)


def _finished(
    work: WorkDirectory, names: Identities, damaged: list[Path]
) -> tuple[list[tuple[int, int]], int]:
    """The frames written and skipped of each chunk that holds from the film's start, and how many hold by
    their latents alone."""
    frames: list[tuple[int, int]] = []
    latents = 0
    for unit, (identity, chunk) in enumerate(zip(names.latents, names.chunks, strict=True)):
        path = work.record(unit)
        if not path.exists():
            break
        record = read_sealed(path)
        if record is None:
            damaged.append(path)
            break
        if record.get("latents") != identity:
            break
        # Other frames than are wanted may be about to be replaced: they are no use, whatever they are.
        same = record["identity"] == chunk
        wrong = [path for path, wanted in _files(record, work, segment=same) if not _is_right(path, wanted)]
        damaged += wrong
        if work.latents(unit) in wrong:
            break
        latents = unit + 1
        if len(frames) == unit and same and not wrong:
            frames.append((record["frames"], record.get("skipped", 0)))
    return frames, latents


def _files(record: Mapping[str, Any], work: WorkDirectory, *, segment: bool) -> Iterator[tuple[Path, str]]:
    """The latents that a chunk's record names, and its ``segment``, with their checksums. Its state is looked
    at when it is needed."""
    for name, wanted in record["files"].items():
        if name.startswith("latents/") or (segment and name.startswith("segments/")):
            yield work.path / name, wanted


def _is_right(path: Path, digest: str) -> bool:
    try:
        return checksum(path) == digest
    except OSError:
        return False


@dataclass(frozen=True)
class _State:
    """A saved state: the units finished behind it, its step, its file and that file's checksum; and whether
    it is the state right behind a chunk."""

    finished: int
    step: int
    path: Path
    wanted: str
    of_chunk: bool

    def is_right(self, damaged: list[Path]) -> bool:
        """Whether the file is what was written; if not, it is one of the damaged."""
        right = _is_right(self.path, self.wanted)
        if not right and self.path not in damaged:
            damaged.append(self.path)
        return right

    def holds(self, names: Identities, damaged: list[Path]) -> bool:
        """Whether one can go on from it: it is right, and of this film."""
        return self.is_right(damaged) and state_identity(self.path) == names.of_state(self.step)


def _states(work: WorkDirectory, names: Identities, latents: int, damaged: list[Path]) -> Iterator[_State]:
    """Every state behind chunks that hold, and those between two chunks."""
    for unit in range(latents):
        record = read_sealed(work.record(unit)) or {}
        for name, wanted in record.get("files", {}).items():
            if name.startswith("states/") and (work.path / name).exists():
                yield _State(unit + 1, record["step"], work.path / name, wanted, of_chunk=True)
    for path in work.records_between():
        between = read_sealed(path)
        if between is None:
            damaged.append(path)
        else:
            step, state = between["step"], path.with_suffix(".safetensors")
            yield _State(names.finished(step), step, state, between["file"], of_chunk=False)


def forget_entries(work: WorkDirectory, names: Identities) -> None:
    """Let go of the states between two chunks that a film of these identities would not have."""
    for path in work.records_between():
        record = read_sealed(path)
        if path.stem == STOP or (
            record is not None
            and names.is_entry(record["step"])
            and state_identity(path.with_suffix(".safetensors")) == names.of_state(record["step"])
        ):
            continue
        work.forget_state(path.stem)


def is_done(
    work: WorkDirectory, kept: Kept, planned: RenderPlan, output: Path, request: Request | None
) -> bool:
    """Whether the film is there already, made by this very plan, and behind its clip, if any, as asked."""
    run, before = read_sealed(work.path / "run.json") or {}, read_sealed(work.path / "plan.json")
    asked = {} if request is None else request.content()
    return (
        kept.chunks == len(planned.units)
        and (read_sealed(work.path / REQUEST) or {}).get("extension") == asked.get("extension")
        and before is not None
        and digest(before) == planned.effective()["sha256"]
        and run.get("status") == "finished"
        and output.is_file()
        and run.get("film") == checksum(output)
    )


def go_on(work: WorkDirectory, kept: Kept, planned: RenderPlan, run: Mapping[str, Any]) -> Iterator[Noted]:
    """Say what is kept, and put aside what is not, or raise UserError where that is all of it."""
    recorded = work.chunks_recorded()
    if not recorded:
        return
    last = read_sealed(work.path / "run.json") or {}
    if not kept.units and not kept.state and not any(path.parent.name in FOLDERS for path in kept.damaged):
        differ = differing(read_sealed(work.path / "plan.json") or {}, planned)
        differ += [key for key in ("fingerprint", "dtype") if last.get(key, run[key]) != run[key]]
        if differ or not kept.latents:
            raise UserError(
                f"{work.path} holds another render, of which nothing can be kept "
                f"(other {', '.join(differ) or 'version of longvid'}); "
                "--fresh moves it aside and starts anew, or write elsewhere with --output"
            )
    seconds = sum(unit.frames for unit in planned.units[: kept.units]) / planned.fps
    units = len(planned.units)
    said = f"keeps {kept.units} of {units} chunks ({clock(seconds)}), renders {units - kept.units}"
    yield Noted(f"{said}, decodes {len(kept.again)} again" if kept.again else said)
    other = [
        key for key in ("versions", "device", "threads", "compiled") if last.get(key, run[key]) != run[key]
    ]
    if other:
        yield Noted(f"was begun with other {', '.join(other)}: bits may differ from there on", warning=True)
    if kept.chunks < recorded:
        # A new branch begins with links to what its film keeps.
        if not is_take(work.path) or (work.path / REQUEST).exists():
            yield Noted(f"what is replaced is kept in {work.take_aside()}")
        work.forget(max(kept.units, kept.latents))


def differing(before: Mapping[str, Any], planned: RenderPlan) -> list[str]:
    """Keys of an earlier plan.json whose values are others now."""
    now = json.loads(json.dumps(planned.effective()))
    return [key for key in now if key not in ("sha256", "title") and before.get(key) != now[key]]


def read_request(work: Path) -> Request:
    """What was asked of the render in a work directory. Raises UserError where that is none, or damaged."""
    if not work.is_dir():
        raise UserError(f"{work}: there is no such folder; a film's work directory is named film.longvid")
    content = read_sealed((exchange.pending(work) or work) / REQUEST)
    if content is None:
        what = "is damaged" if (work / REQUEST).exists() else "is missing"
        raise UserError(
            f"{work / REQUEST}: {what}, so it is not known what was asked for; "
            "`longvid render` with the timeline goes on as well"
        )
    try:
        return Request.of(content)
    except (KeyError, TypeError) as error:
        raise UserError(f"{work / REQUEST}: was written by another version of longvid ({error!r})") from error
