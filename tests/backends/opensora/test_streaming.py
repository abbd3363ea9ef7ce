"""Weights that come and go give the numbers of weights that stay."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from longvid.backends import FilmSpec, Runtime
from longvid.backends.opensora import OpenSora, memory
from longvid.backends.opensora.config import TransformerSize
from longvid.backends.opensora.stdit3 import Reading, STDiT3, cast
from longvid.backends.opensora.streaming import Stream, VisitingCodec, pack, stream_blocks, visiting
from longvid.backends.opensora.vae import OpenSoraCodec
from tests.backends.opensora.test_vae import small as small_autoencoder
from tests.tiny import hashed

CPU = torch.device("cpu")
SPEC = FilmSpec((272, 48), Fraction(24), 2, {})
CONFIGS = {
    "transformer": {"hidden_size": 48, "depth": 3, "num_heads": 4, "caption_channels": 24},
    "vae": {
        "vae_2d": {
            "block_out_channels": [8, 8, 8, 8],
            "layers_per_block": 1,
            "norm_num_groups": 4,
        },
        "vae_temporal": {"filters": 4, "num_res_blocks": 1, "num_groups": 2},
    },
}


def small(depth: int, dtype: torch.dtype = torch.float32) -> STDiT3:
    size = TransformerSize(hidden_size=48, depth=depth, num_heads=4, caption_channels=24, model_max_length=12)
    network = cast(STDiT3(size), dtype).eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            parameter.copy_(hashed(name, *parameter.shape) / parameter.shape[-1] ** 0.5)
    return network


def predicted(network: STDiT3, call: int, device: torch.device = CPU) -> Tensor:
    """A prediction for other latents, times and prompts at each call."""
    boat, storm = (
        network.project(hashed(f"{name}/{call}", n, 24).to(device)) for name, n in (("a", 5), ("b", 9))
    )
    x, t = hashed(f"x/{call}", 1, 4, 6, 5, 7).to(device), hashed(f"t/{call}", 1, 6).abs().mul(500).to(device)
    reads = [Reading(4, ((boat, 1.0),)), Reading(2, ((boat, 0.25), (storm, 0.75)))]
    return network(x, t, 24.0, (240, 426), reads).cpu()


# Packing


def test_packed_tensors_keep_shape_order_dtype_and_values() -> None:
    modules = nn.ModuleList([nn.Conv3d(3, 5, 3), nn.BatchNorm1d(4), nn.Linear(7, 2).to(torch.bfloat16)])
    modules[0].to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # not in its stub
    before = {name: tensor.clone() for name, tensor in modules.state_dict().items()}
    strides = {name: tensor.stride() for name, tensor in modules.state_dict().items()}
    packed = pack([modules], CPU)
    after = modules.state_dict()
    assert list(after) == list(before)
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]), name
        assert (tensor.dtype, tensor.stride()) == (before[name].dtype, strides[name]), name
        assert tensor.untyped_storage().data_ptr() == packed.memory.untyped_storage().data_ptr(), name
        assert (tensor.data_ptr() - packed.memory.data_ptr()) % 512 == 0, name
    assert set(dict(modules.named_parameters())) == {name for name in before if "running" not in name} - {
        "1.num_batches_tracked"
    }


def test_packing_takes_whole_alignments() -> None:
    assert len(pack([nn.Linear(3, 5)], CPU).memory) == 1024


def test_a_visit_ends_at_home_even_when_it_fails() -> None:
    layer = nn.Linear(3, 5)
    packed = pack([layer], CPU)

    def at_home() -> bool:
        return layer.weight.untyped_storage().data_ptr() == packed.memory.untyped_storage().data_ptr()

    with pytest.raises(torch.OutOfMemoryError), visiting(packed, CPU):
        assert not at_home()
        raise torch.OutOfMemoryError
    assert at_home()


# The autoencoder


def test_a_visiting_codec_gives_the_same_numbers() -> None:
    staying, coming = OpenSoraCodec(small_autoencoder()), OpenSoraCodec(small_autoencoder())
    visitor = VisitingCodec.of(coming, CPU)
    latents = hashed("latents", 1, 4, 5, 2, 3)
    for _ in range(2):
        frames, carry = visitor.decode(latents, {})
        assert torch.equal(frames, staying.decode(latents, {})[0])
    assert carry == {}
    assert visitor.flush(carry) is None
    assert torch.equal(visitor.encode(frames), staying.encode(frames))
    picture = frames[:, :, 0]
    assert torch.equal(visitor.encode_picture(picture), staying.encode_picture(picture))
    assert coming.autoencoder.scale.untyped_storage().data_ptr() == visitor.packed.memory.data_ptr()


# The blocks


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_streamed_blocks_give_the_same_numbers(depth: int, dtype: torch.dtype) -> None:
    staying = small(depth, dtype)
    streamed = stream_blocks(copy.deepcopy(staying), CPU)
    with torch.inference_mode():
        for call in range(3):
            assert torch.equal(predicted(streamed, call), predicted(staying, call))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_groups_take_turns(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is there when it is asked for, and the next one too, but where both share a buffer."""
    fetched: list[int] = []
    fetch = Stream._fetch

    def fetching(self: Stream, group: int) -> None:
        fetched.append(group)
        fetch(self, group)

    monkeypatch.setattr(Stream, "_fetch", fetching)
    layers = [nn.Linear(3, k + 1) for k in range(count)]
    weights = [layer.weight.clone() for layer in layers]
    stream = Stream([pack([layer], CPU) for layer in layers], CPU)
    addresses = [layer.weight.data_ptr() for layer in layers]
    assert len(stream.buffers) == min(count, 2)
    for round_ in range(3):
        for group in range(count):
            stream.bring(group)
            assert torch.equal(layers[group].weight, weights[group])
            following = (group + 1) % count
            if following % 2 != group % 2:
                assert torch.equal(layers[following].weight, weights[following])
        if count <= 2:
            assert fetched == list(range(count)), "what fits into the buffers comes once"
        elif count % 2 == 0:
            assert fetched == [*range(count)] * (round_ + 1) + [0], "the next round's first is on its way"
    assert [layer.weight.data_ptr() for layer in layers] == addresses


def test_a_call_that_breaks_off_leaves_the_next_one_right() -> None:
    staying = small(4)
    streamed = stream_blocks(copy.deepcopy(staying), CPU)
    with torch.inference_mode():
        handle = streamed.temporal_blocks[2].register_forward_pre_hook(broken)
        with pytest.raises(torch.OutOfMemoryError):
            predicted(streamed, 0)
        handle.remove()
        assert torch.equal(predicted(streamed, 1), predicted(staying, 1))


def broken(*args: object) -> None:
    raise torch.OutOfMemoryError


def test_compiled_blocks_can_be_streamed() -> None:
    """Compiled first, they are streamed without being compiled anew: addresses and shapes stay."""
    staying = small(4)

    def compiled(prepare: Callable[[STDiT3], STDiT3]) -> tuple[Tensor, int]:
        graphs = 0

        def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
            nonlocal graphs
            graphs += 1
            return graph.forward

        torch._dynamo.reset()
        network = copy.deepcopy(staying)
        for block in (*network.spatial_blocks, *network.temporal_blocks):
            block.compile(backend=backend)
        network = prepare(network)
        with torch.inference_mode():
            for call in range(2):
                out = predicted(network, call)
        return out, graphs

    out, graphs = compiled(lambda network: network)
    streamed, streamed_graphs = compiled(lambda network: stream_blocks(network, CPU))
    assert torch.equal(streamed, out)
    assert streamed_graphs == graphs


# The film


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenSora:
    """A tiny Open-Sora of random weights, three pairs of blocks deep."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for part, config in CONFIGS.items():
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps(config))
    return OpenSora(tmp_path).with_random_weights()


def test_every_rung_makes_the_same_film(model: OpenSora) -> None:
    """But for the one that says that it does not."""
    latents, t = hashed("latents", 1, 4, 5, 6, 34), hashed("t", 1, 5).abs() / 4
    assert [rung.name for rung in model.rungs(SPEC, 4)] == [held.name for held in memory.HOLDINGS]
    velocities, frames = {}, {}
    with torch.inference_mode():
        for rung in model.rungs(SPEC, 4):
            film = model.for_film(SPEC, Runtime(CPU, torch.float32, rung.name))
            encoder = film.text_encoder()
            text = film.text(encoder(["a red boat"]), {}, torch.ones(1, 1))
            velocities[rung.name] = film.denoiser()(latents, t, text)
            frames[rung.name], _ = film.codec().decode(latents, {})
    for name, velocity in velocities.items():
        assert torch.equal(velocity, velocities["resident"]), name
    tiled = frames.pop("tiled")
    # One frame at a time rounds otherwise than four; the tolerance is the autoencoder's own.
    tolerance = 1e-5 * frames["resident"].abs().max().item()
    for name, decoded in frames.items():
        torch.testing.assert_close(decoded, frames["resident"], rtol=0, atol=tolerance, msg=name)
    assert torch.equal(frames["streamed"], frames["vae-off"])
    assert (tiled - frames["resident"]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("choice", "rung", "precision", "device"),
    [
        ("auto", "resident", "float32", "cuda"),
        ("auto", "t5-off", "float32", "cpu"),
        ("auto", "streamed", "float32", "cpu"),
        ("cpu", "resident", "float32", "cpu"),
        ("8bit", "resident", "8bit", "cuda"),
        ("4bit", "streamed", "4bit", "cuda"),
    ],
)
def test_how_t5_is_held(
    tmp_path: Path, choice: str, rung: str, precision: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longvid.backends.opensora import film

    monkeypatch.setattr(OpenSora, "missing_files", lambda self: [])
    monkeypatch.setattr(OpenSora, "transformer_size", lambda self: TransformerSize())
    monkeypatch.setattr(film, "weight_files", lambda folder: [])
    spec = FilmSpec((424, 240), Fraction(24), 6, {"text_encoder": choice})
    loaded = OpenSora(tmp_path).for_film(spec, Runtime(torch.device("cuda"), torch.bfloat16, rung))
    t5 = loaded.text_encoder().t5
    assert (t5.precision, t5.device) == (precision, torch.device(device))


# On a card


@pytest.mark.gpu
@pytest.mark.parametrize("depth", [3, 4])
def test_streamed_blocks_give_the_same_numbers_on_a_card(depth: int) -> None:
    """In two buffers, behind a copying stream that is never waited for by the host."""
    card = torch.device("cuda:0")
    staying = small(depth)
    streamed = stream_blocks(copy.deepcopy(staying), card)
    staying.to(card)
    with torch.inference_mode():
        for call in range(20):
            assert torch.equal(predicted(streamed, call, card), predicted(staying, call, card)), call


@pytest.mark.gpu
def test_large_groups_arrive_before_they_are_computed_with() -> None:
    """Long copies and long kernels in turn, a thousand times what would hide a missing wait."""
    card = torch.device("cuda:0")
    weights = [torch.full((2048, 2048), float(k + 1)) for k in range(5)]
    layers = [nn.Linear(2048, 2048, bias=False) for _ in weights]
    for layer, weight in zip(layers, weights, strict=True):
        layer.weight.data.copy_(weight)
    stream = Stream([pack([layer], card) for layer in layers], card)
    x = torch.ones(4096, 2048, device=card)
    with torch.inference_mode():
        outputs = []
        for _ in range(4):
            for group, layer in enumerate(layers):
                stream.bring(group)
                outputs.append(layer(x)[::512, ::512].clone())
        torch.cuda.synchronize()
    for k, output in enumerate(outputs):
        assert (output == 2048 * (k % 5 + 1)).all(), k


@pytest.mark.gpu
def test_a_visiting_codec_leaves_the_card() -> None:
    card = torch.device("cuda:0")
    visitor = VisitingCodec.of(OpenSoraCodec(small_autoencoder()), card)
    staying = OpenSoraCodec(small_autoencoder().place(card, torch.float32))
    latents = hashed("latents", 1, 4, 5, 2, 3).to(card)
    held = torch.cuda.memory_allocated(card)
    with torch.backends.cudnn.flags(allow_tf32=False):
        frames, _ = visitor.decode(latents, {})
        torch.testing.assert_close(frames, staying.decode(latents, {})[0], rtol=0, atol=1e-4)
    del frames
    assert torch.cuda.memory_allocated(card) <= held
    assert visitor.packed.memory.is_pinned()
