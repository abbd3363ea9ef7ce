"""Each frame under its own prompt: against the network told one, and against cross-attention by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from diffusers.models import (
    LTXVideoTransformer3DModel,
    SkyReelsV2Transformer3DModel,
    UNet3DConditionModel,
    WanTransformer3DModel,
)
from torch import Tensor, nn

from longvid.backends import Prompts
from longvid.backends.diffusers import unet
from longvid.backends.diffusers.attention import FrameAttention, Run, runs_of
from longvid.guidance import PromptText, per_prompt
from longvid.noise import noise
from longvid.training.trainer import recompute

TOKENS, WIDTH, FRAMES = 5, 16, 6
ONE, TWO = (1.0, 0.0), (0.0, 1.0)
UNITS = 3


@dataclass(frozen=True)
class Case:
    """A tiny network; the blocks that hear; how it is called with x, times [b f], tokens and their mask."""

    network: nn.Module
    reads: list[nn.Module]
    predict: Callable[[Tensor, Tensor, Prompts], Tensor]
    channels: int
    frames: FrameAttention

    def __call__(self, x: Tensor, t: Tensor, *texts: PromptText) -> Tensor:
        with self.frames.hearing(texts, x.shape[2]) as prompts:
            return self.predict(x, t, prompts)


def transformer(kind: type[Any], **sizes: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = kind(
            num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, num_layers=2, **sizes
        )
    return network.eval().requires_grad_(False)


def skyreels() -> Case:
    network = transformer(
        SkyReelsV2Transformer3DModel, text_dim=WIDTH, freq_dim=32, ffn_dim=32, rope_max_seq_len=32
    )

    def predict(x: Tensor, t: Tensor, prompts: Prompts) -> Tensor:
        return network(
            x,
            1000 * t,
            prompts.embeddings.expand(len(x), -1, -1),
            enable_diffusion_forcing=True,
            return_dict=False,
        )[0]

    return Case(network, list(network.blocks), predict, 4, FrameAttention(network.blocks))


def wan() -> Case:
    network = transformer(WanTransformer3DModel, text_dim=WIDTH, freq_dim=32, ffn_dim=32, rope_max_seq_len=32)

    def predict(x: Tensor, t: Tensor, prompts: Prompts) -> Tensor:
        times = 1000 * t.repeat_interleave(x.shape[3] * x.shape[4] // 4, dim=1)
        return network(x, times, prompts.embeddings.expand(len(x), -1, -1), return_dict=False)[0]

    return Case(network, list(network.blocks), predict, 4, FrameAttention(network.blocks))


def ltx() -> Case:
    network = transformer(LTXVideoTransformer3DModel, cross_attention_dim=24, caption_channels=WIDTH)

    def predict(x: Tensor, t: Tensor, prompts: Prompts) -> Tensor:
        b, _, f, h, w = x.shape
        tokens = network(
            x.flatten(2).transpose(1, 2),
            prompts.embeddings.expand(b, -1, -1),
            1000 * t.repeat_interleave(h * w, dim=1),
            prompts.mask.expand(b, -1),
            num_frames=f,
            height=h,
            width=w,
            return_dict=False,
        )[0]
        return tokens.transpose(1, 2).reshape(x.shape)

    blocks = network.transformer_blocks
    return Case(network, list(blocks), predict, 4, FrameAttention(blocks))


def modelscope() -> Case:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet3DConditionModel(
            down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
            up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            cross_attention_dim=WIDTH,
            attention_head_dim=2,
        )
    network.eval().requires_grad_(False)
    unet.prepare(network)

    def predict(x: Tensor, t: Tensor, prompts: Prompts) -> Tensor:
        return unet.predict(network, x, t, prompts, None)

    reads = unet.reads(network)
    return Case(network, reads, predict, 4, FrameAttention(reads))


@pytest.fixture(scope="module", params=[skyreels, wan, ltx, modelscope])
def case(request: pytest.FixtureRequest) -> Case:
    return request.param()


X = noise(0, 0, 0, (1, 4, FRAMES, 4, 4))
T = torch.tensor([[0.2, 0.2, 0.5, 0.5, 0.9, 0.9]])


def text(*shares: tuple[float, ...]) -> PromptText:
    """Two prompts of which the second is shorter, and each unit's shares of them."""
    embeddings = noise(0, 1, 0, (2, TOKENS, WIDTH))
    mask = torch.ones(2, TOKENS, dtype=torch.bool)
    mask[1, 3:] = False
    prompts = Prompts(embeddings, mask)
    return PromptText(prompts, prompts, torch.tensor(shares)).for_units(range(len(shares)))


def plainly(case: Case, x: Tensor, t: Tensor, text: PromptText) -> Tensor:
    """The network as it is made: one prompt, nothing in between."""
    return case.predict(x, t, text.prompts)


def test_under_one_prompt_the_network_is_untouched(case: Case) -> None:
    for shares in (ONE, TWO):
        alone = text(*[shares] * UNITS)
        assert torch.equal(case(X, T, alone), plainly(case, X, T, alone))


def test_under_one_prompt_it_is_per_prompt_to_the_bit(case: Case) -> None:
    alone = text(*[ONE] * UNITS)
    evaluated = per_prompt(lambda x, t, text: plainly(case, x, t, text))(X, T, alone)
    assert torch.equal(case(X, T, alone), evaluated)


def test_a_prompt_that_no_unit_reads_is_not_there(case: Case) -> None:
    film = text(ONE, (0.25, 0.75), TWO)
    for shares in (ONE, TWO):
        unread = PromptText(film.prompts, film.nulls, torch.tensor([shares] * UNITS))
        assert torch.equal(case(X, T, unread), case(X, T, text(*[shares] * UNITS)))


def test_a_prompt_told_twice_is_that_prompt(case: Case) -> None:
    """The path by frames against the plain one, where they must agree."""
    embeddings, mask = (rows[:1].expand(2, *rows.shape[1:]) for rows in vars(text(ONE).prompts).values())
    twice = Prompts(embeddings, mask)
    for mix in ([ONE, TWO, ONE], [ONE, (0.25, 0.75), TWO]):
        told = PromptText(twice, twice, torch.tensor(mix))
        torch.testing.assert_close(
            case(X, T, told), plainly(case, X, T, text(*[ONE] * UNITS)), rtol=1e-4, atol=1e-5
        )


def test_cross_attention_is_each_frames_own(case: Case) -> None:
    """A block's, with the tokens' queries as they are: each frame has what its prompt alone gives it."""
    attention = case.reads[0].attn2
    heard: list[Tensor] = []
    hook = attention.register_forward_hook(lambda module, args, output: heard.append(output))
    try:
        case(X, T, text(ONE, (0.25, 0.75), TWO))
        for alone in (ONE, TWO):
            case(X, T, text(*[alone] * UNITS))
    finally:
        hook.remove()
    mixed, one, two = (output.reshape(FRAMES, -1) for output in heard)
    tolerance = {"rtol": 1e-4, "atol": 1e-6}
    torch.testing.assert_close(mixed[:2], one[:2], **tolerance)
    torch.testing.assert_close(mixed[2:4], 0.25 * one[2:4] + 0.75 * two[2:4], **tolerance)
    torch.testing.assert_close(mixed[4:], two[4:], **tolerance)
    assert not torch.allclose(one, two, **tolerance)


def test_samples_of_a_batch_hear_their_own(case: Case) -> None:
    """One with a switch, one with one prompt, one with a blend: each as alone."""
    texts = (text(ONE, ONE, TWO), text(TWO, TWO, TWO), text(ONE, (0.5, 0.5), TWO))
    x, t = torch.cat([X, -X, X.flip(2)]), torch.cat([T, T.flip(1), T])
    together = case(x, t, *texts)
    for row, told in enumerate(texts):
        torch.testing.assert_close(
            together[row, None], case(x[row, None], t[row, None], told), rtol=1e-4, atol=1e-5
        )


def test_units_of_one_latent_are_the_same_window(case: Case) -> None:
    whole = text(ONE, (0.25, 0.75), TWO)
    latents = whole.for_units([0, 0, 1, 1, 2, 2])
    assert torch.equal(case(X, T, whole), case(X, T, latents))


def test_a_block_computed_again_hears_the_same(case: Case) -> None:
    """Gradient checkpointing runs a block's forward when nobody says any more what is heard."""
    told = text(ONE, (0.25, 0.75), TWO)
    forwards = [(block, block.forward) for block in case.reads]
    case.network.requires_grad_(True)

    def gradients() -> list[Tensor]:
        case.network.zero_grad()
        case(X, T, told).square().mean().backward()
        return [p.grad.clone() for p in case.network.parameters() if p.grad is not None]

    try:
        expected = gradients()
        recompute(case.reads)
        found = gradients()
    finally:
        for block, forward in forwards:
            block.forward = forward
        case.network.requires_grad_(False)
        case.network.zero_grad()
    assert len(expected) == len(found) > 20
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


def test_an_error_leaves_nothing_heard(case: Case) -> None:
    with pytest.raises(RuntimeError, match="interrupted"), case.frames.hearing([text(ONE, ONE, TWO)], FRAMES):
        raise RuntimeError("interrupted")
    alone = text(*[ONE] * UNITS)
    assert torch.equal(plainly(case, X, T, alone), case(X, T, alone))


def test_a_switch_is_not_compiled_anew_at_each_place() -> None:
    """torch.compile sees one block with a switch, wherever that is, and one without."""
    plain, compiled = skyreels(), skyreels()
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    for block in compiled.reads:
        block.compile(backend=backend)
    counts = []
    for mix in ([ONE, ONE, ONE], [ONE, ONE, TWO], [ONE, TWO, TWO], [ONE, (0.25, 0.75), TWO]):
        told = text(*mix)
        torch.testing.assert_close(compiled(X, T, told), plain(X, T, told), rtol=1e-4, atol=1e-5)
        counts.append(len(graphs))
    torch.compiler.reset()
    assert counts == [1, 3, 3, 3]


def test_runs_of_frames() -> None:
    blend = ((0, 0.25), (1, 0.75))
    assert list(runs_of(text(ONE, ONE, (0.25, 0.75), TWO), 12)) == [
        Run(6, ((0, 1.0),)),
        Run(3, blend),
        Run(3, ((1, 1.0),)),
    ]
