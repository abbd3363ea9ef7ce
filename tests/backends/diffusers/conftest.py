"""The models' names, for as long as the installed package does not know them yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.installed import install_models


@pytest.fixture
def models_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on Python's path that declares every backend of pyproject.toml; for subprocesses too
    (`tests.installed.environment`)."""
    folder = install_models(tmp_path / "models")
    monkeypatch.syspath_prepend(str(folder))
    return folder
