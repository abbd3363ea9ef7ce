"""The recorded numbers themselves: each has a test, and an ordinary clone has some of both networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backends.opensora.cases import COPY, KINDS, folders, kind

TESTS = Path(__file__).parent


def test_every_recording_is_of_a_kind_that_a_test_reads(pytestconfig: pytest.Config) -> None:
    modules = [file.read_text("utf-8") for file in TESTS.glob("test_*.py")]
    assert all(any(f'\nKIND = "{name}"\n' in module for module in modules) for name in KINDS)
    for folder in folders(pytestconfig.getoption("recordings")):
        found = sorted(folder.glob("*.json"))
        assert found, f"no recordings in {folder}"
        for file in found:
            assert kind(file) or file.stem.endswith("_model"), f"no test reads {file}"


def test_the_copy_is_small_and_has_both_networks() -> None:
    assert sum(file.stat().st_size for file in COPY.iterdir()) <= 2_000_000
    assert {kind(file) for file in COPY.glob("*.json")} >= {
        "sampler",
        "training",
        "vae",
        "sizes",
        "text_prompts",
    }
