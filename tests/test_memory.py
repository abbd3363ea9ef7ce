from pathlib import Path

import pytest

from longvid import memory
from longvid.backends import RESIDENT, Rung
from longvid.memory import Card, cards, first_fitting, fits
from tests.nvidia import install_nvidia_smi

MIB = 1 << 20
TWO = """\
0, GPU-5a1c8c2e-0000, NVIDIA GeForce RTX 4090, 24564, 23012
1, GPU-99f0ab31-0000, NVIDIA H200, 143771, 143250"""
SMALL = Card(0, "GPU-5a1c8c2e-0000", "NVIDIA GeForce RTX 4090", 24564 * MIB, 23012 * MIB)
LARGE = Card(1, "GPU-99f0ab31-0000", "NVIDIA H200", 143771 * MIB, 143250 * MIB)


def test_the_cards_that_nvidia_smi_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_nvidia_smi(monkeypatch, tmp_path, TWO)
    assert cards() == [SMALL, LARGE]


@pytest.mark.parametrize(
    ("named", "visible"),
    [
        ("0", [SMALL]),
        ("1,0", [LARGE, SMALL]),
        ("GPU-99f0", [LARGE]),
        ("0,7,1", [SMALL]),
        ("", []),
        ("-1", []),
        ("none", []),
    ],
)
def test_the_cards_that_programs_may_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, visible: list[Card]
) -> None:
    install_nvidia_smi(monkeypatch, tmp_path, TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert cards() == visible


@pytest.mark.parametrize(
    ("says", "code"),
    [
        ("", 0),
        (TWO, 9),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", 0),
        ("0, GPU-1, Orin, [N/A], [N/A]", 0),
        ("0, GPU-1, a name, with a comma, 1, 1", 0),
    ],
)
def test_no_card_where_it_says_nothing_of_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, code: int
) -> None:
    install_nvidia_smi(monkeypatch, tmp_path, says, code)
    assert cards() == []


def test_no_card_without_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cards() == []


def test_no_card_where_it_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(memory, "PATIENCE_SECONDS", 0.1)
    assert cards() == []


def test_the_fastest_rung_that_fits() -> None:
    ladder = [Rung(RESIDENT, 20, ""), Rung("less", 10, ""), Rung("least", 5, "")]
    assert [first_fitting(ladder, free) for free in (30, 20, 19, 10, 9, 5, 4, 0)] == [0, 0, 1, 1, 2, 2, 2, 2]
    assert fits(ladder[0], 20)
    assert not fits(ladder[0], 19)


def test_what_nobody_knows_is_tried() -> None:
    assert first_fitting([Rung(RESIDENT, None, ""), Rung("less", 10, "")], 1) == 0
