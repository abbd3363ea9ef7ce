"""The work directory: everything a render has finished, and all it needs to go on.

    film.longvid/
        plan.json                   the film's effective values
        run.json                    versions, device, threads, seed, timings of the last run
        chunks/000012.json          written last: this chunk is finished. Its identity, frames and checksums
        latents/000012.safetensors  the chunk's clean latents
        segments/000012.mp4         the chunk's frames, a closed piece of the film
        states/000012.safetensors   the loop's state behind it, the codec's carry included; oldest pruned
        preview.mp4                 the film so far
        lock                        held by the process that renders

Every file appears whole or not at all (temporary name, fsync, rename). A JSON file seals itself with the
SHA-256 of its own content, every other file's is in its chunk's record: a chunk counts as finished when its
record's seal and the files it names are right, so a kill at any moment leaves either the chunk or nothing.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import socket
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from longvid.backends import Carry, Geometry
from longvid.denoise import WindowState
from longvid.errors import LockedError, RenderError, UserError
from longvid.methods import enter_steps
from longvid.plan import RenderPlan, digest

NUMERICS = 1
"""Raised when a version of longvid gives other numbers for the same plan, so that chunks are not mixed."""
STATE_BYTES = 1 << 30
"""The states together stay under this; the oldest go first."""


# Files


@contextmanager
def replacing(path: Path, *, commit: bool = True) -> Iterator[Path]:
    """A temporary path beside ``path``: on success it goes to disk and takes the name, else it is removed.

    ``commit`` also puts the new name on disk, and with it, on a file system with a journal, all that came
    before. Raises RenderError where the disk refuses.
    """
    partial = path.with_name(f".{path.stem}.part")  # no longer than a work directory's name
    try:
        yield partial
        _sync(partial)
        os.replace(partial, path)
        if commit:
            _sync(path.parent)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise RenderError(f"{path}: cannot be written: {error.strerror or error}") from error
        raise


def write(path: Path, content: bytes, *, commit: bool = True) -> None:
    """The file with this content, whole or not at all. Raises RenderError."""
    with replacing(path, commit=commit) as partial, open(partial, "wb") as file:
        file.write(content)


def _sync(path: Path) -> None:
    if path.is_dir() and sys.platform == "win32":
        return  # a folder cannot be opened there; NTFS journals the rename itself
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checksum(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """A JSON file whose key ``sha256`` seals all other keys."""
    sealed = {**content, "sha256": digest(content)}
    text = json.dumps(sealed, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write(path, text.encode(errors="backslashreplace"))  # JSON's own escapes, for a file name that is no text


def read_sealed(path: Path) -> dict[str, Any] | None:
    """The content of a sealed JSON file, or None where there is no such file or its seal is broken."""
    try:
        content = json.loads(path.read_bytes())
        seal = content.pop("sha256")
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return content if seal == digest(content) else None


# Identities


def identities(plan: RenderPlan, geometry: Geometry, fingerprint: str, dtype: str) -> tuple[str, ...]:
    """Each unit's identity: two plans that give a unit the same one give it the same latents and frames.

    A chain: the identity of the unit before, and the conditions of every unit that shares a window with it,
    which are those with enter(j) < enter(i) + S. ``fingerprint`` is the loaded model's, ``dtype`` the one its
    network runs in. Device and thread count are no part of it: they change bits, not conditions.
    """
    enter = enter_steps(plan.method, plan.runs, plan.steps, plan.window)
    film = {
        "numerics": NUMERICS,
        "model": plan.model,
        "model_options": dict(plan.model_options),
        "fingerprint": fingerprint,
        "dtype": dtype,
        "geometry": [geometry.chunk_latents, geometry.chunk_frames, geometry.first_chunk_frames],
        "size": plan.size,
        "fps": str(plan.fps),
        "steps": plan.steps,
        "window": plan.window,
        "method": plan.method,
        "solver": plan.solver,
        "scale": plan.scale,
        "crf": plan.crf,
    }
    conditions = [
        {
            "mix": [[plan.prompts[p], plan.negatives[p], weight] for p, weight in unit.mix],
            "guidance": unit.guidance,
            "seed": unit.seed,
            "chunk": unit.chunk,
            "enter": enter[unit.index],
            "frames": unit.frames,
        }
        for unit in plan.units
    ]
    chain = []
    before = digest(film)
    for i in range(len(plan.units)):
        end = next((j for j in range(i, len(enter)) if enter[j] >= enter[i] + plan.steps), len(enter))
        before = digest([before, conditions[i:end]])
        chain.append(before)
    return tuple(chain)


# States


@dataclass(frozen=True)
class Chunk:
    """A finished chunk, all of it that is kept. ``segment`` is None where the codec held back every frame.

    ``state`` and ``carry`` are the loop's and the codec's behind it; the state is None where one evaluation
    finished several chunks and this is not the last of them: only behind the last can one go on.
    """

    index: int
    identity: str
    frames: int
    seconds: Mapping[str, float]
    latents: Tensor
    segment: bytes | None
    state: WindowState | None
    carry: Carry
    rung: str | None = None
    """How the model was held, where that changed pixels."""


def save_state(state: WindowState, carry: Carry, identity: str) -> bytes:
    """A safetensors file of everything that the loop and the codec know behind a chunk."""
    tensors = {"latents": state.latents, **{f"carry.{name}": tensor for name, tensor in carry.items()}}
    if state.memory is not None:
        tensors["memory"] = state.memory
    described = {
        "step": json.dumps(state.step),
        "units": json.dumps(state.units),
        "levels": json.dumps(state.levels),
        "identity": identity,
    }
    return _safetensors(tensors, described)


def _safetensors(tensors: Mapping[str, Tensor], described: dict[str, str] | None = None) -> bytes:
    """Each tensor as a copy of its own: a codec may carry views of one another, which the format refuses."""
    alone = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    return save(alone, described)


def load_state(path: Path, device: torch.device) -> tuple[WindowState, Carry]:
    """What ``save_state`` wrote, bit for bit."""
    with safe_open(path, "pt", device=str(device)) as file:
        described = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
    state = WindowState(
        step=json.loads(described["step"]),
        units=tuple(json.loads(described["units"])),
        levels=tuple(json.loads(described["levels"])),
        latents=tensors.pop("latents"),
        memory=tensors.pop("memory", None),
    )
    return state, {name.removeprefix("carry."): tensor for name, tensor in tensors.items()}


# The directory


@dataclass(frozen=True)
class WorkDirectory:
    """An open work directory; this process holds its lock."""

    path: Path
    states: deque[tuple[Path, int]] = field(default_factory=deque)
    """States on disk and their sizes, oldest first."""

    @property
    def preview(self) -> Path:
        return self.path / "preview.mp4"

    def segment(self, chunk: int) -> Path:
        return self.path / "segments" / f"{chunk:06d}.mp4"

    def segments(self) -> list[Path]:
        return sorted((self.path / "segments").glob("*.mp4"))

    def write_plan(self, effective: Mapping[str, Any]) -> None:
        write_sealed(self.path / "plan.json", effective)

    def write_run(self, run: Mapping[str, Any]) -> None:
        write_sealed(self.path / "run.json", run)

    def save_chunk(self, chunk: Chunk) -> None:
        """The chunk's files, and then the record that makes it count."""
        name = f"{chunk.index:06d}"
        files = {f"latents/{name}.safetensors": _safetensors({"latents": chunk.latents})}
        if chunk.segment is not None:
            files[f"segments/{name}.mp4"] = chunk.segment
        if chunk.state is not None:
            files[f"states/{name}.safetensors"] = save_state(chunk.state, chunk.carry, chunk.identity)
        for file, content in files.items():
            write(self.path / file, content, commit=False)
        record = {
            "chunk": chunk.index,
            "identity": chunk.identity,
            "frames": chunk.frames,
            "seconds": {hop: round(seconds, 4) for hop, seconds in chunk.seconds.items()},
            "files": {file: hashlib.sha256(content).hexdigest() for file, content in files.items()},
            **({} if chunk.rung is None else {"rung": chunk.rung}),
        }
        write_sealed(self.path / "chunks" / f"{name}.json", record)
        if chunk.state is not None:
            state = f"states/{name}.safetensors"
            self.states.append((self.path / state, len(files[state])))
            self._prune()

    def _prune(self) -> None:
        total = sum(size for _, size in self.states)
        while total > STATE_BYTES and len(self.states) > 1:
            oldest, size = self.states.popleft()
            oldest.unlink(missing_ok=True)
            total -= size


def work_path(output: Path) -> Path:
    """The work directory of a film: beside it, ``film.mp4`` -> ``film.longvid``."""
    return output.with_suffix(".longvid")


@contextmanager
def work_directory(output: Path, *, fresh: bool = False, overwrite: bool = False) -> Iterator[WorkDirectory]:
    """A new, locked work directory for the film ``output``; raises as ``check_free``."""
    check_free(output, fresh=fresh, overwrite=overwrite)
    path = work_path(output)
    if _has_finished(path):
        with _locked(path), _refused(path):
            path.rename(_free_name(path))
    with _refused(path):
        for folder in ("chunks", "latents", "segments", "states"):
            (path / folder).mkdir(parents=True, exist_ok=True)
    with _locked(path):
        yield WorkDirectory(path)


def check_free(output: Path, *, fresh: bool = False, overwrite: bool = False) -> None:
    """Raise what stands in the way of a render into ``output``; nothing is touched.

    UserError where ``output`` cannot become a film: it is no .mp4, its folder is missing or cannot be
    written, there is a file that no work directory made (unless ``overwrite``), or a work directory with
    finished chunks (unless ``fresh``, which moves it aside). LockedError where another process has it.
    """
    with _refused(output):
        check_output(output)
    path = work_path(output)
    with _refused(path):
        there = path.exists()
    with _locked(path) if there else nullcontext():
        if _has_finished(path) and not fresh:
            raise UserError(
                f"{path} holds an earlier render; --fresh moves it aside and starts anew, "
                "or write elsewhere with --output"
            )
        _check_foreign(output, overwrite)


def _has_finished(path: Path) -> bool:
    return any((path / "chunks").glob("*.json"))


def check_output(output: Path) -> None:
    """Raise UserError where ``output`` can be no film."""
    if output.is_dir():
        raise UserError(f"--output {output} is a folder; name a file in it, as {output / 'film.mp4'}")
    if output.suffix.lower() != ".mp4":
        raise UserError(f"--output {output}: a film is written as .mp4; try {_as_mp4(output)}")
    if output.exists() and not output.is_file():
        raise UserError(f"--output {output}: is there and no ordinary file; name another")
    if not output.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}; create it first")


def _as_mp4(output: Path) -> Path:
    """The nearest name of a film; ``.mp4`` alone is a hidden file's name, without an ending."""
    return output.with_name("film.mp4") if output.name.lower() == ".mp4" else output.with_suffix(".mp4")


def _check_foreign(output: Path, overwrite: bool) -> None:
    if overwrite or not output.exists():
        return
    with _refused(output):
        film = checksum(output)
    for folder in output.parent.glob(f"{glob.escape(work_path(output).name)}*"):
        run = read_sealed(folder / "run.json")
        if run is not None and run.get("film") == film:
            return
    raise UserError(
        f"{output} exists, and no render here made it; --overwrite replaces it, "
        "or write elsewhere with --output"
    )


def _free_name(path: Path) -> Path:
    return next(free for n in count(1) if not (free := path.with_name(f"{path.name}.{n}")).exists())


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """What the file system refuses before anything is spent is the caller's to put right."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot write there: {error.strerror}; choose another folder with --output"
        ) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the directory's lock; it goes with the process, however that ends."""
    import fcntl

    with ExitStack() as stack:
        with _refused(path):
            file = stack.enter_context(open(path / "lock", "a+", encoding="utf-8"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise LockedError(
                f"{path}: {file.read().strip() or 'another process'} renders there; "
                "wait for it, or write elsewhere with --output"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
