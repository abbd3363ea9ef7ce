"""Muon (Jordan et al. 2024): momentum whose matrix is brought near an orthogonal one by Newton-Schulz steps.

torch.optim.Muon takes matrices only; this one takes a convolution's kernel as the matrix (out, in · kh · kw).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
HIDDEN = 64
"""A weight with at least so many inputs and outputs is a hidden layer's matrix, and Muon's."""


class Muon(torch.optim.Optimizer):
    """Muon on hidden matrices, AdamW on all the rest: first and last layers, biases, tables.

    Muon's update has about AdamW's RMS, so that a learning rate means the same to both; AdamW's is ``share``
    of it.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.98),
        share: float = 0.6,
    ):
        params = list(params)
        hidden = [p for p in params if p.ndim >= 2 and min(p.shape[:2]) >= HIDDEN]
        known = set(map(id, hidden))
        rest = [p for p in params if id(p) not in known]
        groups: list[dict[str, Any]] = [
            {"params": hidden, "lr": lr, "momentum": momentum, "weight_decay": weight_decay},
            {"params": rest, "lr": share * lr, "share": share, "betas": betas, "weight_decay": 0.0},
        ]
        super().__init__([group for group in groups if group["params"]], {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update; the closure that torch's optimizers may be given is not called."""
        for group in self.param_groups:
            with_gradient = [p for p in group["params"] if p.grad is not None]
            if "momentum" in group:
                for p in with_gradient:
                    self._orthogonal_step(p, group)
            elif with_gradient:
                self._adamw_step(with_gradient, group)

    def _orthogonal_step(self, p: nn.Parameter, group: dict[str, Any]) -> None:
        assert p.grad is not None
        state = self.state[p]
        if "average" not in state:
            state["average"] = torch.zeros_like(p.grad)
        average = state["average"]
        average.lerp_(p.grad, 1 - group["momentum"])
        matrix = p.grad.lerp(average, group["momentum"]).reshape(len(p), -1)
        rows, columns = matrix.shape
        p.mul_(1 - group["lr"] * group["weight_decay"])
        rate = group["lr"] * 0.2 * max(rows, columns) ** 0.5
        p.add_(orthogonal(matrix).reshape(p.shape), alpha=-rate)

    def _adamw_step(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        for p in parameters:
            if not self.state[p]:
                self.state[p] = {
                    "step": torch.zeros(()),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }
        states = [self.state[p] for p in parameters]
        adamw(
            cast(list[Tensor], parameters),
            [cast(Tensor, p.grad) for p in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            foreach=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )


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
