import sys
import time
from pathlib import Path

import pytest

from longvid.training.boards import board
from longvid.training.trainer import Stepped


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder))
    read.Reload()
    return {
        name: [(event.step, round(event.value, 6)) for event in read.Scalars(name)]
        for name in read.Tags()["scalars"]
    }


def stepped(step: int, loss: float, **held_out: float) -> Stepped:
    return Stepped(step, loss, 0.001, 1.0, 1.0, 0, 4 * step, float(step), held_out)


def test_every_figure_has_its_curve(tmp_path: Path) -> None:
    with board(tmp_path, 0) as shown:
        shown.write(0, {"psnr": 20.5, "other": None})
        shown.write_step(stepped(1, 0.5))
        shown.write_step(stepped(2, 0.25, steady=0.5, start=0.75, text=9.0))
    assert scalars(tmp_path) == {
        "psnr": [(0, 20.5)],
        "loss": [(1, 0.5), (2, 0.25)],
        "lr": [(1, 0.001), (2, 0.001)],
        "held_out": [(2, 0.625)],
        "held_out/steady": [(2, 0.5)],
        "held_out/start": [(2, 0.75)],
        "held_out/text": [(2, 9.0)],
    }


def test_steps_that_come_anew_take_the_place_of_those_behind_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with board(tmp_path, 0) as shown:
        for step in (1, 2, 3):
            shown.write_step(stepped(step, 8.0))
    # TensorBoard takes files in the order of their names, and these begin with the second.
    later = time.time() + 1
    monkeypatch.setattr(time, "time", lambda: later)
    with board(tmp_path, 1) as shown:
        shown.write_step(stepped(2, 4.0))
    assert scalars(tmp_path)["loss"] == [(1, 8.0), (2, 4.0)]


def test_without_tensorboard_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with board(tmp_path, 0) as shown:
        shown.write_step(stepped(1, 0.5))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "board").write_text("in the way")
    with board(tmp_path / "board", 0) as shown:
        shown.write_step(stepped(1, 0.5))
    assert (tmp_path / "board").read_text() == "in the way"
