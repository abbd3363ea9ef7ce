"""Chunks that are there before a film: in front of new noise, and noised (paper Alg. 1, lines 1 to 3)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from longvid.denoise import WindowState
from longvid.errors import UserError
from longvid.guidance import per_frame
from longvid.noise import noise
from longvid.walks import Method, Walk
from tests.looping import SHAPE, entering, finished_of, run
from tests.walking import enter_steps, progressive


def clip(chunks: int) -> Tensor:
    """Clean latents [1 c n h w]."""
    return torch.cat([noise(1, unit, 0, SHAPE)[None] for unit in range(chunks)], dim=2)


def test_noised_chunks_stand_where_a_window_would_have_them() -> None:
    """S = 8, K = 4, m = 2: clip chunk i of n = 3 at level S - (n - i) m, the first new one at S."""
    assert enter_steps("progressive", [7], 8, 4, given=1, noised=3) == (-8, -6, -4, -2, 0, 2, 4)
    first, second, third, *rest = progressive([7], 8, 4, given=1, noised=3)
    assert (first.step, first.reads, first.before) == (0, (0, 1, 2, 3, 4), (0, 2, 4, 6, 8))
    assert (first.after, first.emits) == ((None, 1, 3, 5, 7), ())
    assert (second.before, second.emits) == ((0, 1, 3, 5, 7), (1,))
    assert (third.reads, third.before) == ((1, 2, 3, 4, 5), (0, 2, 4, 6, 8)), "as any full window"
    assert rest[-1].emits == (6,)
    assert len(rest) + 3 == 4 + 8, "enter(N - 1) + S"


def test_fewer_noised_chunks_leave_the_rest_of_the_window_to_noise() -> None:
    assert enter_steps("progressive", [5, 2], 8, 4, given=2, noised=1) == (-8, -8, -2, 0, 2, 10, 12)
    first = next(progressive([5, 2], 8, 4, given=2, noised=1))
    assert (first.reads, first.before) == ((1, 2, 3), (0, 6, 8))


def test_what_cannot_be_noised_is_refused() -> None:
    with pytest.raises(UserError, match="method replace takes no noised chunks over; only progressive does"):
        Walk(Method("replace"), (7,), 8, 4, 2, given=1, noised=3).check()
    with pytest.raises(UserError, match="behind one clean one: overlap=1, or 0"):
        Walk(Method(overlap=2), (7,), 8, 4, 2, given=2, noised=1).check()
    for given, noised in ((0, 1), (1, 4)):
        with pytest.raises(ValueError, match="cannot be noised"):
            enter_steps("progressive", [7], 8, 4, given=given, noised=noised)
    assert enter_steps("progressive", [4, 3], 8, 4, given=1, noised=3) == (-8, -6, -4, -2, 6, 8, 10)
    for given, noised in ((3, 2), (4, 1)):
        with pytest.raises(ValueError, match=r"cannot be noised behind .: a run ends there"):
            enter_steps("progressive", [4, 3], 8, 4, given=given, noised=noised)


def test_a_noised_chunk_has_its_own_content_and_so_much_noise() -> None:
    """Under a constant slope v, what is at level L of S moves by -L/S v; what is new is as from text."""
    shown: list[Tensor] = []

    def predict(x: Tensor, t: Tensor, units: tuple[int, ...]) -> Tensor:
        shown.append(x)
        return per_frame(torch.tensor([float(unit) for unit in units]), x).expand_as(x)

    held = clip(4)
    state = WindowState(0, (0, 1, 2, 3), (0, 0, 0, 0), held, None)
    steps = progressive([6], 8, 4, given=1, noised=3)
    latents = finished_of(run(steps, predict, levels=8, state=state))
    clean = held.chunk(4, dim=2)
    assert torch.equal(shown[0][:, :, :2], clean[0]), "the given chunk is shown as it is"
    for unit, level in ((1, 2), (2, 4), (3, 6)):
        share = level / 8
        mixed = (1 - share) * clean[unit] + share * noise(0, unit, 0, SHAPE)[None]
        torch.testing.assert_close(shown[0][:, :, 2 * unit : 2 * unit + 2], mixed, rtol=0, atol=1e-6)
        torch.testing.assert_close(latents[unit - 1], mixed - share * unit, rtol=0, atol=2e-6)
    for unit in (4, 5):
        torch.testing.assert_close(latents[unit - 1], entering(unit) - unit, rtol=0, atol=2e-6)
