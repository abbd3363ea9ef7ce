import pytest
import torch

from longvid import devices
from longvid.errors import UserError


def cards(monkeypatch, count: int, capability: tuple[int, int] = (9, 0)) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)


@pytest.mark.parametrize(
    ("name", "count", "device"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda:0"),
        ("cpu", 2, "cpu"),
        ("cuda", 1, "cuda:0"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_a_device_is_chosen(monkeypatch, name, count, device):
    cards(monkeypatch, count)
    assert devices.choose_device(name) == torch.device(device)


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("cuda", 0, "--device cuda: no such CUDA card here, there is none; use cpu"),
        ("cuda:2", 2, "--device cuda:2: no such CUDA card here, the last one is cuda:1"),
        ("gpu", 1, "--device gpu: unknown; use auto, cpu, cuda or cuda:N"),
        ("cuda:x", 1, "unknown"),
        ("cuda:-1", 1, "unknown"),
    ],
)
def test_a_device_that_is_not_there_is_named(monkeypatch, name, count, message):
    cards(monkeypatch, count)
    with pytest.raises(UserError, match=message):
        devices.choose_device(name)


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ({"avx2", "avx512f"}, torch.float32),
        ({"avx512f", "avx512_bf16"}, torch.bfloat16),
        ({"amx_bf16"}, torch.bfloat16),
        ({"asimd", "bf16"}, torch.bfloat16),
        (set(), torch.float32),
    ],
)
def test_a_cpu_computes_in_what_it_is_fast_in(monkeypatch, flags, dtype):
    monkeypatch.setattr(devices, "cpu_flags", lambda: frozenset(flags))
    assert devices.choose_dtype("auto", torch.device("cpu")) == dtype


def test_a_card_computes_in_bfloat16_where_it_can(monkeypatch):
    cards(monkeypatch, 1, (9, 0))
    assert devices.choose_dtype("auto", torch.device("cuda", 0)) == torch.bfloat16
    cards(monkeypatch, 1, (7, 5))
    assert devices.choose_dtype("auto", torch.device("cuda", 0)) == torch.float16


def test_a_dtype_that_is_named_is_taken():
    for name, dtype in devices.DTYPES.items():
        assert devices.choose_dtype(name, torch.device("cpu")) == dtype
    with pytest.raises(UserError, match="--dtype int8: unknown; use auto, float32, bfloat16, float16"):
        devices.choose_dtype("int8", torch.device("cpu"))


def test_the_allocator_is_told_once_and_again_without_harm():
    first = devices.keep_memory()
    assert devices.keep_memory() == first
    assert torch.ones(1000, 1000).sum() == 1_000_000
