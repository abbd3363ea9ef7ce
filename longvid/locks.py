"""Who may write into a work directory. Torch-free."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from longvid.errors import LockedError, UserError


@contextmanager
def refused(path: Path, fix: str = "choose another folder with --output") -> Iterator[None]:
    """What the file system refuses before anything is spent is the caller's to put right."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot write there: {error.strerror}; {fix}") from error


@contextmanager
def locked(path: Path, doing: str = "renders") -> Iterator[None]:
    """Hold the directory's lock; it goes with the process, however that ends. Raises LockedError, which says
    what its holder is ``doing``."""
    import fcntl

    with ExitStack() as stack:
        with refused(path):
            file = stack.enter_context(open(path / "lock", "a+", encoding="utf-8"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise LockedError(
                f"{path}: {file.read().strip() or 'another process is at work'} there; "
                "wait for it, or write elsewhere with --output"
            ) from None
        with refused(path):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()} {doing}")
            file.flush()
        try:
            yield
        finally:
            with suppress(OSError):  # nothing depends on it: it only tells who holds the lock
                file.truncate(0)
