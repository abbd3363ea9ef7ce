"""Wan's autoencoders as a fold, against diffusers' own whole film."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file, save_file

from longvid.backends import Carry
from longvid.backends.diffusers.wan_codec import WanCodec
from longvid.noise import noise
from tests.backends.diffusers.tiny import WAN_VAE

WAN_2_2: dict[str, Any] = WAN_VAE | {
    "decoder_base_dim": 6,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
}


@pytest.fixture(params=[WAN_VAE, WAN_2_2], ids=["2.1", "2.2"])
def codec(request: pytest.FixtureRequest) -> WanCodec:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = AutoencoderKLWan(**request.param)
    return WanCodec.of(vae.eval().requires_grad_(False))


@torch.inference_mode()
def test_chunks_are_the_whole_film_to_the_bit(codec: WanCodec) -> None:
    """Chunks of any length."""
    latents = noise(0, 0, 0, (1, 4, 7, 4, 6))
    carry: Carry = {}
    shown = []
    for chunk in latents.split([1, 2, 3, 1], dim=2):
        frames, carry = codec.decode(chunk, carry)
        shown.append(frames)
    assert [frames.shape[2] for frames in shown] == [1, 8, 12, 4]
    whole = codec.vae.decode(latents * codec.std + codec.mean).sample
    assert torch.equal(torch.cat(shown, dim=2), whole)
    assert codec.flush(carry) is None


@torch.inference_mode()
def test_a_saved_carry_is_all_that_is_needed(codec: WanCodec, tmp_path: Path) -> None:
    """Far into a film, where the carry has let go of its beginning, another process goes on to the bit."""
    chunks = noise(0, 0, 0, (1, 4, codec.reach + 10, 2, 2)).split(5, dim=2)
    carry: Carry = {}
    for chunk in chunks[:-1]:
        _, carry = codec.decode(chunk, carry)
    save_file(carry, tmp_path / "carry.safetensors")
    last, _ = codec.decode(chunks[-1], carry)
    assert carry["latents"].shape[2] == codec.reach
    again = WanCodec.of(codec.vae)
    assert torch.equal(again.decode(chunks[-1], load_file(tmp_path / "carry.safetensors"))[0], last)
    # One latent less would not do: it is no more than is needed, but for the rounding up.
    less = {"latents": carry["latents"][:, :, 3:]}
    assert not torch.equal(WanCodec.of(codec.vae).decode(chunks[-1], less)[0], last)


@torch.inference_mode()
def test_another_run_is_not_taken_for_the_one_before(codec: WanCodec) -> None:
    chunk, other = noise(0, 0, 0, (1, 4, 10, 2, 2)).split(5, dim=2)
    first, _ = codec.decode(chunk, {})
    _, carry = codec.decode(other, {})
    assert torch.equal(codec.decode(chunk, {})[0], first)
    # Back to a carry that something else was decoded after.
    behind, _ = codec.decode(chunk, carry)
    codec.decode(chunk, {})
    assert torch.equal(codec.decode(chunk, {"latents": carry["latents"].clone()})[0], behind)


@torch.inference_mode()
def test_latents_of_a_film_and_of_a_picture(codec: WanCodec) -> None:
    side = codec.vae.config.scale_factor_spatial
    film = noise(0, 0, 0, (1, 3, 9, 2 * side, 3 * side)).clamp(-1, 1)
    latents = codec.encode(film)
    assert latents.shape == (1, 4, 3, 2, 3) and latents.dtype == torch.float32
    assert torch.equal(latents, (codec.vae.encode(film).latent_dist.mode() - codec.mean) / codec.std)
    assert torch.equal(codec.encode_picture(film[:, :, 0]), codec.encode(film[:, :, :1]))
    torch.testing.assert_close(codec.encode_picture(film[:, :, 0]), latents[:, :, :1])
    assert codec.mean.flatten().tolist() == pytest.approx(WAN_VAE["latents_mean"])
    assert codec.std.flatten().tolist() == pytest.approx(WAN_VAE["latents_std"])
