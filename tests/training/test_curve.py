"""The curve is what metrics.jsonl says, as a picture of one size."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from longvid.errors import UserError
from longvid.training.curve import SIZE_PX, Curve, draw, read_metrics, smoothed


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch) -> list[Axes]:
    """What is drawn."""
    drawn: list[Axes] = []
    save = Figure.savefig

    def seen(self: Figure, *args: object, **options: object) -> None:
        drawn.extend(self.axes)
        save(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", seen)
    return drawn


def lines(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    return {
        str(line.get_label()): [(float(x), float(y)) for x, y in line.get_xydata()] for line in axes.lines
    }


def test_metrics_as_a_run_that_was_killed_leaves_them(tmp_path: Path) -> None:
    rows = [
        {"step": 1, "loss": 2.0, "lr": 1, "seconds": 1},
        {"step": 2, "loss": None},
        {"step": 3, "loss": 1.5, "held_out": 1.75},
        {"step": 4, "loss": 9.0, "held_out": 9.0},
        {"step": 3, "loss": 1.0, "held_out": 1.25},
        {"step": 4, "loss": 0.5},
        {"step": 5, "loss": float("nan")},
        {"loss": 3},
        [1],
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows) + '{"step": 6, "lo')
    assert read_metrics(path) == Curve(((1, 2.0), (3, 1.0), (4, 0.5)), ((3, 1.25),))
    assert read_metrics(tmp_path / "none.jsonl") == Curve((), ())


def test_a_running_mean_has_no_bias() -> None:
    assert smoothed([3.0] * 100) == pytest.approx([3.0] * 100)
    assert smoothed([]) == []
    # Of 40 steps or fewer, each counts twice as much as the one before it.
    assert smoothed([1.0, 4.0]) == pytest.approx([1, (1 * 0.5 + 4) / 1.5])
    halved = smoothed([1.0] * 400 + [0.0] * 400)
    assert halved[400 + 20 - 1] == pytest.approx(0.5, abs=1e-5)


def test_a_picture_of_stated_size_with_labelled_axes(tmp_path: Path, axes: list[Axes]) -> None:
    curve = Curve(tuple((step, 1 / step) for step in range(1, 51)), ((0, 1.1), (50, 0.05)))
    draw(curve, "sea: diorama", tmp_path / "loss.png")
    with Image.open(tmp_path / "loss.png") as picture:
        assert (picture.format, picture.size) == ("PNG", SIZE_PX) == ("PNG", (1200, 675))
        pixels = np.asarray(picture.convert("RGB"))
    assert (pixels[0] == 255).all() and (pixels < 100).any()
    (drawn,) = axes
    assert (drawn.get_xlabel(), drawn.get_ylabel()) == ("training step", "loss")
    assert drawn.get_title(loc="left") == "sea: diorama"
    assert drawn.get_ylim() == pytest.approx((0, 1.2 * 1.1))
    assert drawn.get_xlim() == pytest.approx((0, 50.5))
    shown = lines(drawn)
    assert shown["each step"] == list(curve.steps)
    assert shown["held out"] == list(curve.held_out)
    assert [step for step, _ in shown["running mean"]] == list(range(1, 51))


def test_the_picture_has_the_curves_colours(tmp_path: Path) -> None:
    draw(Curve(tuple((step, 0.5) for step in range(50)), ((0, 0.7), (49, 0.3))), "", tmp_path / "loss.png")
    with Image.open(tmp_path / "loss.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for colour in ((0x1F, 0x4E, 0x8C), (0xC8, 0x51, 0x1B)):
        assert (pixels == colour).all(1).sum() > 500


def test_a_loss_far_above_the_others_leaves_them_to_be_seen(tmp_path: Path, axes: list[Axes]) -> None:
    losses = [1.0] * 200
    losses[100] = 1e6
    draw(Curve(tuple(enumerate(losses)), ()), "", tmp_path / "loss.png")
    (drawn,) = axes
    assert drawn.get_ylim() == pytest.approx((0, 1.2))
    shown = lines(drawn)
    assert shown["each step (1 above the frame)"][100] == (100, 1e6)
    assert [loss for _, loss in shown["running mean of the others"]] == pytest.approx([1.0] * 199)


@pytest.mark.parametrize(
    "curve", [Curve((), ()), Curve(((1, 0.5),), ()), Curve((), ((0, 1.0),)), Curve(((1, 0.0),), ())]
)
def test_hardly_anything_is_drawn_too(curve: Curve, tmp_path: Path) -> None:
    draw(curve, r"$\frac{a", tmp_path / "loss.png")
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.size == SIZE_PX


def test_equal_curves_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        draw(Curve(((1, 2.0), (2, 1.0)), ()), "sea", tmp_path / f"{name}.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"pip install 'longvid\[training\]'"):
        draw(Curve((), ()), "", tmp_path / "loss.png")
    assert not list(tmp_path.iterdir())
