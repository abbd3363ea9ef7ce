"""Muon (Jordan et al. 2024): momentum whose matrix is brought near an orthogonal one by Newton-Schulz steps.

torch.optim.Muon takes matrices only; this one takes a convolution's kernel as the matrix (out, in · kh · kw).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """The update has about AdamW's RMS, so that a learning rate means the same to both."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update; the closure that torch's optimizers may be given is not called."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                average = self.state[p].setdefault("average", torch.zeros_like(p.grad))
                average.lerp_(p.grad, 1 - group["momentum"])
                matrix = p.grad.lerp(average, group["momentum"]).reshape(len(p), -1)
                rows, columns = matrix.shape
                p.mul_(1 - group["lr"] * group["weight_decay"])
                rate = group["lr"] * 0.2 * max(rows, columns) ** 0.5
                p.add_(orthogonal(matrix).reshape(p.shape), alpha=-rate)


def orthogonal(matrix: Tensor, steps: int = 4) -> Tensor:
    """Nearly U Vᵀ of the matrix's singular decomposition [rows columns], by a quintic iteration in bf16."""
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = (matrix.T if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).float()
