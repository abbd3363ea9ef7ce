"""Open-Sora's transformer against the recorded numbers, and what it promises beyond them."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from longvid.backends.opensora.config import TransformerSize
from longvid.backends.opensora.stdit3 import (
    Block,
    PromptKeys,
    Reading,
    STDiT3,
    cast,
    position_embedding,
    rotate,
)
from tests.backends.opensora.cases import SHARED, Case
from tests.backends.opensora.reading import network, predict, tiled

KIND = "stdit3"
TOLERANCE = 1e-5
"""Of the largest absolute value, in float32."""

SMALL = TransformerSize(hidden_size=48, depth=2, num_heads=4, caption_channels=24, model_max_length=12)
PICTURE = (240, 426)


class Recorded:
    """A recording's inputs, with a time for each frame: 0 where x_mask says that it is no noisy one."""

    def __init__(self, case: Case) -> None:
        self.inputs = case.tensors()
        self.x = self.inputs["in/x"]
        b, _, f, _, _ = self.x.shape
        t = tiled(self.inputs["in/timestep"], b)
        self.noisy = tiled(self.inputs.get("in/x_mask", torch.ones(1, f)), b).bool()
        self.t = torch.where(self.noisy, t.view(b, -1).expand(b, f), 0)

    def run(self, net: STDiT3) -> Tensor:
        return predict(net, self.x, self.t, self.inputs)

    def seen(self, out: Tensor) -> Tensor:
        """The predictions [m c h w] of noisy frames; nobody reads the others, and the reference's are odd."""
        return out.transpose(1, 2)[self.noisy]


@torch.inference_mode()
def test_recording(case: Case) -> None:
    if case.in_bf16:
        check_bf16(case)
        return
    inputs, net = Recorded(case.beside(case.config.get("inputs", case.name))), network(case)
    recorded = case.tensors()
    watched = Watched(net)
    out = inputs.run(net)
    assert out.dtype == torch.float32
    assert_near(inputs.seen(out), inputs.seen(recorded["out"]))
    check_intermediates(net, watched, inputs, recorded)


def check_bf16(case: Case) -> None:
    """The reference rounds its times and angles; ours must be nearer to the exact case than it is."""
    exact = case.beside(case.config["inputs"])
    inputs = Recorded(exact)
    ours = inputs.run(cast(network(exact), torch.bfloat16))
    assert ours.dtype == torch.float32
    target = inputs.seen(exact.tensors()["out"])
    our_error, their_error = (
        (inputs.seen(out) - target).square().mean() for out in (ours, case.tensors()["out"])
    )
    assert our_error < their_error


class Watched:
    """What flows through the modules whose values were recorded, under the recordings' names."""

    def __init__(self, net: STDiT3) -> None:
        self.values: dict[str, Tensor] = {}
        self.captions: list[Tensor] = []
        self.keep_output("x_embed", net.x_embedder)
        self.keep_input("t_freq", net.t_embedder.mlp)
        self.keep_input("fps_freq", net.fps_embedder.mlp)
        self.keep_input("t", net.t_block)
        self.keep_output("t_mlp", net.t_block)
        self.keep_output("final", net.final_layer)
        for i in range(net.size.depth):
            self.keep_output(f"s{i}", net.spatial_blocks[i])
            self.keep_output(f"tb{i}", net.temporal_blocks[i])
        net.y_embedder.register_forward_hook(lambda module, args, out: self.captions.append(out))

    def keep_input(self, name: str, module: nn.Module) -> None:
        module.register_forward_pre_hook(lambda module, args: self.values.update({name: args[0]}))

    def keep_output(self, name: str, module: nn.Module) -> None:
        module.register_forward_hook(lambda module, args, out: self.values.update({name: out}))


def check_intermediates(net: STDiT3, watched: Watched, inputs: Recorded, recorded: dict[str, Tensor]) -> None:
    b, f = inputs.noisy.shape
    for name, ours in watched.values.items():
        if f"mid/{name}" not in recorded:
            continue
        theirs = recorded[f"mid/{name}"]
        if name == "fps_freq":
            assert_near(ours[: len(theirs)], theirs)
        elif name == "final" and not inputs.noisy.all():
            assert_near(ours[inputs.noisy], theirs.reshape(ours.shape)[inputs.noisy])
        elif name in ("t", "t_mlp", "t_freq"):  # A row a sample, or one a frame.
            theirs = theirs.reshape(b, -1, ours.shape[-1]).expand(b, f, -1)
            assert_near(ours[inputs.noisy], theirs[inputs.noisy])
        else:
            assert_near(ours, theirs.reshape(ours.shape))
    if "mid/y_packed" in recorded:
        assert_near(torch.cat(watched.captions), recorded["mid/y_packed"][0])
    if "mid/pos_emb" in recorded:
        rows, columns = (math.ceil(side / 2) for side in inputs.x.shape[-2:])
        picture = inputs.inputs["in/height"][0].item(), inputs.inputs["in/width"][0].item()
        ours = position_embedding(rows, columns, picture, net.size, torch.device("cpu"))
        assert_near(ours, recorded["mid/pos_emb"][0])
    if "mid/rope_q_in" in recorded:
        ours = rotate(recorded["mid/rope_q_in"].transpose(1, 2), net.rope(f)).transpose(1, 2)
        assert_near(ours, recorded["mid/rope_q_out"])


def assert_near(ours: Tensor, recorded: Tensor) -> None:
    assert ours.shape == recorded.shape
    assert (ours - recorded).abs().max() <= TOLERANCE * recorded.abs().max()


def small(seed: int = 0, size: TransformerSize = SMALL) -> STDiT3:
    torch.manual_seed(seed)
    return STDiT3(size).eval()


def prompt(net: STDiT3, tokens: int, seed: int) -> PromptKeys:
    generator = torch.Generator().manual_seed(seed)
    return net.project(torch.randn(tokens, net.size.caption_channels, generator=generator))


def latents(b: int, f: int, h: int = 6, w: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(b, 4, f, h, w, generator=generator), 1000 * torch.rand(b, f, generator=generator)


def whole(reads: PromptKeys, frames: int) -> Reading:
    return Reading(frames, ((reads, 1.0),))


def first_cross_attention(net: STDiT3, x: Tensor, t: Tensor, reads: list[Reading]) -> Tensor:
    """What the first block's cross-attention gives [b f n d]; before it nothing has seen a prompt."""
    seen = []
    handle = net.spatial_blocks[0].cross_attn.register_forward_hook(
        lambda module, args, out: seen.append(out)
    )
    net(x, t, 24, PICTURE, reads)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_each_frame_reads_its_own_prompt_exactly(dtype: torch.dtype) -> None:
    net = cast(small(), dtype)
    x, t = latents(2, 9)
    boat, storm, city = prompt(net, 5, 1), prompt(net, 12, 2), prompt(net, 1, 3)
    alone = [first_cross_attention(net, x, t, [whole(p, 18)]) for p in (boat, storm, city)]
    reads = [whole(boat, 4), whole(storm, 5), whole(city, 2), whole(boat, 7)]
    mixed = first_cross_attention(net, x, t, reads)
    assert torch.equal(mixed[0, :4], alone[0][0, :4])
    assert torch.equal(mixed[0, 4:], alone[1][0, 4:])
    assert torch.equal(mixed[1, :2], alone[2][1, :2])
    assert torch.equal(mixed[1, 2:], alone[0][1, 2:])


@torch.inference_mode()
def test_a_blend_is_the_weighted_sum() -> None:
    net = small()
    x, t = latents(1, 5)
    boat, storm = prompt(net, 5, 1), prompt(net, 12, 2)
    a, b = (first_cross_attention(net, x, t, [whole(p, 5)]) for p in (boat, storm))
    blend = Reading(3, ((boat, 0.25), (storm, 0.75)))
    mixed = first_cross_attention(net, x, t, [whole(boat, 2), blend])
    assert torch.equal(mixed[:, :2], a[:, :2])
    torch.testing.assert_close(mixed[:, 2:], 0.25 * a[:, 2:] + 0.75 * b[:, 2:], rtol=0, atol=1e-6)


@torch.inference_mode()
def test_samples_do_not_meet() -> None:
    net = small()
    x, t = latents(2, 6)
    boat, storm = prompt(net, 5, 1), prompt(net, 12, 2)
    fps = torch.tensor([24.0, 12.0])
    both = net(x, t, fps, PICTURE, [whole(boat, 2), whole(storm, 4), whole(storm, 6)])
    first = net(x[:1], t[:1], 24, PICTURE, [whole(boat, 2), whole(storm, 4)])
    second = net(x[1:], t[1:], 12.0, PICTURE, [whole(storm, 6)])
    torch.testing.assert_close(both, torch.cat([first, second]), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("h", "w"), [(5, 7), (1, 1)])
@torch.inference_mode()
def test_an_odd_picture_is_padded_with_zeros(h: int, w: int) -> None:
    net = small()
    x, t = latents(1, 3, h, w)
    reads = [whole(prompt(net, 5, 1), 3)]
    padded = nn.functional.pad(x, (0, 1, 0, 1))
    out = net(x, t, 24, PICTURE, reads)
    assert out.shape == (1, 8, 3, h, w)
    assert torch.equal(out, net(padded, t, 24, PICTURE, reads)[..., :h, :w])


def test_reads_must_cover_the_frames() -> None:
    net = small()
    x, t = latents(2, 6)
    with pytest.raises(ValueError, match="reads cover 6 frames of 12"):
        net(x, t, 24, PICTURE, [whole(prompt(net, 5, 1), 6)])


def test_every_parameter_is_trained() -> None:
    net = small().train()
    x, t = latents(2, 3)
    reads = [whole(prompt(net, 5, 1), 3), Reading(3, ((prompt(net, 5, 1), 0.5), (prompt(net, 3, 2), 0.5)))]
    net(x, t, torch.tensor([24.0, 8.0]), PICTURE, reads).square().mean().backward()
    untouched = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert untouched == []


def test_cast_keeps_times_and_angles_exact() -> None:
    net = cast(small(), torch.bfloat16)
    kept = {name for name, tensor in net.state_dict().items() if tensor.dtype == torch.float32}
    assert {"rope.freqs", "t_block.1.weight", "t_embedder.mlp.0.weight", "fps_embedder.mlp.2.bias"} < kept
    assert {"spatial_blocks.0.scale_shift_table", "final_layer.scale_shift_table"} < kept
    assert net.temporal_blocks[1].mlp.fc1.weight.dtype == net.y_embedder.y_proj.fc2.weight.dtype
    assert net.y_embedder.y_proj.fc2.weight.dtype == torch.bfloat16


@torch.no_grad()
def test_a_block_compiles_whole() -> None:
    """Dynamo takes a block in one piece: no host synchronisation, no structure that depends on data."""
    net = small()
    x, modulation = torch.randn(1, 3, 4, 48), torch.randn(1, 3, 6, 48)
    reads = tuple(
        reading.of_block(1)
        for reading in (whole(prompt(net, 5, 1), 2), Reading(1, ((prompt(net, 3, 2), 0.5),) * 2))
    )
    block = net.temporal_blocks[0]
    traced = torch.compile(block, backend="eager", fullgraph=True)
    ours = block(x, modulation, reads, net.rope(3))
    torch.testing.assert_close(traced(x, modulation, reads, net.rope(3)), ours, rtol=0, atol=1e-5)


def test_the_published_size_on_the_meta_device() -> None:
    with torch.device("meta"):
        state = STDiT3(TransformerSize()).state_dict()
    assert len(state) == 973
    assert sum(tensor.numel() for tensor in state.values()) == 1_208_872_772
    assert state["rope.freqs"].shape == (36,)
    assert state["x_embedder.proj.weight"].shape == (1152, 4, 1, 2, 2)
    assert state["y_embedder.y_embedding"].shape == (300, 4096)
    assert state["temporal_blocks.27.cross_attn.kv_linear.weight"].shape == (2304, 1152)


def test_the_published_names_and_shapes() -> None:
    keys = SHARED.parent / "checkpoint_keys.json"
    if not keys.is_file():
        pytest.skip(f"{keys} is not there")
    with torch.device("meta"):
        net = STDiT3(TransformerSize())
    ours = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    assert ours == json.loads(keys.read_text("utf-8"))["stdit3"]
    assert "rope.freqs" in dict(net.named_parameters())
    assert "y_embedder.y_embedding" in dict(net.named_buffers())


def test_the_null_prompt_is_the_checkpoint_s() -> None:
    net = small(size=replace(SMALL, model_max_length=7))
    assert net.null_embeddings.shape == (7, 24)
    assert torch.equal(net.null_embeddings, net.state_dict()["y_embedder.y_embedding"])


def test_blocks_come_in_pairs() -> None:
    net = small()
    assert len(net.spatial_blocks) == len(net.temporal_blocks) == net.size.depth
    assert all(isinstance(block, Block) for block in (*net.spatial_blocks, *net.temporal_blocks))
    assert len(prompt(net, 5, 1).blocks) == 2 * net.size.depth
