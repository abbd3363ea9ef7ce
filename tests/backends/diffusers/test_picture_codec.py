"""AutoencoderKL as a codec: a picture a frame, equal to diffusers' own."""

from __future__ import annotations

import pytest
import torch
from diffusers.models import AutoencoderKL

from longvid.backends.diffusers.picture_codec import PictureCodec
from longvid.noise import noise


@pytest.fixture(scope="module")
def codec() -> PictureCodec:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(4, 8),
            norm_num_groups=2,
            scaling_factor=0.5,
        )
    return PictureCodec(vae.eval().requires_grad_(False))


def test_chunks_decode_to_what_the_whole_decodes_to(codec: PictureCodec) -> None:
    latents = noise(0, 0, 0, (1, 4, 6, 4, 6))
    whole, carry = codec.decode(latents, {})
    assert whole.shape == (1, 3, 6, 8, 12) and carry == {}
    parts = [codec.decode(chunk, {})[0] for chunk in latents.split(2, dim=2)]
    assert torch.equal(torch.cat(parts, dim=2), whole)
    assert codec.flush(carry) is None


def test_the_numbers_are_diffusers_own(codec: PictureCodec) -> None:
    """As StableDiffusion's pipelines have them: latents are the means times scaling_factor."""
    vae, video = codec.vae, noise(0, 0, 0, (1, 3, 3, 8, 12)).clamp(-1, 1)
    pictures = video[0].transpose(0, 1)
    means = vae.encode(pictures).latent_dist.mode()
    latents = codec.encode(video)
    torch.testing.assert_close(latents[0].transpose(0, 1), 0.5 * means)
    frames, _ = codec.decode(latents, {})
    torch.testing.assert_close(frames[0].transpose(0, 1), vae.decode(means).sample.clamp(-1, 1))
    assert torch.equal(codec.encode_picture(video[:, :, 1]), latents[:, :, 1:2])


def test_frames_are_fp32_and_in_range_in_half_precision(codec: PictureCodec) -> None:
    latents = 100 * noise(0, 0, 0, (1, 4, 1, 4, 6))
    codec.vae.to(torch.bfloat16)
    try:
        frames, _ = codec.decode(latents, {})
        again = codec.encode(frames)
    finally:
        codec.vae.float()
    assert frames.dtype == again.dtype == torch.float32
    assert frames.abs().max() == 1
