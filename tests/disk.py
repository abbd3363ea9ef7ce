"""The file system's calls that a render makes, counted; one of them fails, or the process ends at it."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from typing import Any

import av
import pytest

from longvid import state

CALLS = ("fsync", "link", "mkdir", "rename", "replace", "rmdir", "unlink")


class Killed(BaseException):
    """The process is no more: from here on nothing of it reaches the disk."""


class Disk:
    """Counts calls while it is in place. Writing is one of them; where it fails, half of it is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.start()
        for name in CALLS:
            # To sync costs time, and no test takes the power away.
            real = (lambda descriptor: None) if name == "fsync" else getattr(os, name)
            monkeypatch.setattr(os, name, self._counted(name, real))
        monkeypatch.setattr(state, "open", self._opened, raising=False)
        monkeypatch.setattr(av, "open", self._container)

    def start(self, *, fails_at: int | None = None, killed_at: int | None = None) -> None:
        """Count from 0. Call number ``fails_at`` raises OSError, as of a full or a broken disk, once; from
        ``killed_at`` on none is made at all."""
        self.calls: list[str] = []
        self.fails_at = fails_at
        self.killed_at = killed_at

    def __call__(self, name: str) -> None:
        """One call more."""
        number = len(self.calls)
        self.calls.append(name)
        if self.killed_at is not None and number >= self.killed_at:
            raise Killed(name)
        if number == self.fails_at:
            code = random.Random(number).choice([errno.ENOSPC, errno.EIO])
            raise OSError(code, os.strerror(code))

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self(name)
            return real(*args, **options)

        return call

    def _opened(self, path: Any, mode: str = "r", **options: Any) -> Any:
        file = open(path, mode, **options)  # noqa: SIM115, the caller closes it
        return file if mode == "rb" else _Written(file, self)

    def _container(self, file: Any, mode: str = "r", **options: Any) -> Any:
        if mode == "w" and isinstance(file, str):
            with open(file, "wb") as torn:
                torn.write(b"half a film")
            self("write")
        return _AV_OPEN(file, mode, **options)


_AV_OPEN = av.open


class _Written:
    """A file that is written to, whole or by half."""

    def __init__(self, file: Any, disk: Disk) -> None:
        self.file = file
        self.disk = disk

    def write(self, content: Any) -> int:
        try:
            self.disk("write")
        except BaseException:
            self.file.write(content[: len(content) // 2])
            raise
        return int(self.file.write(content))

    def __enter__(self) -> _Written:
        self.file.__enter__()
        return self

    def __exit__(self, *how: Any) -> None:
        self.file.__exit__(*how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)
