from __future__ import annotations

import torch

from longvid.training.average import update_average


def test_the_average_forgets_its_beginning_and_then_keeps_its_share() -> None:
    average, weights = {"weight": torch.zeros(1)}, {"weight": torch.ones(1), "frozen": torch.ones(1)}
    update_average(average, weights, step=0, keep=0.9)  # keeps 1 / 10
    torch.testing.assert_close(average, {"weight": torch.tensor([0.9])})
    update_average(average, weights, step=1000, keep=0.9)
    torch.testing.assert_close(average, {"weight": torch.tensor([0.91])})
