"""diorama's codec beside its weights: the easing of the steps between latents."""

from __future__ import annotations

import torch

from longvid.backends.diorama.codec import EASE, ease


def film(*levels: float) -> torch.Tensor:
    """One latent of four equal frames for each level."""
    return torch.tensor(levels).repeat_interleave(4)[None, None, :, None, None].expand(1, 3, -1, 2, 2)


def test_a_latents_first_frames_are_crossfaded_from_the_frame_before() -> None:
    assert EASE == (0.6, 0.3)
    eased = ease(film(0.0, 1.0, -1.0), None)
    assert eased.shape == (1, 3, 12, 2, 2)
    expected = [0, 0, 0, 0, 0.4, 0.7, 1, 1, 0.2, -0.4, -1, -1]
    torch.testing.assert_close(eased[0, 0, :, 0, 0], torch.tensor(expected))


def test_parts_are_eased_as_the_whole() -> None:
    whole = torch.randn(2, 3, 12, 4, 6, generator=torch.Generator().manual_seed(0))
    parts = ease(whole[:, :, :4], None), ease(whole[:, :, 4:], whole[:, :, 3:4])
    assert torch.equal(torch.cat(parts, 2), ease(whole, None))
