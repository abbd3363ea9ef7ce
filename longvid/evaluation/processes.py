"""Other `longvid` processes: on this machine, or anywhere on a Ray cluster that sees the same files."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from threading import Lock
from typing import Any

from longvid.errors import UserError

COMMAND = (sys.executable, "-m", "longvid")
CONNECT_SECONDS = 5
SIGKILL = 9
"""Which Windows has no name for."""


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """What it ended on, for a person. One that a signal ended had said nothing of that."""
        if self.code < 0:
            killed = ", as where memory runs out" if -self.code == SIGKILL else ""
            return f"ended by signal {-self.code}{killed}"
        lines = self.err.strip().splitlines() or [f"exit code {self.code}"]
        return lines[-1].removeprefix("error: ")

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(
            line.removeprefix("warning: ") for line in self.err.splitlines() if line.startswith("warning: ")
        )


Run = Callable[[Sequence[str]], Ran]
"""Runs `longvid` with these arguments, and waits for it."""


def threads_each(jobs: int) -> int:
    """Threads for each of so many processes, so that they share this machine's cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // jobs)


def environment(threads: int) -> dict[str, str]:
    """This process's, in which PyTorch takes so many threads."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


@dataclass
class Here:
    """Processes on this machine. ``stop`` tells each of them once to end; none begins after it."""

    env: Mapping[str, str]
    running: set[subprocess.Popen[str]] = field(default_factory=set)
    stopped: bool = False
    lock: Lock = field(default_factory=Lock)

    def __call__(self, arguments: Sequence[str]) -> Ran:
        with self.lock:
            if self.stopped:
                return Ran(143, "", "stopped")
            process = subprocess.Popen(
                [*COMMAND, *arguments],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # Ctrl-C is this process's, which passes it on once
            )
            self.running.add(process)
        out, err = process.communicate()
        with self.lock:
            self.running.discard(process)
        return Ran(process.returncode, out, err)

    def stop(self) -> None:
        with self.lock:
            if not self.stopped:
                self.stopped = True
                for process in self.running:
                    with suppress(ProcessLookupError):
                        process.terminate()


class OnRay:
    """Tasks of a Ray cluster, whose machines have longvid and see the same folders."""

    def __init__(self, address: str, device: str) -> None:
        """``address``: of the cluster, or ``local`` for one that begins and ends with this process.

        Each task has a card to itself, where the cluster has any and the ``device`` is not the CPU, else a
        core. Raises UserError without Ray, or where no cluster answers.
        """
        try:
            import_module("ray.exceptions")  # which a mere folder of that name has not
        except ImportError as error:
            raise UserError("--ray: Ray is not installed: pip install 'longvid[distributed]'") from error
        _check_answers(address)
        ray: Any = import_module("ray")
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            ray.init(address=address, log_to_driver=False, include_dashboard=False, configure_logging=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(f"--ray {address}: no cluster answers: {said}") from error
        for number, handler in handlers.items():
            signal.signal(number, handler)  # Ray's own ends the process where it stands
        has = ray.cluster_resources()
        cards = 0 if device == "cpu" else int(has.get("GPU", 0))
        self.slots: int = max(1, cards or int(has.get("CPU", 1)))
        """Tasks that the cluster takes at a time."""
        self.ray = ray
        self.task: Any = ray.remote(num_cpus=1, num_gpus=1 if cards else 0)(_task)
        self.running: set[Any] = set()
        self.stopped = False

    def __call__(self, arguments: Sequence[str]) -> Ran:
        if self.stopped:
            return Ran(143, "", "stopped")
        reference = self.task.remote(list(arguments))
        self.running.add(reference)
        try:
            code, out, err = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            return Ran(1, "", str(error).strip().splitlines()[-1] if str(error).strip() else "lost by Ray")
        finally:
            self.running.discard(reference)
        return Ran(code, out, err)

    def stop(self) -> None:
        self.stopped = True
        for reference in tuple(self.running):
            self.ray.cancel(reference)


def _check_answers(address: str) -> None:
    """Raise UserError where nobody listens at a host's port: Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise UserError(f"--ray {address}: no cluster answers there: {error}") from error


def _task(arguments: Sequence[str]) -> tuple[int, str, str]:
    """A `longvid` on the cluster's machine that takes the task."""
    here = Here(environment(1))
    try:
        ran = here(arguments)
    except BaseException:  # the task is cancelled
        here.stop()
        raise
    return ran.code, ran.out, ran.err
