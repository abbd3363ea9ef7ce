from __future__ import annotations

import torch
from torch import nn

from longvid.training.average import copy_weights, update_average


def test_the_average_forgets_its_beginning_and_then_keeps_its_share() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 0.0)
    average = copy_weights(network)
    nn.init.constant_(network.weight, 1.0)
    assert average["weight"].item() == 0.0, "a copy"
    update_average(average, network, step=0, keep=0.9)  # keeps 1 / 10
    torch.testing.assert_close(average["weight"], torch.tensor([[0.9]]))
    update_average(average, network, step=1000, keep=0.9)
    torch.testing.assert_close(average["weight"], torch.tensor([[0.91]]))
