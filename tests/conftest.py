"""The suite's time, by folder, against its budget: the whole stays under ten minutes on two cores."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path, PurePosixPath

import pytest

from tests.installed import install_tiny

# The tests' tensors are small: a second thread costs more than it gives, and bits depend on their number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

BUDGET_SECONDS = {
    "tests": 240,
    "tests/backends": 120,
    "tests/backends/diffusers": 100,
    "tests/backends/opensora": 90,
    "tests/benchmarks": 30,
    "tests/commands": 120,
    "tests/editing": 40,
    "tests/evaluation": 30,
    "tests/extending": 160,
    "tests/schedules": 20,
    "tests/training": 120,
    "tests/video": 90,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    # pytest's own --fixtures, which lists its fixtures, stays under its other name, --funcargs.
    group = parser.optparser.add_argument_group("longvid", conflict_handler="resolve")
    group.add_argument(
        "--fixtures",
        dest="recordings",
        type=Path,
        metavar="DIR",
        help="recorded numbers of Open-Sora to test against; by default the copy in tests/ and, where it is "
        "there, ../shared/opensora/fixtures",
    )


spent_seconds: defaultdict[str, float] = defaultdict(float)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    spent_seconds[str(PurePosixPath(report.nodeid.split("::")[0]).parent)] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("time by folder")
    for folder, spent in sorted(spent_seconds.items()):
        budget = BUDGET_SECONDS.get(folder)
        allowed = "no budget: give it one in tests/conftest.py" if budget is None else f"of {budget} s"
        over = "  OVER" if budget is not None and spent > budget else ""
        terminalreporter.write_line(f"{folder:<24}{spent:7.1f} s {allowed}{over}")
    total = sum(spent_seconds.values())
    terminalreporter.write_line(f"{'all':<24}{total:7.1f} s of {sum(BUDGET_SECONDS.values())} s")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, where the tiny model is installed and the disk is in no hurry."""
    monkeypatch.syspath_prepend(str(install_tiny(tmp_path / "plugins")))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"
