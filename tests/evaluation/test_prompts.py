import numpy as np
import pytest

from longvid.evaluation.prompts import PromptScore, prompt_score

BOAT, SEA = np.array([1.0, 0], np.float32), np.array([0.0, 1], np.float32)


def test_a_score_and_its_margin() -> None:
    pictures = np.array([[0.6, 0.8], [1.0, 0.0]], np.float32)
    assert prompt_score(pictures, BOAT, None) == PromptScore(pytest.approx(80), None)
    assert prompt_score(pictures, BOAT, SEA) == PromptScore(pytest.approx(80), pytest.approx(40))
    assert prompt_score(pictures[:0], BOAT, SEA) is None
