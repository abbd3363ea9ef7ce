"""diorama's codec beside its weights: the easing of the steps between latents."""

from __future__ import annotations

import torch

from longvid.backends.diorama.codec import ease


def film(*levels: float) -> torch.Tensor:
    """One latent of four equal frames for each level."""
    return torch.tensor(levels).repeat_interleave(4)[None, None, :, None, None].expand(1, 3, -1, 20, 20)


def test_a_step_between_latents_that_stand_still_is_spread_over_three_frames() -> None:
    eased, _ = ease(film(0.0, 1.0, -1.0), None)
    assert eased.shape == (1, 3, 12, 20, 20)
    expected = [0, 0, 0, 0, 0.2, 0.6, 1, 1, -1 + 2 * 0.8, -1 + 2 * 0.4, -1, -1]
    torch.testing.assert_close(eased[0, 0, :, 0, 0], torch.tensor(expected))


def test_it_is_eased_until_it_is_less_than_the_steps_inside_either() -> None:
    """Of .25 each inside the first, .05 inside the second: a step of .5 between them becomes .75 of .25."""
    levels = torch.tensor([0, 0.25, 0.5, 0.75, 1.25, 1.3, 1.35, 1.4])
    eased, _ = ease(levels[None, None, :, None, None].expand(1, 3, -1, 20, 20), None)
    step = 0.75 * 0.25
    share = 1 - step / 0.5
    expected = [0, 0.25, 0.5, 0.75, 0.75 + step, 1.3 - 0.5 * share * 0.55, 1.35, 1.4]
    torch.testing.assert_close(eased[0, 0, :, 0, 0], torch.tensor(expected), atol=2e-3, rtol=0)


def test_what_moves_slower_between_latents_goes_untouched() -> None:
    levels = torch.cat([torch.linspace(-1, 0, 4), torch.linspace(0.2, 1.2, 4)])
    moving = levels[None, None, :, None, None].expand(1, 3, -1, 20, 20)
    assert torch.equal(ease(moving, None)[0], moving)


def test_only_where_something_jumps_is_anything_eased() -> None:
    frames = film(0.0, 0.0).clone()
    frames[:, :, 4:, 2, 3] = 1
    eased, _ = ease(frames, None)
    assert (eased != frames).nonzero()[:, 2:].tolist() == [[4, 2, 3], [5, 2, 3]] * 3


def test_parts_are_eased_as_the_whole() -> None:
    whole = torch.randn(2, 3, 12, 4, 6, generator=torch.Generator().manual_seed(0))
    first, before = ease(whole[:, :, :4], None)
    rest, last = ease(whole[:, :, 4:], before)
    eased, end = ease(whole, None)
    assert torch.equal(torch.cat([first, rest], 2), eased)
    assert all(map(torch.equal, last, end))
