import time
from pathlib import Path

import pytest
import torch

from longvid.benchmarks import Setup
from longvid.benchmarks.films import Timed, measure_film, measure_finishing, peak_memory
from tests.installed import install_tiny

MID = Path(__file__).parents[1] / "backends" / "opensora" / "mid"


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(install_tiny(tmp_path)))


def test_a_film_of_open_sora_with_random_weights() -> None:
    run = measure_film(Setup(str(MID), True, (48, 32), "cpu", "float32"), 1)
    # Two chunks at K = 6, S = 30: 30 + 5 evaluations, two calls each.
    assert (run.frames, run.network_calls, run.size) == (24, 70, (48, 32))
    assert 0 < run.network_seconds < run.loop_seconds < run.seconds
    assert (run.dtype, run.compiled, run.device_peak_bytes) == ("float32", False, None)


@pytest.mark.usefixtures("tiny")
def test_a_chunk_is_finished() -> None:
    started = time.perf_counter()
    seconds_per_frame = measure_finishing(Setup("tiny", device="cpu"))
    assert 0 < 8 * seconds_per_frame < time.perf_counter() - started


def test_timed_calls_add_up_and_pass_through() -> None:
    timed = Timed(torch.device("cpu"))
    assert timed(pow, 2, 5) == 32
    assert timed(time.sleep, 0.01) is None
    assert timed.calls == 2
    assert timed.seconds >= 0.01


@pytest.mark.gpu
def test_a_cards_calls_are_timed_without_waiting_for_them() -> None:
    timed = Timed(torch.device("cuda", 0))
    x = torch.randn(4096, 4096, device="cuda")
    for _ in range(3):
        timed(torch.mm, x, x)
    assert timed.calls == 3
    assert 0 < timed.seconds < 5


def test_peak_memory_rises_with_what_is_held() -> None:
    before = peak_memory()
    block = torch.ones(before // 4 + 5_000_000)  # beyond the highest so far
    assert peak_memory() >= before + 4 * 5_000_000 - 10_000_000
    assert len(block) > 0
