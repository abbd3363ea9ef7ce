"""A test module with ``KIND = "stdit3"`` and a test that takes ``case`` gets one test a recording."""

from __future__ import annotations

import pytest

from tests.backends.opensora.cases import COPY, cases


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    found = cases(metafunc.config.getoption("recordings"), metafunc.module.KIND)
    ids = [f"{case.name}-copy" if case.path.parent == COPY else case.name for case in found]
    metafunc.parametrize("case", found, ids=ids)
