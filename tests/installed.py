"""The tiny backend and tiny datasets installed as a third party's would be: entry points that Python finds on
its path."""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def install_tiny(folder: Path) -> Path:
    """Make the model ``tiny`` and the datasets of tests/boats.py known to whoever has ``folder`` on Python's
    path; returns the folder."""
    info = folder / "longvid_tiny-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: longvid-tiny\nVersion: 0\n")
    datasets = "".join(
        f"{name} = tests.boats:{name}\n" for name in ("boats", "slow", "sunk", "unsaid", "wrecks")
    )
    (info / "entry_points.txt").write_text(
        f"[longvid.backends]\ntiny = tests.tiny:backend\n[longvid.datasets]\n{datasets}"
    )
    return folder


def install_models(folder: Path) -> Path:
    """As `install_tiny`, of every model that pyproject.toml declares: an installation may be older."""
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    models = declared["project"]["entry-points"]["longvid.backends"]
    info = folder / "longvid_models-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: longvid-models\nVersion: 0\n")
    lines = "".join(f"{name} = {target}\n" for name, target in models.items())
    (info / "entry_points.txt").write_text(f"[longvid.backends]\n{lines}")
    return folder


def command(*args: object) -> list[str]:
    """`longvid` with these arguments, as another process."""
    return [sys.executable, "-m", "longvid", *map(str, args)]


def environment(folder: Path) -> dict[str, str]:
    """This process's environment, in which ``folder``'s plug-ins and these tests are found."""
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}"}
