"""Files that appear whole or not at all, and tell when they are not what was written. Torch-free."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longvid.errors import RenderError
from longvid.plugins import FOLDER_FILE

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def replacing(path: Path, *, commit: bool = True) -> Iterator[Path]:
    """A temporary path beside ``path``: on success it goes to disk and takes the name, else it is removed.

    ``commit`` also puts the new name on disk, and with it, on a file system with a journal, all that came
    before. Raises RenderError where the disk refuses.
    """
    partial = path.with_name(f".{path.stem}.part")  # no longer than a work directory's name
    try:
        yield partial
        sync(partial)
        os.replace(partial, path)
        if commit:
            sync(path.parent)
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


def sync(path: Path) -> None:
    """Put a file's content, or the names in a folder, on disk."""
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


def digest(content: object) -> str:
    """SHA-256 of anything JSON can say, in hex: of its canonical text (sorted keys, no spaces)."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """A JSON file whose key ``sha256`` seals all other keys."""
    write(path, sealed(content))


def sealed(content: Mapping[str, Any]) -> bytes:
    """What ``write_sealed`` writes."""
    text = json.dumps({**content, "sha256": digest(content)}, indent=2, ensure_ascii=False, allow_nan=False)
    # With JSON's own escapes for a file name that is no text.
    return f"{text}\n".encode(errors="backslashreplace")


def read_sealed(path: Path) -> dict[str, Any] | None:
    """The content of a sealed JSON file, or None where there is no such file or its seal is broken."""
    try:
        content = json.loads(path.read_bytes())
        seal = content.pop("sha256")
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return content if seal == digest(content) else None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """A safetensors file of these tensors, whole or not at all; equal ones give equal bytes.

    ``metadata``: one key, since the format writes several in no fixed order. Raises RenderError.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    alone = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as partial:
        partial.touch()
        mode = partial.stat().st_mode  # as any new file has it here; the format's own are for one person only
        try:
            save_file(alone, partial, metadata)
            partial.chmod(mode)
        except SafetensorError as error:  # it tells of the disk in its own words
            raise RenderError(f"{path}: cannot be written: {error}") from error


def written_over(stored: Mapping[str, Tensor], changed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All ``stored`` tensors, those that have ``changed`` in place of theirs. Raises ValueError for one that
    has no place, or another shape."""
    for name, tensor in changed.items():
        if name not in stored:
            raise ValueError(f"there is no {name}")
        if tensor.shape != stored[name].shape:
            raise ValueError(f"{name} is {tuple(tensor.shape)}, not {tuple(stored[name].shape)}")
    return {**stored, **changed}


def place(source: Path, target: Path) -> None:
    """``source`` as ``target`` too: a hard link, or where that cannot be a copy. Raises RenderError."""
    if target.exists() and target.samefile(source):
        return
    with suppress(OSError), tempfile.TemporaryDirectory(dir=target.parent, prefix=".linking.") as folder:
        os.link(source, Path(folder) / target.name)
        os.replace(Path(folder) / target.name, target)
        return
    with replacing(target) as partial:
        shutil.copyfile(source, partial)


def write_backend(folder: Path, backend: str) -> None:
    """Let a folder of weights say which backend reads it (plugins.py)."""
    write(folder / FOLDER_FILE, (json.dumps({"backend": backend}) + "\n").encode())
