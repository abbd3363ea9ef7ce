"""Checkpoints appear whole or not at all, and the last few and the best stay."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longvid.errors import RenderError
from longvid.training import checkpoints
from tests.disk import Disk, Killed


def parts(step: int) -> dict[str, dict[str, Tensor]]:
    return {part: {"a": torch.full((3,), float(step)), "b": torch.zeros(2, 2)} for part in checkpoints.PARTS}


def save(folder: Path, step: int, held_out_loss: float | None = None) -> None:
    checkpoints.save(folder, {"step": step, "held_out_loss": held_out_loss}, parts(step))


def newest(folder: Path) -> int | None:
    found, broken = checkpoints.newest(folder)
    assert not broken
    if found is None:
        return None
    for part in checkpoints.PARTS:
        assert found.tensors(part)["a"].tolist() == [found.step] * 3
    return found.step


@pytest.mark.parametrize("how", ["fails_at", "killed_at"])
def test_whenever_the_disk_fails_a_whole_checkpoint_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    save(tmp_path, 1)
    disk = Disk(monkeypatch)
    save(tmp_path, 2)
    checkpoints.prune(tmp_path, 2, last=1)
    calls = len(disk.calls)
    assert calls > 10
    for call in range(calls):
        folder = tmp_path / f"call {call}"
        disk.start()
        save(folder, 1)
        disk.start(**{how: call})
        try:
            save(folder, 2)
            checkpoints.prune(folder, 2, last=1)
        except Killed:
            pass
        except RenderError as error:
            assert "\n" not in str(error) and str(error).startswith(str(folder))
        disk.start()
        assert newest(folder) in (1, 2)
        save(folder, 3)
        checkpoints.prune(folder, 3, last=1)
        assert newest(folder) == 3
        assert [path.name for path in folder.glob("[!.]*")] == ["000003"]


def test_a_checkpoint_is_replaced_where_it_is_broken(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    (tmp_path / "000002" / "average.safetensors").write_bytes(b"")
    found, broken = checkpoints.newest(tmp_path)
    assert found is not None
    assert (found.step, broken) == (1, [tmp_path / "000002"])
    save(tmp_path, 2)
    assert newest(tmp_path) == 2


@pytest.mark.parametrize("lost", ["state.json", "weights.safetensors"])
def test_a_checkpoint_without_a_file_is_none(tmp_path: Path, lost: str) -> None:
    save(tmp_path, 1)
    (tmp_path / "000001" / lost).unlink()
    assert checkpoints.newest(tmp_path) == (None, [tmp_path / "000001"])
    assert checkpoints.best(tmp_path) is None


def test_no_folder_holds_none(tmp_path: Path) -> None:
    assert checkpoints.newest(tmp_path / "nowhere") == (None, [])


def test_the_last_and_the_best_stay(tmp_path: Path) -> None:
    for step, loss in enumerate([0.9, 0.3, 0.5, 0.3, 0.4, None, 0.6], 1):
        save(tmp_path, step, loss)
        checkpoints.prune(tmp_path, step, last=2)
    assert checkpoints.steps(tmp_path) == [4, 6, 7]
    best = checkpoints.best(tmp_path)
    assert best is not None and best.step == 4


def test_without_a_held_out_loss_the_last_is_the_best(tmp_path: Path) -> None:
    save(tmp_path, 3)
    save(tmp_path, 12)
    best = checkpoints.best(tmp_path)
    assert best is not None and best.step == 12


def test_what_is_broken_and_ahead_does_not_count_as_the_last(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 9)
    (tmp_path / "000009" / "state.json").write_text("{}")
    save(tmp_path, 2)
    checkpoints.prune(tmp_path, 2, last=1)
    assert checkpoints.steps(tmp_path) == [2]


def test_more_than_a_million_steps(tmp_path: Path) -> None:
    for step in (999_999, 1_000_000):
        save(tmp_path, step)
    assert newest(tmp_path) == 1_000_000


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, Tensor):
        return torch.equal(ours, theirs) and ours.dtype == theirs.dtype
    if isinstance(ours, Mapping):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    return type(ours) is type(theirs) and bool(ours == theirs)


def test_an_optimizers_state_comes_back() -> None:
    network = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    names = [name for name, _ in network.named_parameters()]
    state = optimizer.state_dict()["state"]
    flat = checkpoints.flatten(state, names)
    assert flat.keys() == {f"{name}/{key}" for name in names for key in ("step", "exp_avg", "exp_avg_sq")}
    assert same(checkpoints.unflatten(flat, names), state)


def test_a_number_of_an_optimizers_state_stays_one() -> None:
    """As bitsandbytes counts its steps."""
    state = {0: {"step": 7, "state1": torch.arange(4, dtype=torch.uint8)}}
    assert same(checkpoints.unflatten(checkpoints.flatten(state, ["a.b"]), ["a.b"]), state)
