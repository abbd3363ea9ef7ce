"""Clips and pixels against the recorded ones."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

from longvid.backends.opensora.clips import prepare
from longvid.video import post
from tests.backends.opensora.cases import Case

KIND = "clip_transform"


def test_recording(case: Case) -> None:
    """A clip's name is "20x36_to_24x42": height and width before and after."""
    recorded = case.tensors()
    for name, tensor in recorded.items():
        match name.split("/"):
            case ["out", key]:
                height, width = map(int, key.split("_to_")[1].split("x"))
                ours = prepare(recorded[f"in/{key}"], height, width)
                assert ours.shape == tensor.shape
                torch.testing.assert_close(ours, tensor, rtol=0, atol=1e-5)
            case ["pix_uint8"]:
                assert torch.equal(torch.from_numpy(post.finish(recorded["pix_in"])), tensor)
            case ["in", _] | ["pix_in"]:
                continue
            case _:
                pytest.fail(f"{case.path}: no test knows what {name} is")


def test_a_clip_of_many_frames_is_prepared_as_each_frame_alone() -> None:
    frames = torch.randint(256, (19, 3, 20, 36), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    prepared = prepare(frames, 24, 42)
    assert prepared.shape == (3, 19, 24, 42)
    for index in (0, 15, 16, 18):
        assert torch.equal(prepared[:, index], prepare(frames[index : index + 1], 24, 42)[:, 0])


def test_the_middle_is_cut_out_of_a_clip_that_is_wider_or_taller() -> None:
    columns = torch.arange(0, 7, dtype=torch.uint8).expand(1, 3, 4, 7)
    assert (prepare(columns, 4, 4)[0, 0, 0] * 127.5 + 127.5).round().tolist() == [1, 2, 3, 4]
    rows = columns.transpose(2, 3)
    assert (prepare(rows, 4, 4)[0, 0, :, 0] * 127.5 + 127.5).round().tolist() == [1, 2, 3, 4]


def test_the_covering_side_is_rounded_and_halves_go_to_the_even_side() -> None:
    """12.5 is 12, so nothing is cut and the whole side is stretched over it."""
    clip = torch.randint(256, (1, 3, 2, 5), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    stretched = interpolate(clip / 255, (5, 12), mode="bilinear").sub(0.5).div(0.5).transpose(0, 1)
    torch.testing.assert_close(prepare(clip, 5, 12), stretched, rtol=0, atol=1e-6)
    on_its_side = prepare(clip.transpose(2, 3), 12, 5).transpose(2, 3)
    torch.testing.assert_close(on_its_side, stretched, rtol=0, atol=1e-6)
