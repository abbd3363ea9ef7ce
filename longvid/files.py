"""Files that appear whole or not at all, and tell when they are not what was written. Torch-free."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from longvid.errors import RenderError


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
