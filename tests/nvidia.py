"""A fake nvidia-smi, first on the path, so that a machine without a card has some."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

QUERIED = "--query-gpu=index,uuid,name,memory.total,memory.free --format=csv,noheader,nounits"


def install_nvidia_smi(monkeypatch: pytest.MonkeyPatch, folder: Path, says: str, code: int = 0) -> None:
    """It answers what longvid asks with ``says``, anything else with an error. Every card is visible."""
    folder.mkdir(exist_ok=True)
    program = folder / "nvidia-smi"
    program.write_text(
        f"#!/bin/sh\n[ \"$*\" = '{QUERIED}' ] || exit 9\ncat <<'END'\n{says}\nEND\nexit {code}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
