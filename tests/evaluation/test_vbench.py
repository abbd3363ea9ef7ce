import sys
from fractions import Fraction
from pathlib import Path

import pytest

from longvid.errors import RenderError, UserError
from longvid.evaluation.vbench import DIMENSIONS, check, vbench
from tests.evaluation.pictures import levels

PACKAGE = """
import json, os
class VBench:
    def __init__(self, device, full_info, results):
        self.results = results
    def evaluate(self, clips, name, dimension_list, mode):
        assert mode == "custom_input"
        found = sorted(os.listdir(clips))
        values = {dimension: [len(found) / 10 + place, []] for place, dimension in enumerate(dimension_list)}
        os.makedirs(self.results)
        json.dump(values, open(os.path.join(self.results, name + "_eval_results.json"), "w"))
"""


def environment(folder: Path, package: str = PACKAGE) -> Path:
    """A python that has a vbench, and hardly any torch."""
    packages = folder / "packages"
    packages.mkdir()
    (packages / "vbench.py").write_text(package)
    (packages / "torch.py").write_text("class cuda: is_available = lambda: False\ndevice = str\n")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{packages}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return python


def test_every_dimension_over_clips_of_two_seconds(tmp_path: Path) -> None:
    python = environment(tmp_path)
    check(python)
    found = vbench(python, iter(levels(80)), 80, Fraction(12))
    assert found == pytest.approx({name: 0.3 + place for place, name in enumerate(DIMENSIONS)})
    assert len(DIMENSIONS) == 6


def test_what_goes_wrong_there_is_told_in_a_line(tmp_path: Path) -> None:
    broken = environment(
        tmp_path, PACKAGE + "\n    def evaluate(self, *a, **k): raise OSError('no weights')\n"
    )
    with pytest.raises(RenderError, match="gave no result: OSError: no weights"):
        vbench(broken, iter(levels(24)), 24, Fraction(12))


def test_a_python_without_vbench_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no vbench; .* -m pip install vbench"):
        check(environment(tmp_path, "raise ImportError('none')"))
    with pytest.raises(UserError, match="cannot be run: No such file or directory; name the python of"):
        check(tmp_path / "none")
