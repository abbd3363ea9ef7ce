import numpy as np
import pytest

from longvid.evaluation.appearance import UNITS, appearance, difference, luma


def of(pixels: np.ndarray) -> dict[str, float]:
    return dict(zip(UNITS, appearance(pixels, luma(pixels)), strict=True))


def test_a_plain_colour() -> None:
    found = of(np.full((8, 12, 3), (200, 100, 50), np.uint8))
    assert found["luma"] == pytest.approx(0.2126 * 200 + 0.7152 * 100 + 0.0722 * 50, abs=1e-3)
    assert found["saturation"] == pytest.approx(75)
    assert (found["red"], found["green"], found["blue"]) == (200, 100, 50)
    assert found["contrast"] == pytest.approx(0, abs=1e-3)
    assert found["sharpness"] == pytest.approx(0, abs=1e-6)


def test_black_has_no_saturation() -> None:
    assert of(np.zeros((8, 12, 3), np.uint8))["saturation"] == 0


def test_halves_of_black_and_white_have_the_contrast_of_half_the_range() -> None:
    pixels = np.zeros((8, 12, 3), np.uint8)
    pixels[:, 6:] = 255
    assert of(pixels)["contrast"] == pytest.approx(127.5, abs=1e-3)


def test_a_chessboard_is_as_sharp_as_can_be() -> None:
    # Each of four neighbours differs by 100: the Laplacian is 400 or -400, its variance 400 squared.
    board = 50 + 100 * (np.indices((10, 12)).sum(axis=0) % 2).astype(np.uint8)
    assert of(np.repeat(board[..., None], 3, axis=2))["sharpness"] == pytest.approx(160_000, rel=1e-4)


def test_difference_is_of_any_sign() -> None:
    before = np.full((4, 4, 3), 100, np.uint8)
    after = before.copy()
    after[:2], after[2:] = 110, 70
    assert difference(before, after) == difference(after, before) == 20
