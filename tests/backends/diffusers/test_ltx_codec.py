"""Of LTX-Video's autoencoder at its published depth, but narrow, with random weights."""

from __future__ import annotations

from math import log10

import pytest
import torch
from diffusers.models import AutoencoderKLLTXVideo
from torch import Tensor

from longvid.backends import Carry
from longvid.backends.diffusers.ltx_codec import LTXCodec, fade
from longvid.noise import noise

WIDTHS = (8, 16, 32, 32)
CHANNELS = 8


def codec(**changed: object) -> LTXCodec:
    sizes = {"block_out_channels": WIDTHS, "decoder_block_out_channels": WIDTHS, "latent_channels": CHANNELS}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = AutoencoderKLLTXVideo(**sizes | changed).eval().requires_grad_(False)
        for name, weight in vae.decoder.named_parameters():
            if name.endswith("conv.weight"):
                # At the library's own size, latents are seen no further than the biases are.
                weight.mul_(2)
        for weight in vae.decoder.conv_out.parameters():
            weight.mul_(0.3)  # Its frames lie in [-1, 1], as a film's do.
        vae.latents_mean.normal_()
        vae.latents_std.uniform_(0.5, 2)
    return LTXCodec.of(vae)


@pytest.fixture(scope="module")
def plain() -> LTXCodec:
    return codec()


def whole(codec: LTXCodec, latents: Tensor) -> Tensor:
    """As the pipeline decodes a clip."""
    vae = codec.vae
    mean, deviation = (n.view(1, -1, 1, 1, 1) for n in (vae.latents_mean, vae.latents_std))
    return vae.decode(latents * deviation / vae.config.scaling_factor + mean).sample


def streamed(codec: LTXCodec, latents: Tensor, chunks: int) -> list[Tensor]:
    carry: Carry = {}
    shown = []
    for chunk in latents.chunk(chunks, dim=2):
        frames, carry = codec.decode(chunk, carry)
        shown.append(frames)
    held = codec.flush(carry)
    return shown if held is None else [*shown, held]


def psnr(found: Tensor, expected: Tensor) -> float:
    """Of pictures in [-1, 1], in dB."""
    return 10 * log10(4 / float((found - expected).square().mean()))


@torch.inference_mode()
def test_a_film_of_one_chunk_is_the_librarys_decode(plain: LTXCodec) -> None:
    latents = noise(0, 0, 0, (1, CHANNELS, 3, 2, 3))
    frames = torch.cat(streamed(plain, latents, chunks=1), dim=2)
    assert frames.shape == (1, 3, 17, 64, 96)
    # The frames that are held back are rounded.
    torch.testing.assert_close(frames, whole(plain, latents).clamp(-1, 1), atol=5e-4, rtol=0)


@torch.inference_mode()
def test_chunks_overlap_and_come_near_to_a_decode_of_the_whole(plain: LTXCodec) -> None:
    latents = noise(0, 0, 0, (1, CHANNELS, 15, 2, 2))
    expected = whole(plain, latents)
    assert 0.1 < expected.std() < 0.4 and expected.abs().max() < 1
    shown = streamed(plain, latents, chunks=3)
    assert [frames.shape[2] for frames in shown] == [1, 40, 40, 32]
    assert psnr(torch.cat(shown, dim=2), expected) > 34

    alone = [plain.decode_alone(chunk) for chunk in latents.chunk(3, dim=2)]
    # What lies between two chunks is in neither.
    known = torch.cat([alone[0], expected[:, :, 33:41], alone[1][:, :, 1:], alone[2][:, :, 1:]], dim=2)
    assert psnr(known, expected[:, :, : known.shape[2]]) < 26


@torch.inference_mode()
def test_a_run_goes_on_from_a_carry(plain: LTXCodec) -> None:
    """The first frames of a chunk's second decode are those before it but for a share; its last ones are its
    own, and what is held back is decoded behind the chunk before."""
    first, second = noise(0, 0, 0, (1, CHANNELS, 4, 2, 2)).chunk(2, dim=2)
    alone = plain.decode_alone(first)
    shown, carry = plain.decode(first, {})
    assert torch.equal(shown, alone[:, :, :1])
    assert torch.equal(carry["latents"], first)
    assert torch.equal(carry["frames"], alone[:, :, 1:].half())

    both = plain.decode_alone(torch.cat([first, second], dim=2))
    shown, carry = plain.decode(second, carry)
    shares = torch.arange(1, 9) / 9
    mixed = torch.lerp(alone[:, :, 1:], both[:, :, 1:9], shares.view(1, 1, -1, 1, 1))
    torch.testing.assert_close(shown[:, :, :8], mixed, atol=5e-4, rtol=0)
    assert torch.equal(shown[:, :, 8:], both[:, :, 9:17])
    assert torch.equal(carry["frames"], both[:, :, 17:].half())


def test_fade() -> None:
    before, after = torch.zeros(1, 1, 3, 1, 1), torch.ones(1, 1, 5, 1, 1)
    assert fade(before, after).flatten().tolist() == [0.25, 0.5, 0.75, 1, 1]
    assert fade(before[:, :, :0], after).equal(after)


@torch.inference_mode()
def test_chunks_of_one_latent_hold_nothing_back(plain: LTXCodec) -> None:
    shown = streamed(plain, noise(0, 0, 0, (1, CHANNELS, 2, 2, 2)), chunks=2)
    assert [frames.shape[2] for frames in shown] == [1, 8]


@torch.inference_mode()
def test_latents_are_encoded_as_the_network_has_them(plain: LTXCodec) -> None:
    vae = plain.vae
    film = noise(0, 0, 0, (1, 3, 9, 64, 96))
    latents = plain.encode(film)
    assert latents.shape == (1, CHANNELS, 2, 2, 3)
    own = vae.encode(film).latent_dist.mode()
    mean, deviation = (n.view(1, -1, 1, 1, 1) for n in (vae.latents_mean, vae.latents_std))
    torch.testing.assert_close(latents, (own - mean) * vae.config.scaling_factor / deviation)
    # The encoder is causal: a film's first latent is a picture's.
    torch.testing.assert_close(plain.encode_picture(film[:, :, 0]), latents[:, :, :1])


@torch.inference_mode()
def test_a_decoder_with_a_time_and_noise_gives_the_same_frames_again() -> None:
    """As version 0.9.1 has it."""
    newer = codec(
        decoder_block_out_channels=(16, 32, 64),
        decoder_layers_per_block=(1, 1, 1, 1),
        decoder_spatio_temporal_scaling=(True, True, True),
        decoder_inject_noise=(True, True, True, False),
        upsample_residual=(True, True, True),
        upsample_factor=(2, 2, 2),
        timestep_conditioning=True,
    )
    noisy = [weight for name, weight in newer.vae.named_parameters() if "per_channel_scale" in name]
    for weight in noisy:
        weight.fill_(1)
    latents = noise(0, 0, 0, (1, CHANNELS, 2, 2, 2))
    before = torch.get_rng_state()
    once, again = (newer.decode_alone(latents) for _ in range(2))
    assert once.shape == (1, 3, 9, 64, 64)
    assert torch.equal(once, again)
    assert torch.equal(torch.get_rng_state(), before)
    for weight in noisy:
        weight.zero_()
    assert not torch.equal(newer.decode_alone(latents), once)
