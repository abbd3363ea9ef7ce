"""The seam to attention kernels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from longvid.backends.opensora.attention import attend, attention_kernel, sdpa, works

CPU = torch.device("cpu")


def tokens(*counts: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(3, count, 2, 12, generator=generator) for count in counts]


def exact(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = torch.einsum("bnhe,bmhe->bhnm", q.double(), k.double()) / 12**0.5
    return torch.einsum("bhnm,bmhe->bnhe", scores.softmax(-1), v.double()).float()


def test_attend_is_softmax_attention() -> None:
    q, k, v = tokens(35, 7, 7)
    torch.testing.assert_close(attend(q, k, v), exact(q, k, v), rtol=0, atol=1e-6)


def test_keys_may_be_shared_by_expanding() -> None:
    q, k, v = tokens(5, 7, 7)
    k, v = k[:1].expand(3, -1, -1, -1), v[:1].expand(3, -1, -1, -1)
    torch.testing.assert_close(attend(q, k, v), exact(q, k, v), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_cpu_has_pytorch_s_own(dtype: torch.dtype) -> None:
    assert attention_kernel(CPU, dtype) == "sdpa"


def test_a_kernel_must_run_and_be_right() -> None:
    def missing(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        raise NotImplementedError("no operator for these inputs")

    def unscaled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return sdpa(q * q.shape[-1] ** 0.5, k, v)

    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        assert works(sdpa, CPU, dtype, 72)
        assert not works(missing, CPU, dtype, 72)
        assert not works(unscaled, CPU, dtype, 72)
        assert not works(lambda q, k, v: q * torch.nan, CPU, dtype, 72)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_card(dtype: torch.dtype) -> None:
    device = torch.device("cuda")
    assert attention_kernel(device, dtype) in ("sdpa", "xformers")
    assert works(attend, device, dtype, 72)
