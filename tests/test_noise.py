from __future__ import annotations

import pytest
import torch

from longvid.noise import noise


def test_the_first_values_never_change() -> None:
    """A change here changes every film that was ever rendered from a seed."""
    first = [1.0027575, -1.4710876, 1.1974818, -1.5452166, -0.5513998, -0.5265843]
    assert noise(7, 12, 34, (2, 2, 4, 4)).flatten()[:6].tolist() == pytest.approx(first, abs=1e-6)


def test_each_of_seed_unit_and_step_counts() -> None:
    draws = [
        noise(*who, (2, 3)) for who in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 11, 1), (0, 1, 11)]
    ]
    for i, one in enumerate(draws):
        assert one.shape == (2, 3) and one.dtype == torch.float32 and one.device.type == "cpu"
        assert all(not torch.equal(one, other) for other in draws[:i])


def test_it_neither_reads_nor_moves_the_global_generator() -> None:
    torch.manual_seed(0)
    first = noise(1, 2, 3, (4,))
    drawn = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(3))
    assert torch.equal(first, noise(1, 2, 3, (4,)))


def test_it_is_standard_normal() -> None:
    values = torch.cat([noise(0, unit, 0, (1000,)) for unit in range(100)])
    assert float(values.mean()) == pytest.approx(0, abs=0.01)
    assert float(values.std()) == pytest.approx(1, abs=0.01)
    assert float(values.pow(4).mean()) == pytest.approx(3, abs=0.1)
