"""diorama's network: what a frame hears, from where, and that its size travels with its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from longvid.backends.diorama.denoiser import Block, Denoiser, DenoiserSize, rotary_angles, rotate

SIZE = DenoiserSize(
    latent_channels=2,
    latent_height=4,
    latent_width=4,
    conv=4,
    width=24,
    depth=2,
    heads=2,
    text_width=5,
)
FRAMES, PROMPTS, ATTRIBUTES = 6, 3, 7
MIX = torch.tensor([[1.0, 0.0, 0.0]] * 2 + [[0.75, 0.25, 0.0]] * 2 + [[0.0, 1.0, 0.0]] * 2).expand(2, -1, -1)
"""Frames 0 and 1 have prompt 0, frames 4 and 5 prompt 1, those between some of both; prompt 2 is nobody's."""


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


LATENTS = normal(1, 2, SIZE.latent_channels, FRAMES, SIZE.latent_height, SIZE.latent_width)
TIMES = torch.linspace(0.1, 0.9, 2 * FRAMES).view(2, FRAMES)
TOKENS = normal(2, 2, PROMPTS, ATTRIBUTES, SIZE.text_width)


@pytest.fixture
def network() -> Denoiser:
    """Every weight drawn anew: a fresh network's last layers are zero, so that it says nothing."""
    generator = torch.Generator().manual_seed(0)
    network = Denoiser(SIZE).eval().requires_grad_(False)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return network


@pytest.fixture
def alone(network: Denoiser) -> Denoiser:
    """The network without its attention over the window: no frame hears of another."""
    for block in network.blocks:
        nn.init.zeros_(block.out.weight)
    return network


def read(block: Block, tokens: Tensor, mix: Tensor) -> Tensor:
    """What six frames of eight tokens read of the prompts, [2 f n d]."""
    return block.cross_attend(normal(3, 2, FRAMES, 8, SIZE.width), tokens, mix)


def changed_frames(a: Tensor, b: Tensor) -> list[int]:
    """Frames in which [b c f h w] differ at all."""
    return (a != b).transpose(0, 2).flatten(1).any(1).nonzero().flatten().tolist()


def test_a_velocity_is_shaped_like_the_latents(network: Denoiser) -> None:
    velocity = network(LATENTS, TIMES, TOKENS, MIX)
    assert velocity.shape == LATENTS.shape
    assert velocity.dtype == torch.float32
    assert network(LATENTS[:, :, :1], TIMES[:, :1], TOKENS, MIX[:, :1]).shape == (2, 2, 1, 4, 4)


def test_a_fresh_network_says_nothing() -> None:
    assert not Denoiser(SIZE)(LATENTS, TIMES, TOKENS, MIX).any()


def test_a_blend_mixes_what_is_read_of_each_prompt(network: Denoiser) -> None:
    whole = torch.ones(2, FRAMES, 1)
    each = [read(network.blocks[0], TOKENS[:, p : p + 1], whole) for p in range(PROMPTS)]
    expected = sum(MIX[:, :, p, None, None] * each[p] for p in range(PROMPTS))
    torch.testing.assert_close(read(network.blocks[0], TOKENS, MIX), expected)


def test_a_frame_reads_its_own_prompts_only(network: Denoiser) -> None:
    block, before = network.blocks[0], read(network.blocks[0], TOKENS, MIX)
    for prompt, frames in ((0, [0, 1, 2, 3]), (1, [2, 3, 4, 5]), (2, [])):
        tokens = TOKENS.clone()
        tokens[:, prompt] += 1
        differs = (read(block, tokens, MIX) != before).any(0).flatten(1).any(1)
        assert differs.nonzero().flatten().tolist() == frames


def test_a_switch_is_exact_at_its_frame(alone: Denoiser) -> None:
    before = alone(LATENTS, TIMES, TOKENS, MIX)
    for prompt, frames in ((0, [0, 1, 2, 3]), (1, [2, 3, 4, 5]), (2, [])):
        tokens = TOKENS.clone()
        tokens[:, prompt] += 1
        assert changed_frames(alone(LATENTS, TIMES, tokens, MIX), before) == frames


@pytest.mark.parametrize("places", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_a_prompt_without_a_share_changes_nothing(network: Denoiser, places: tuple[int, ...]) -> None:
    """Up to the order of sums: matrix products of other shapes may add in another one."""
    used = network(LATENTS, TIMES, TOKENS[:, :2], MIX[:, :, :2])
    torch.testing.assert_close(network(LATENTS, TIMES, TOKENS[:, places], MIX[:, :, places]), used)


def test_time_is_a_frames_own(alone: Denoiser) -> None:
    before = alone(LATENTS, TIMES, TOKENS, MIX)
    for frame in range(FRAMES):
        times = TIMES.clone()
        times[:, frame] += 0.05
        assert changed_frames(alone(LATENTS, times, TOKENS, MIX), before) == [frame]


def test_a_window_is_seen_as_a_whole(network: Denoiser) -> None:
    latents = LATENTS.clone()
    latents[:, :, 0] += 0.1
    moved = network(latents, TIMES, TOKENS, MIX)
    assert changed_frames(moved, network(LATENTS, TIMES, TOKENS, MIX)) == list(range(FRAMES))


def test_samples_of_a_batch_are_apart(network: Denoiser) -> None:
    latents = LATENTS.clone()
    latents[1] += 0.1
    moved, before = (network(x, TIMES, TOKENS, MIX) for x in (latents, LATENTS))
    assert torch.equal(moved[0], before[0])
    assert not torch.equal(moved[1], before[1])


def test_rotary_angles_of_a_token() -> None:
    angles = rotary_angles(3, 2, 4, 7, torch.device("cpu"))
    assert angles.shape == (3 * 2 * 4, 7)
    frame, row, column = 2, 1, 3
    expected = [2, 2 * 100 ** (-1 / 3), 2 * 100 ** (-2 / 3), 1, 20**-0.5, 3, 3 * 20**-0.5]
    torch.testing.assert_close(angles[(frame * 2 + row) * 4 + column], torch.tensor(expected))


def test_rotation_tells_distances_only() -> None:
    angles = torch.arange(5.0)[:, None] * torch.tensor([1.0, 0.3])
    q, k = (rotate(normal(seed, 4).expand(5, 4), angles.cos(), angles.sin()) for seed in (4, 5))
    scores = q @ k.T
    for distance in range(-4, 5):
        same = scores.diagonal(distance)
        torch.testing.assert_close(same, same[:1].expand_as(same))


def test_the_size_travels_with_the_weights(network: Denoiser, tmp_path: Path) -> None:
    path = tmp_path / "denoiser.safetensors"
    save_file(network.state_dict(), path, SIZE.to_metadata())
    with safe_open(path, "pt") as file:
        size = DenoiserSize.from_metadata(file.metadata())
    assert size == SIZE
    loaded = Denoiser(size).eval()
    loaded.load_state_dict(load_file(path))
    given = (LATENTS, TIMES, TOKENS, MIX)
    assert torch.equal(loaded(*given), network(*given))
