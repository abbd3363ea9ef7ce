from __future__ import annotations

import socket
import sys
import threading
import time
from functools import partial
from types import ModuleType, SimpleNamespace

import pytest

from longvid.errors import UserError
from longvid.evaluation import processes
from longvid.evaluation.processes import Here, OnRay, environment, threads_each


def test_a_command_ends_with_its_code_and_what_it_said():
    ran = Here(environment(1))(["render", "no.yaml"])
    assert (ran.code, ran.out) == (2, "")
    assert ran.last_line.startswith("no.yaml: no such file")


def test_a_process_that_a_signal_ended_did_not_end_on_what_it_said_last():
    ran = processes.Ran(-9, "", "chunk 3 of 45\n")
    assert ran.last_line == "ended by signal 9, as where memory runs out"
    assert processes.Ran(-15, "", "chunk 3 of 45\n").last_line == "ended by signal 15"
    assert processes.Ran(1, "", "chunk 3 of 45\nerror: the disk is full\n").last_line == "the disk is full"


def test_cores_are_shared():
    cores = threads_each(1)
    assert [threads_each(jobs) for jobs in (cores, 2 * cores)] == [1, 1]
    assert environment(3)["OMP_NUM_THREADS"] == "3"


def test_a_stop_reaches_each_process_and_none_begins_after_it(monkeypatch):
    monkeypatch.setattr(processes, "COMMAND", (sys.executable, "-c", "import time; time.sleep(60)"))
    here = Here(environment(1))
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(here(()).code)) for _ in range(2)]
    for thread in threads:
        thread.start()
    while len(here.running) < 2:
        time.sleep(0.01)
    here.stop()
    here.stop()
    for thread in threads:
        thread.join(timeout=10)
    assert codes == [-15, -15]
    assert here(()).code == 143
    assert not here.running


def test_without_ray_the_way_to_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.exceptions", None)
    with pytest.raises(
        UserError, match=r"^--ray: Ray is not installed: pip install 'longvid\[distributed\]'$"
    ):
        OnRay("local", "auto")


class Cluster(ModuleType):
    """Ray as far as it is used here: tasks run where they are asked for."""

    def __init__(self, **has: float) -> None:
        super().__init__("ray")
        self.has = has
        self.asked: dict[str, float] = {}
        self.exceptions = SimpleNamespace(RayError=RuntimeError)
        self.cancelled: list[object] = []

    def init(self, address: str, **how: object) -> None:
        if address == "nowhere":
            raise ConnectionError("nobody there\nat all")

    def cluster_resources(self) -> dict[str, float]:
        return self.has

    def remote(self, **asked: float):
        self.asked = asked
        return lambda task: SimpleNamespace(remote=lambda arguments: partial(task, tuple(arguments)))

    def get(self, reference):
        if reference.args == (("lost",),):
            raise RuntimeError("the machine\nwent away")
        return reference()

    def cancel(self, reference) -> None:
        self.cancelled.append(reference)


@pytest.fixture
def cluster(monkeypatch):
    made = Cluster(CPU=4.0)
    monkeypatch.setitem(sys.modules, "ray", made)
    monkeypatch.setitem(sys.modules, "ray.exceptions", made.exceptions)
    monkeypatch.setattr(processes, "COMMAND", (sys.executable, "-c", "import sys; print(*sys.argv[1:])"))
    return made


def test_a_task_of_a_cluster_is_a_process_there(cluster):
    run = OnRay("local", "auto")
    assert (run.slots, cluster.asked) == (4, {"num_cpus": 1, "num_gpus": 0})
    ran = run(("render", "film.yaml"))
    assert (ran.code, ran.out, ran.err) == (0, "render film.yaml\n", "")
    lost = run(("lost",))
    assert (lost.code, lost.last_line) == (1, "went away")
    run.running.add("task")
    run.stop()
    assert cluster.cancelled == ["task"]
    assert run(("render",)).code == 143


@pytest.mark.parametrize(("device", "slots"), [("auto", 2), ("cpu", 4)])
def test_a_task_has_a_card_to_itself(cluster, device, slots):
    cluster.has["GPU"] = 2.0
    assert OnRay("local", device).slots == slots
    assert cluster.asked["num_gpus"] == (device == "auto")


def test_a_cluster_that_is_not_there(cluster):
    with pytest.raises(UserError, match=r"^--ray nowhere: no cluster answers: nobody there$"):
        OnRay("nowhere", "auto")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(UserError, match=rf"^--ray ray://127\.0\.0\.1:{port}: no cluster answers there: "):
            OnRay(f"ray://127.0.0.1:{port}", "auto")
