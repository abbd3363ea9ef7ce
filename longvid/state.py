"""The work directory: everything a render has finished, and all it needs to go on.

    film.longvid/
        plan.json                   the film's effective values
        run.json                    versions, device, threads, seed, timings of the last run
        chunks/000012.json          written last: this chunk is finished. Its identity, frames and checksums
        latents/000012.safetensors  the chunk's clean latents
        segments/000012.mp4         the chunk's frames, a closed piece of the film
        states/000012.safetensors   the loop's state behind it, the codec's carry included; oldest pruned
        states/000012-000026.*      and one before it is finished, at step 26, where a unit enters
        preview.mp4                 the film so far
        lock                        held by the process that renders

Every file appears whole or not at all (temporary name, fsync, rename). A JSON file seals itself with the
SHA-256 of its own content, every other file's is in its chunk's record: a chunk counts as finished when its
record's seal and the files it names are right, so a kill at any moment leaves either the chunk or nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from longvid.backends import Carry
from longvid.denoise import WindowState
from longvid.errors import RenderError, UserError
from longvid.files import checksum, read_sealed, sync, write, write_sealed
from longvid.locks import locked, refused
from longvid.outputs import check_free, work_path

FOLDERS = ("latents", "segments", "states", "chunks")
SHEETS = ("plan.json", "run.json", "request.json")
STOP = "stop"
"""The name of the state where a render stopped."""
STATE_BYTES = 1 << 30
"""The states together stay under this; the oldest go first."""


# States


@dataclass(frozen=True)
class Chunk:
    """A finished chunk, all of it that is kept. ``segment`` is None where the codec held back every frame.

    Its identities are those of identities.py: of its frames, its latents, and its unit's own conditions.
    ``state`` and ``carry`` are the loop's and the codec's behind it; the state is None where one evaluation
    finished several chunks and this is not the last of them: only behind the last can one go on.
    """

    index: int
    identity: str
    latents_identity: str
    conditions: str
    frames: int
    seconds: Mapping[str, float]
    latents: Tensor
    segment: bytes | None
    state: WindowState | None
    state_identity: str
    carry: Carry
    skipped: int = 0
    """Frames that were decoded and are not the film's: those of a clip that it starts from."""
    rung: str | None = None
    """How the model was held, where that changed pixels."""


def save_state(state: WindowState, carry: Carry, identity: str) -> bytes:
    """A safetensors file of everything that the loop and the codec know behind a chunk."""
    tensors = {"latents": state.latents, **{f"carry.{name}": tensor for name, tensor in carry.items()}}
    if state.memory is not None:
        tensors["memory"] = state.memory
    described = {"step": state.step, "units": state.units, "levels": state.levels, "identity": identity}
    # One key: safetensors writes several in an order that changes from file to file.
    return _safetensors(tensors, {"state": json.dumps(described)})


def _safetensors(tensors: Mapping[str, Tensor], described: dict[str, str] | None = None) -> bytes:
    """Each tensor as a copy of its own: a codec may carry views of one another, which the format refuses."""
    alone = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    return save(alone, described)


def state_identity(path: Path) -> str | None:
    """What ``save_state`` was given; None for a file that is no state."""
    try:
        with safe_open(path, "pt") as file:
            identity = json.loads(file.metadata()["state"])["identity"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    return str(identity)


def load_state(path: Path, device: torch.device) -> tuple[WindowState, Carry]:
    """What ``save_state`` wrote, bit for bit."""
    with safe_open(path, "pt", device=str(device)) as file:
        described = json.loads(file.metadata()["state"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
    state = WindowState(
        step=described["step"],
        units=tuple(described["units"]),
        levels=tuple(described["levels"]),
        latents=tensors.pop("latents"),
        memory=tensors.pop("memory", None),
    )
    return state, {name.removeprefix("carry."): tensor for name, tensor in tensors.items()}


# The directory


@dataclass(frozen=True)
class WorkDirectory:
    """An open work directory; this process holds its lock."""

    path: Path
    states: dict[str, int] = field(default_factory=dict)
    """Sizes of the states on disk, by their names."""

    @property
    def preview(self) -> Path:
        return self.path / "preview.mp4"

    def record(self, chunk: int) -> Path:
        return self.path / "chunks" / f"{chunk:06d}.json"

    def latents(self, chunk: int) -> Path:
        return self.path / "latents" / f"{chunk:06d}.safetensors"

    def segment(self, chunk: int) -> Path:
        return self.path / "segments" / f"{chunk:06d}.mp4"

    def state(self, chunk: int) -> Path:
        return self.path / "states" / f"{chunk:06d}.safetensors"

    def records_between(self) -> list[Path]:
        """Of the states between two chunks: where units enter, and where a render stopped."""
        return sorted((self.path / "states").glob("[!.]*.json"))

    def segments(self, chunks: int) -> list[Path]:
        """Of the first ``chunks`` chunks; a codec that holds frames back may leave out one."""
        return [path for chunk in range(chunks) if (path := self.segment(chunk)).exists()]

    def write_plan(self, effective: Mapping[str, Any]) -> None:
        write_sealed(self.path / "plan.json", effective)

    def write_request(self, request: Mapping[str, Any]) -> None:
        write_sealed(self.path / "request.json", request)

    def write_run(self, run: Mapping[str, Any]) -> None:
        write_sealed(self.path / "run.json", run)

    def announce(self, film: Path) -> None:
        """Note in ``run.json`` that this film is about to take its name: after a kill, before or behind that,
        what has the name is known as a render's own."""
        run = read_sealed(self.path / "run.json") or {}
        self.write_run({**run, "next_film": checksum(film)})

    def save_chunk(self, chunk: Chunk) -> None:
        """The chunk's files, and then the record that makes it count."""
        name = f"{chunk.index:06d}"
        files = {f"latents/{name}.safetensors": _safetensors({"latents": chunk.latents})}
        if chunk.segment is not None:
            files[f"segments/{name}.mp4"] = chunk.segment
        if chunk.state is not None:
            files[f"states/{name}.safetensors"] = save_state(chunk.state, chunk.carry, chunk.state_identity)
        for file, content in files.items():
            write(self.path / file, content, commit=False)
        record = {
            "chunk": chunk.index,
            "identity": chunk.identity,
            "latents": chunk.latents_identity,
            "conditions": chunk.conditions,
            "frames": chunk.frames,
            "step": None if chunk.state is None else chunk.state.step,
            "seconds": {hop: round(seconds, 4) for hop, seconds in chunk.seconds.items()},
            "files": {file: hashlib.sha256(content).hexdigest() for file, content in files.items()},
            **({"skipped": chunk.skipped} if chunk.skipped else {}),
            **({} if chunk.rung is None else {"rung": chunk.rung}),
        }
        write_sealed(self.path / "chunks" / f"{name}.json", record)
        if chunk.state is not None:
            self.states[name] = len(files[f"states/{name}.safetensors"])
            self._prune(name)

    def save_stop(self, state: WindowState, carry: Carry, identity: str) -> None:
        """The state where a render stops."""
        self._save_between(STOP, state, carry, identity)

    def save_entry(self, chunk: int, state: WindowState, carry: Carry, identity: str) -> None:
        """The state before a unit enters, where ``chunk`` is the next to be finished."""
        name = f"{chunk:06d}-{state.step:06d}"
        self.states[name] = self._save_between(name, state, carry, identity)
        self._prune(name)

    def _save_between(self, name: str, state: WindowState, carry: Carry, identity: str) -> int:
        """A state between two chunks, its record last. Returns its bytes."""
        content = save_state(state, carry, identity)
        write(self.path / "states" / f"{name}.safetensors", content, commit=False)
        record = {"step": state.step, "file": hashlib.sha256(content).hexdigest()}
        write_sealed(self.path / "states" / f"{name}.json", record)
        return len(content)

    def weigh_states(self) -> None:
        """Take the states for those that are there now."""
        states = (self.path / "states").glob("[0-9]*.safetensors")
        self.states.clear()
        self.states.update((file.stem, file.stat().st_size) for file in states)

    def forget_state(self, name: str) -> None:
        """Let go of a state, by its name, that is known to be of no use."""
        self.states.pop(name, None)
        with suppress(OSError):  # it takes space, and that is all
            for suffix in (".json", ".safetensors"):
                (self.path / "states" / f"{name}{suffix}").unlink(missing_ok=True)

    def chunks_recorded(self) -> int:
        """One more than the last chunk with a record, whole or not."""
        return max((int(path.stem) + 1 for path in (self.path / "chunks").glob("[0-9]*.json")), default=0)

    def take_aside(self) -> Path:
        """Everything that is here as a take of its own: links in ``takes/N``, no copies. Returns the take;
        where one holds all of it already, that one."""
        held = holder(self.path)
        if held is not None:
            return held
        take = next(path for n in count(1) if not (path := self.path / "takes" / str(n)).exists())
        link_tree(self.path, take)
        return take

    def forget(self, first: int) -> None:
        """Let go of the chunks from ``first`` on. Raises RenderError."""
        try:
            for chunk in range(first, self.chunks_recorded()):
                # The record first: without it, nothing else of the chunk counts.
                self.record(chunk).unlink(missing_ok=True)
                self.segment(chunk).unlink(missing_ok=True)
                self.latents(chunk).unlink(missing_ok=True)
                self.forget_state(f"{chunk:06d}")
        except OSError as error:
            raise RenderError(
                f"{error.filename or self.path}: cannot be put aside: {error.strerror}"
            ) from error

    def _prune(self, saved: str) -> None:
        """Let go of the oldest states, but never of the one that was just saved."""
        total = sum(self.states.values())
        for oldest in sorted(self.states.keys() - {saved}, key=in_time):
            if total <= STATE_BYTES:
                return
            total -= self.states[oldest]
            self.forget_state(oldest)


def in_time(name: str) -> tuple[int, int]:
    """What the names of states sort by in order of time: the chunks finished, and the step of an entry."""
    chunk, _, step = name.partition("-")
    return (int(chunk), int(step)) if step else (int(chunk) + 1, 0)


def branch(film: Path, name: str) -> Path:
    """The film of a take of this name; if it is new, it begins with all that the film's work directory holds.

    Raises UserError for a name that is none, and where there is nothing to branch from.
    """
    if not re.fullmatch(r"[\w-][\w.-]{0,63}", name) or name.isdigit():
        raise UserError(f"--as {name}: a take's name is letters, digits, - and _, and not a number alone")
    work = work_path(film)
    if not _has_finished(work):
        raise UserError(f"{work}: nothing is finished there to branch from; render the film first")
    take = work / "takes" / name
    if not _has_finished(take):
        with locked(work):
            link_tree(work, take)
        (take / "request.json").unlink(missing_ok=True)  # it is asked for something else
    return take.with_name(f"{name}.mp4")


def unbranch(film: Path) -> None:
    """Remove the take of this film, if it has only begun with what another one holds: it was refused."""
    take = work_path(film)
    if not (take / "request.json").exists():
        shutil.rmtree(take)


@contextmanager
def work_directory(output: Path, *, fresh: bool = False, overwrite: bool = False) -> Iterator[WorkDirectory]:
    """The locked work directory of the film ``output``, with whatever an earlier render left there; with
    ``fresh`` a new one, the earlier moved aside. Raises as ``check_free``."""
    check_free(output, overwrite=overwrite)
    path = work_path(output)
    if fresh and _has_finished(path):
        with locked(path), refused(path):
            path.rename(_free_name(path))
    with refused(path):
        for folder in FOLDERS:
            (path / folder).mkdir(parents=True, exist_ok=True)
    with locked(path):
        work = WorkDirectory(path)
        work.weigh_states()
        yield work


def link_tree(work: Path, take: Path) -> None:
    """What makes up a render, linked into a new folder. That takes no space, and since no file is written to
    in place it stays as it is. The folder appears whole or not at all."""
    partial = take.with_name(f".{take.name}.part")
    with refused(take):
        if partial.exists():
            shutil.rmtree(partial)
        for folder in FOLDERS:
            (partial / folder).mkdir(parents=True)
            for file in sorted((work / folder).glob("[!.]*")):
                os.link(file, partial / folder / file.name)
            sync(partial / folder)
        for name in SHEETS:
            if (work / name).exists():
                os.link(work / name, partial / name)
        sync(partial)
        partial.rename(take)
        sync(take.parent)


def take_folders(work: Path) -> list[Path]:
    """The takes in a work directory, by number and then by name."""
    folders = [folder for folder in (work / "takes").glob("[!.]*") if folder.is_dir()]
    return sorted(
        folders, key=lambda folder: (not folder.name.isdecimal(), folder.name.zfill(9), folder.name)
    )


def render_files(work: Path) -> list[Path]:
    """What makes up a render, as paths below ``work``; not ``run.json``, which tells how it was joined."""
    files = [file for folder in FOLDERS for file in (work / folder).glob("[!.]*")]
    files += [work / name for name in SHEETS if name != "run.json" and (work / name).exists()]
    return [file.relative_to(work) for file in files]


def holder(work: Path) -> Path | None:
    """A take that holds all of the render in ``work``. A record tells its files' content, so that those are
    there is enough."""
    files = render_files(work)
    sealed = {name: (work / name).read_bytes() for name in files if name.suffix == ".json"}
    for take in take_folders(work) if files else ():
        with suppress(OSError):
            if all((take / name).read_bytes() == content for name, content in sealed.items()) and all(
                (take / name).is_file() for name in files
            ):
                return take
    return None


def _has_finished(path: Path) -> bool:
    return any((path / "chunks").glob("*.json"))


def _free_name(path: Path) -> Path:
    return next(free for n in count(1) if not (free := path.with_name(f"{path.name}.{n}")).exists())
