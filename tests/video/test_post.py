import numpy as np
import pytest
import torch

from longvid.video.post import enlarge, finish, lanczos_taps


def test_pixels_are_exact_at_scale_one_and_the_frames_stay_as_they_were():
    levels = torch.arange(256) / 127.5 - 1
    frames = levels.reshape(1, 1, 16, 16).repeat(3, 2, 1, 1)
    before = frames.clone()
    pixels = finish(frames)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (2, 16, 16, 3)
    assert (pixels == np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)).all()
    assert torch.equal(frames, before)


def test_values_outside_the_range_are_clipped():
    frames = torch.tensor([-7.0, -1.0, 1.0, 7.0]).reshape(1, 1, 2, 2).repeat(3, 1, 1, 1)
    assert finish(frames)[0, ..., 0].tolist() == [[0, 0], [255, 255]]


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5])
def test_taps_sum_to_one_and_mirror(scale):
    taps = lanczos_taps(scale)
    assert len(taps) == scale
    for row, mirrored in zip(taps, taps[::-1], strict=True):
        assert sum(row) == pytest.approx(1, abs=1e-12)
        assert row == pytest.approx(mirrored[::-1], abs=1e-12)


def test_an_odd_factor_keeps_the_pixels_it_had():
    assert lanczos_taps(3)[1] == pytest.approx([0, 0, 0, 1, 0, 0, 0], abs=1e-12)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_fast_path_is_the_formula(scale):
    """Against the definition, pixel by pixel: out(X) = sum of w(|i - x|) in(i), x the place X comes from."""
    rng = np.random.default_rng(scale)
    row = rng.standard_normal(11)
    out = enlarge(torch.from_numpy(row).reshape(1, 1, 1, 11), scale)[0, 0, 0].numpy()
    for place in range(11 * scale):
        x = (place + 0.5) / scale - 0.5
        taps = np.arange(place // scale - 3, place // scale + 4)
        distance = np.abs(taps - x)
        weight = np.where(distance < 3, np.sinc(distance) * np.sinc(distance / 3), 0)
        expected = (weight * row[taps.clip(0, 10)]).sum() / weight.sum()
        assert out[place] == pytest.approx(expected, abs=1e-12)


def test_both_axes_alike_and_constants_stay():
    picture = torch.randn(3, 2, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    big = enlarge(picture, 3)
    assert big.shape == (3, 2, 15, 21)
    assert torch.allclose(big.mT, enlarge(picture.mT.contiguous(), 3), atol=1e-12)
    assert torch.allclose(enlarge(torch.full((1, 1, 4, 4), 0.3), 4), torch.full((1, 1, 16, 16), 0.3))


def test_a_frame_does_not_depend_on_its_company():
    frames = torch.randn(3, 6, 10, 12, generator=torch.Generator().manual_seed(1))
    whole = finish(frames, 4)
    assert (np.concatenate([finish(frames[:, i : i + 1], 4) for i in range(6)]) == whole).all()
