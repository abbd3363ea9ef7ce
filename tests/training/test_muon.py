from __future__ import annotations

import pytest
import torch
from torch import nn

from longvid.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (16, 16)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    """By four steps those from a 200th of the norm on come between 0.66 and 1.21, bf16's rounding apart."""
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(drawn, full_matrices=False)
    given = torch.logspace(0, -2, min(shape))
    assert given.min() / given.norm() > 0.005
    found = left.T @ orthogonal(left * given @ right) @ right.T
    expected = given / given.norm()
    for _ in range(4):
        expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
    assert expected.min() > 0.66 and expected.max() < 1.21
    torch.testing.assert_close(found, expected.diag(), rtol=0, atol=0.05)


def test_the_first_step_moves_along_the_orthogonal_factor() -> None:
    kernel = nn.Parameter(torch.randn(64, 70, 3, 3, generator=torch.Generator().manual_seed(0)))
    before = kernel.detach().clone()
    optimizer = Muon([kernel], lr=0.1, momentum=0.95, weight_decay=0.5)
    kernel.grad = torch.randn(64, 70, 3, 3, generator=torch.Generator().manual_seed(1))
    optimizer.step()
    average = 0.05 * kernel.grad
    direction = orthogonal((0.05 * kernel.grad + 0.95 * average).reshape(64, 630))
    expected = before * (1 - 0.1 * 0.5) - 0.1 * 0.2 * 630**0.5 * direction.reshape(64, 70, 3, 3)
    torch.testing.assert_close(kernel.detach(), expected)


def test_a_quadratic_is_minimised() -> None:
    torch.manual_seed(0)
    target = torch.randn(64, 64)
    matrix = nn.Parameter(torch.zeros(64, 64))
    optimizer = Muon([matrix], lr=0.05)
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / 200)
        matrix.grad = matrix.detach() - target
        optimizer.step()
    assert (matrix - target).square().mean() < 1e-2


def test_what_is_no_hidden_matrix_is_adamw_s_at_its_share_of_the_rate() -> None:
    shapes = [(64, 64), (63, 64, 1, 1), (64, 63), (64,), (2, 3)]
    given = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, generator=given)) for shape in shapes]
    theirs = [nn.Parameter(p.detach().clone()) for p in parameters[1:]]
    muon = Muon(parameters, lr=0.1, weight_decay=0.3)
    adamw = torch.optim.AdamW(theirs, lr=0.06, betas=(0.9, 0.98), weight_decay=0)
    for _ in range(5):
        for p in parameters:
            p.grad = torch.randn(p.shape, generator=given)
        for p, q in zip(parameters[1:], theirs, strict=True):
            assert p.grad is not None
            q.grad = p.grad.clone()
        muon.step()
        adamw.step()
    for p, q in zip(parameters[1:], theirs, strict=True):
        torch.testing.assert_close(p, q)
    assert "average" in muon.state[parameters[0]]
