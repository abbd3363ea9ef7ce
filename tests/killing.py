"""`longvid` in processes that end by SIGKILL at a chosen moment.

    with killing(environ) as run:
        whole = run(folder, "render", "film.yaml")
        run(folder, "render", "film.yaml", kill_at=whole.calls // 2)

One process imports everything, once, and every run is a fork of it, so that a run costs no more than itself.
The moment is a number of calls, of any function, of those that reach the disk, or of those that give a file
its name, at their beginnings and their ends; so it is the same on any machine, however fast.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol

Kind = Literal["any", "disk", "replace"]
DISK = frozenset(
    {"open", "write", "close", "mux", "mkdir", "rename", "replace", "link", "unlink", "truncate"}
)


@dataclass(frozen=True)
class Ran:
    """``code``: of the exit, -9 for a kill. ``calls``: of each kind, where the run came to its end."""

    code: int
    output: str
    calls: dict[Kind, int]


class Run(Protocol):
    def __call__(self, folder: Path, *args: object, kind: Kind = "any", kill_at: int = -1) -> Ran: ...


@contextmanager
def killing(environ: dict[str, str]) -> Iterator[Run]:
    """A function that runs `longvid` in a folder, in a process of its own."""
    command = [sys.executable, "-B", "-m", "tests.killing"]
    # With one thread in all: a fork takes only the thread that asks for it along.
    environ = environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        requests, answers = server.stdin, server.stdout

        def run(folder: Path, *args: object, kind: Kind = "any", kill_at: int = -1) -> Ran:
            asked = {"folder": str(folder), "args": [str(arg) for arg in args]}
            print(json.dumps(asked | {"kind": kind, "kill_at": kill_at}), file=requests, flush=True)
            return Ran(**json.loads(answers.readline()))

        try:
            yield run
        finally:
            requests.close()


def serve() -> None:
    """Answer each line on stdin, until there is no more."""
    import av  # noqa: F401, here and now, not in every fork
    import torch

    from longvid import cli, rendering  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        asked = json.loads(line)
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            _run(asked, tell, cli.main)
        os.close(tell)
        with open(told) as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
        answer = {"output": "", "calls": {}} | (json.loads(said) if said else {})
        print(json.dumps(answer | {"code": os.waitstatus_to_exitcode(status)}), flush=True)


def _run(asked: dict[str, Any], tell: int, main: Callable[[list[str]], None]) -> None:
    """Never returns."""
    calls: dict[str, int] = {"any": 0, "disk": 0, "replace": 0}
    kind, kill_at = asked["kind"], asked["kill_at"]

    def count(frame: FrameType, event: str, called: Any) -> None:
        calls["any"] += 1
        if event.startswith("c_") and getattr(called, "__name__", None) in DISK:
            calls["disk"] += 1
            calls["replace"] += called is os.replace
        if calls[kind] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    os.chdir(asked["folder"])
    os.fsync = lambda descriptor: None  # type: ignore[assignment]  # it costs time, and the power stays on
    with open("output.txt", "w+") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        code: Any = 1
        try:
            sys.setprofile(count)
            try:
                main(asked["args"])
            finally:
                sys.setprofile(None)
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            said = {"output": Path("output.txt").read_text(), "calls": calls}
            os.write(tell, json.dumps(said).encode())
            os._exit(code)


if __name__ == "__main__":
    serve()
