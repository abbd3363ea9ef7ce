"""The loss of a window, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from longvid.backends import Process
from longvid.processes import DDIM, RectifiedFlow
from longvid.training.loss import window_loss

CLEAN = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 2, 1, 2)
NOISE = torch.tensor([[9.0, 8.0], [7.0, 0.0]]).view(1, 1, 2, 1, 2)
T = torch.tensor([[0.0, 0.25]])
NOISY = torch.tensor([[False, True]])


def test_context_is_shown_clean_and_does_not_count() -> None:
    def predict(x: Tensor, t: Tensor) -> Tensor:
        assert x.flatten().tolist() == [1.0, 2.0, 0.75 * 3 + 0.25 * 7, 0.75 * 4]
        assert t is T
        # Wrong by 100 in the context, by 1 and by 3 in the noisy latent.
        return NOISE - CLEAN + torch.tensor([[100.0, 100.0], [1.0, 3.0]]).view(1, 1, 2, 1, 2)

    assert window_loss(predict, RectifiedFlow(), CLEAN, NOISE, T, NOISY[..., None, None]).tolist() == [5.0]


@pytest.mark.parametrize(
    "process",
    [
        RectifiedFlow(),
        RectifiedFlow("clean - noise"),
        DDIM(torch.linspace(0.99, 0.01, 100), "noise"),
        DDIM(torch.linspace(0.99, 0.01, 100), "velocity"),
    ],
)
def test_the_target_is_what_leads_back(process: Process) -> None:
    """Each process's slope at its own target is noise - clean."""
    t = T[:, None, :, None, None] + 0.1
    x = process.add_noise(CLEAN, NOISE, t)
    slope = process.slope(x, process.target(CLEAN, NOISE, t), t)
    torch.testing.assert_close(slope, NOISE - CLEAN, rtol=0, atol=1e-5)

    def right(x: Tensor, t: Tensor) -> Tensor:
        return process.target(CLEAN, NOISE, t[:, None, :, None, None])

    assert window_loss(right, process, CLEAN, NOISE, T, NOISY[..., None, None]).tolist() == [0.0]


def test_cells_count_by_their_weights() -> None:
    def predict(x: Tensor, t: Tensor) -> Tensor:
        return NOISE - CLEAN + torch.tensor([[2.0, 4.0], [1.0, 3.0]]).view(1, 1, 2, 1, 2)

    weights = torch.tensor([[0.0, 1.0], [4.0, 1.0]]).view(1, 2, 1, 2)
    loss = window_loss(predict, RectifiedFlow(), CLEAN, NOISE, T, weights)
    assert loss.tolist() == [pytest.approx((16 + 4 * 1 + 9) / 6)]


def test_a_sample_of_context_alone_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="latent that counts"):
        window_loss(lambda x, t: x, RectifiedFlow(), CLEAN, NOISE, T, torch.zeros(1, 2, 1, 1))
