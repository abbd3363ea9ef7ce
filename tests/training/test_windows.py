"""Training draws the states that sampling meets."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from longvid.errors import UserError
from longvid.training.windows import SHARES, Window, draw_times, draw_window, jitter, latent_times
from tests.walking import progressive

K, S, LATENTS = 4, 16, 2


def test_progressive_times_are_the_levels_of_sampling() -> None:
    """Without the shift, the stage decides all: the levels of any step of a film, over S."""
    rng = np.random.default_rng(0)
    times, counts = draw_times(rng, Window("progressive", 0, K, True), 2000, K, LATENTS, 10**9)
    assert times.shape == counts.shape == (2000, (K + 1) * LATENTS)
    assert not counts[:, :LATENTS].any() and counts[:, LATENTS:].all()
    assert (times[:, :LATENTS] == 0).all()
    by_chunk = times[:, LATENTS::LATENTS]
    torch.testing.assert_close(by_chunk.diff(dim=1), torch.full((2000, K - 1), 1 / K), atol=2e-3, rtol=0)
    for step in progressive([12], S, K):
        if len(step.reads) == K + 1 and step.after[0] is None:
            sampled = torch.tensor(step.before[1:]) / S
            assert (by_chunk - sampled).abs().max(1).values.min() < 5e-3


def test_the_shift_moves_a_sample_as_a_whole() -> None:
    times, _ = draw_times(np.random.default_rng(0), Window("progressive", 1, 2, False), 5000, K, 1, 16)
    torch.testing.assert_close(times[:, 1] - times[:, 0], torch.full((5000,), 0.25), atol=1e-6, rtol=0)
    # Uniform stage of width 1/K and a shift of deviation 0.4/16: the variances add.
    assert times[:, 0].var().item() == pytest.approx(0.25**2 / 12 + (0.4 / 16) ** 2, rel=0.05)


@pytest.mark.parametrize("kind", ["uniform", "prefix"])
def test_one_level_for_all(kind: str) -> None:
    window = Window(kind, 0, 3, kind == "prefix")  # type: ignore[arg-type]
    times, counts = draw_times(np.random.default_rng(0), window, 50, K, LATENTS, S)
    noisy = times[:, LATENTS:] if window.context else times
    assert (noisy == noisy[:, :1]).all()
    assert counts.sum().item() == 50 * 3 * LATENTS


def test_independent_levels_are_a_latents_own() -> None:
    times, counts = draw_times(
        np.random.default_rng(0), Window("independent", 0, 2, False), 4000, K, LATENTS, S
    )
    assert counts.all()
    assert times.T.corrcoef().fill_diagonal_(0).abs().max() < 0.06


def test_shares_of_windows() -> None:
    rng, n = np.random.default_rng(0), 40000
    drawn = [draw_window(rng, K, SHARES) for _ in range(n)]
    kinds = Counter(w.kind for w in drawn)
    for kind, share in SHARES.items():
        assert kinds[kind] / n == pytest.approx(share, abs=0.01)
    runs = [w for w in drawn if w.kind == "progressive"]
    full = [w for w in runs if w.noisy == K]
    assert len(full) / len(runs) == pytest.approx(0.5 + 0.5 / 10, abs=0.015)
    assert np.mean([w.context for w in runs if w.first == 0]) == pytest.approx(0.75, abs=0.015)
    assert np.mean([w.context for w in runs if w.first > 0]) == pytest.approx(0.5, abs=0.025)
    assert {(w.first, w.noisy) for w in runs} == {(a, n) for a in range(K) for n in range(1, K - a + 1)}
    assert all(w.context == (w.kind == "prefix") for w in drawn if w.kind != "progressive")


def test_a_shifted_window_stays_between_clean_and_almost_noise() -> None:
    levels = torch.tensor([[0.25, 1.0]]).expand(3, -1)
    moved = jitter(levels, torch.tensor([[-9.0], [0.0], [9.0]]), steps=4)
    expected = [[0, 0.1], [0.25, 0.999], [0.999, 0.999]]
    torch.testing.assert_close(moved, torch.tensor(expected), rtol=0, atol=1e-6)


def test_the_schedule_is_of_levels_and_context_stays_clean() -> None:
    levels = torch.tensor([[0.5, 0.9]])
    assert latent_times(levels, 2, lambda level: level / 2).tolist() == [[0, 0, 0.25, pytest.approx(0.45)]]


def test_no_window_is_longer_than_the_longest_sequence() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_window(rng, K, SHARES, longest=2) for _ in range(400)]
    assert {window.chunks for window in drawn} == {1, 2}
    assert {window.kind for window in drawn} == set(SHARES)
    alone = [draw_window(rng, K, SHARES, longest=1) for _ in range(200)]
    assert {(window.noisy, window.context) for window in alone} == {(1, False)}


def test_a_share_of_nothing_is_never_drawn() -> None:
    rng = np.random.default_rng(0)
    kinds = {draw_window(rng, K, {"progressive": 0, "uniform": 2.0}).kind for _ in range(50)}
    assert kinds == {"uniform"}


def test_a_prefix_needs_two_chunks() -> None:
    with pytest.raises(UserError, match="has 1 chunk; a clean prefix needs one behind it"):
        draw_window(np.random.default_rng(0), K, {"prefix": 1.0}, longest=1)
