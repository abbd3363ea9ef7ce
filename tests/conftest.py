"""The suite's time, by folder, against its budget: the whole stays under ten minutes on two cores."""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePosixPath

import pytest

BUDGET_SECONDS = {
    "tests": 180,
    "tests/backends": 120,
    "tests/commands": 90,
    "tests/training": 120,
    "tests/video": 60,
}

spent_seconds: defaultdict[str, float] = defaultdict(float)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    spent_seconds[str(PurePosixPath(report.nodeid.split("::")[0]).parent)] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("time by folder")
    for folder, spent in sorted(spent_seconds.items()):
        budget = BUDGET_SECONDS.get(folder)
        allowed = "no budget: give it one in tests/conftest.py" if budget is None else f"of {budget} s"
        over = "  OVER" if budget is not None and spent > budget else ""
        terminalreporter.write_line(f"{folder:<16}{spent:7.1f} s {allowed}{over}")
    total = sum(spent_seconds.values())
    terminalreporter.write_line(f"{'all':<16}{total:7.1f} s of {sum(BUDGET_SECONDS.values())} s")
