"""SHA-256 of large files, each read once: ``$XDG_CACHE_HOME/longvid/digests.json`` remembers them.

    {"/home/a/model.safetensors": {"state": [4835598472, 1795300000000000000, ...], "sha256": "9f86d0..."}}

A digest counts as long as the file's size, times and inode are what they were when it was read.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any


def sha256(path: Path, *, fresh: bool = False) -> str:
    """The digest of a file's content, in hex; ``fresh`` reads the file even where it is remembered.

    Raises OSError for a file that cannot be read, and for nothing else: a memory that cannot be read or
    written costs time only.
    """
    state = _state(path)
    known = _read().get(str(path.absolute()))
    if not fresh and isinstance(known, dict) and known.get("state") == state:
        digest = known.get("sha256")
        if isinstance(digest, str):
            return digest
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if _state(path) == state:  # else it was written to while it was read
        remember(path, digest)
    return digest


def remember(path: Path, digest: str) -> None:
    """Put down the digest of a file's content as it is now, and forget those of files that are gone."""
    with suppress(OSError, RuntimeError):
        name, memory = str(path.absolute()), _path()
        known = {other: said for other, said in _read().items() if os.path.exists(other)}
        known[name] = {"state": _state(path), "sha256": digest}
        memory.parent.mkdir(parents=True, exist_ok=True)
        temporary = memory.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(known, indent=1), "utf-8")
        temporary.replace(memory)


def _state(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _path() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longvid" / "digests.json"


def _read() -> dict[str, Any]:
    try:
        known = json.loads(_path().read_text("utf-8"))
    except (OSError, ValueError, RuntimeError):  # the last where there is no home folder
        return {}
    return known if isinstance(known, dict) else {}
