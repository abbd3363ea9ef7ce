"""VBench's six dimensions of the paper's table, by the ``vbench`` package in an environment of its own.

It pins packages that longvid cannot live beside, so another Python runs it, on clips of two seconds.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from longvid.errors import RenderError, UserError
from longvid.evaluation.clips import clip_spans
from longvid.video import writer

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIMENSIONS = (
    "subject_consistency",
    "background_consistency",
    "motion_smoothness",
    "dynamic_degree",
    "aesthetic_quality",
    "imaging_quality",
)
CRF = 10
"""Of the clips: hardly any loss."""
PROGRAM = """
import sys, torch
from vbench import VBench
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
judge = VBench(device, "", sys.argv[2])
judge.evaluate(sys.argv[1], "film", dimension_list=sys.argv[3:], mode="custom_input")
"""
"""Run there: arguments are the folder of clips, that of results, and the dimensions."""


def check(python: Path) -> None:
    """Raise UserError where that Python has no vbench."""
    try:
        ran = subprocess.run([python, "-c", "import vbench"], capture_output=True, text=True, check=False)
    except OSError as error:
        message = f"--vbench-python {python}: cannot be run: {error.strerror}"
        raise UserError(f"{message}; name the python of an environment with vbench") from error
    if ran.returncode:
        raise UserError(f"--vbench-python {python}: has no vbench; {python} -m pip install vbench")


def vbench(python: Path, frames: Iterable[NDArray[np.uint8]], count: int, fps: Fraction) -> dict[str, float]:
    """Each dimension of a film of ``count`` frames [h w 3], over its clips. Raises RenderError."""
    with tempfile.TemporaryDirectory(prefix="longvid-vbench-") as folder:
        clips, results = Path(folder) / "clips", Path(folder) / "results"
        clips.mkdir()
        shown = iter(frames)
        for number, (start, end) in enumerate(clip_spans(count, fps)):
            clip = np.stack(list(islice(shown, end - start)))
            (clips / f"{number:06d}.mp4").write_bytes(writer.encode(clip, fps, CRF))
        program: list[str | Path] = [python, "-c", PROGRAM, clips, results, *DIMENSIONS]
        ran = subprocess.run(program, capture_output=True, text=True, check=False)
        try:
            found = json.loads((results / "film_eval_results.json").read_text("utf-8"))
            return {name: float(found[name][0]) for name in DIMENSIONS}
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            last = (ran.stderr.strip().splitlines() or [f"it exited with {ran.returncode}"])[-1]
            raise RenderError(f"vbench in {python} gave no result: {last}") from error
