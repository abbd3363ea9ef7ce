"""The autoencoder against the recorded numbers, its real size against the published list, and its codec."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longvid.backends.opensora.config import SpatialSize, TemporalSize, VAESize
from longvid.backends.opensora.vae import (
    OpenSoraCodec,
    TemporalAutoencoder,
    VideoAutoencoder,
    decode_tiled,
    decoding_dtype,
    posterior,
)
from tests.backends.opensora.cases import COPY, SHARED, Case

KIND = "vae"


def size(config: dict[str, Any]) -> VAESize:
    def read(kind: type[Any], said: dict[str, Any]) -> Any:
        named = {field.name: said[field.name] for field in fields(kind) if field.name in said}
        return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in named.items()})

    parts = {"spatial": SpatialSize, "temporal": TemporalSize}
    return read(VAESize, config | {name: read(kind, config[name]) for name, kind in parts.items()})


def autoencoder(case: Case) -> VideoAutoencoder:
    """What a recording was made with, or what a model's weights are of."""
    model = case.beside(case.config["model"]) if "model" in case.config else case
    network = VideoAutoencoder(size(model.config)).eval().requires_grad_(False)
    network.load_state_dict(case.weights())
    return network


def small() -> VideoAutoencoder:
    return autoencoder(Case(COPY / "vae_pipeline_model.json"))


def close(ours: Tensor, recorded: Tensor) -> None:
    assert ours.shape == recorded.shape
    torch.testing.assert_close(ours, recorded, rtol=0, atol=1e-5 * recorded.abs().max().item())


def replayed(draws: Sequence[Tensor]) -> Callable[[Sequence[int]], Tensor]:
    rest = iter(draws)

    def draw(shape: Sequence[int]) -> Tensor:
        drawn = next(rest)
        assert drawn.shape == shape
        return drawn

    return draw


def test_recording(case: Case) -> None:
    """Every tensor of a recording is an input or is compared; a name of another grammar fails."""
    recorded = case.tensors()
    network = autoencoder(case)
    temporal = network.temporal_vae

    def moments(frames: str) -> Tensor:
        name = f"mom/{frames}"
        return recorded[name] if name in recorded else temporal.moments(recorded[f"in/x{frames}"])

    def mean(frames: str) -> Tensor:
        name = f"mean/{frames}"
        return recorded[name] if name in recorded else posterior(moments(frames), None)

    def latents(key: str) -> Tensor:
        name = f"pipe_enc_mean/{key}"
        return recorded[name] if name in recorded else network.encode(recorded[f"pipe_in/{key}"])

    for name, tensor in recorded.items():
        match name.split("/"):
            case ["in" | "pipe_in" | "lat_in" | "pipe_draw", *_]:
                continue
            case ["pipe_enc_mean", key]:
                close(network.encode(recorded[f"pipe_in/{key}"]), tensor)
            case ["pipe_spatial_mean", key]:
                close(network.encode_spatial(recorded[f"pipe_in/{key}"]), tensor)
            case ["pipe_enc_sampled", key]:
                draws = [recorded[draw] for draw in sorted(recorded) if draw.startswith(f"pipe_draw/{key}/")]
                close(network.encode(recorded[f"pipe_in/{key}"], replayed(draws)), tensor)
            case ["pipe_dec", key]:
                close(network.decode(latents(key), frames_of(key)), tensor)
            case ["pipe_dec_tz", key]:
                chunks = network.decode_temporal(latents(key), frames_of(key))
                close(torch.cat(list(chunks), dim=2), tensor)
            case ["lat_dec_tz", key]:
                chunks = network.decode_temporal(recorded[f"lat_in/{key}"], wanted(key))
                close(torch.cat(list(chunks), dim=2), tensor)
            case ["mom", frames]:
                close(temporal.moments(recorded[f"in/x{frames}"]), tensor)
            case ["mean", frames]:
                close(posterior(moments(frames), None), tensor)
            case ["std", frames]:
                close(posterior(moments(frames), torch.ones) - posterior(moments(frames), None), tensor)
            case ["dec", frames]:
                close(temporal.decode(mean(frames), int(frames)), tensor)
            case ["dec_short", key]:
                close(temporal.decode(recorded[f"in/{key.split('_')[0]}"], wanted(key)), tensor)
            case ["mid", part]:
                frames = frames_meant(case, name)
                seen = watched(temporal, part)
                temporal.moments(recorded[f"in/x{frames}"])
                temporal.decode(mean(frames), int(frames))
                close(seen.pop(), tensor)
            case _:
                pytest.fail(f"{case.path}: no test knows what {name} is")


def frames_of(key: str) -> int:
    """ "17x24x32" is 17 frames of 24 x 32."""
    return int(key.split("x")[0])


def wanted(key: str) -> int:
    """ "z5_nf12" is 5 latents decoded with 12 frames wanted."""
    found = re.search(r"_nf(\d+)$", key)
    assert found
    return int(found[1])


def frames_meant(case: Case, name: str) -> str:
    """The number of frames that a tensor's meaning names, as "T=17", or the only one that was recorded."""
    meanings = [key["meaning"] for key in case.about.get("keys", []) if name in key["names"]]
    found = re.findall(r"T=(\d+)", " ".join(meanings)) or re.findall(r"in/x(\d+)", " ".join(case.tensors()))
    assert len(found) == 1, name
    return found[0]


def watched(temporal: TemporalAutoencoder, part: str) -> list[Tensor]:
    """Where what a layer gives will be found."""
    layer = {
        "enc_conv_in": temporal.encoder.conv_in,
        "enc_out": temporal.encoder,
        "post_quant": temporal.post_quant_conv,
        "dec_conv1": temporal.decoder.conv1,
        "dec_out_full": temporal.decoder,
    }[part]
    seen: list[Tensor] = []
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    return seen


def test_published_size_has_517_tensors() -> None:
    with torch.device("meta"):
        state = VideoAutoencoder(VAESize()).state_dict()
    assert len(state) == 517
    temporal = [tensor.numel() for name, tensor in state.items() if name.startswith("temporal_vae.")]
    spatial = [tensor.numel() for name, tensor in state.items() if name.startswith("spatial_vae.module.")]
    assert (len(temporal), sum(temporal)) == (267, 309_687_144)
    assert (len(spatial), sum(spatial)) == (248, 83_653_863)


def test_published_size_has_the_published_names_and_shapes() -> None:
    published = SHARED.parent / "checkpoint_keys.json"
    if not published.is_file():
        pytest.skip("no checkpoint_keys.json beside this checkout: names and shapes are only counted")
    with torch.device("meta"):
        state = VideoAutoencoder(VAESize()).state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == json.loads(
        published.read_text("utf-8")
    )["vae"]


def test_chunks_decode_alone_as_they_do_together() -> None:
    codec = OpenSoraCodec(small())
    z = torch.randn(2, 4, 15, 2, 3, generator=torch.Generator().manual_seed(0))
    pieces = [codec.decode(chunk, {}) for chunk in z.split(5, dim=2)]
    assert [(frames.shape, carry) for frames, carry in pieces] == [((2, 3, 17, 16, 24), {})] * 3
    assert codec.flush({}) is None
    close(codec.decode(z, {})[0], torch.cat([frames for frames, _ in pieces], dim=2))


def test_frames_left_over_decode_to_as_many_as_they_were() -> None:
    codec = OpenSoraCodec(small())
    for frames, latents in ((1, 1), (5, 2), (17, 5), (18, 6), (34, 10)):
        z = codec.encode(torch.zeros(1, 3, frames, 16, 24))
        assert z.shape == (1, 4, latents, 2, 3)
        assert codec.decode(z, {})[0].shape == (1, 3, frames, 16, 24)


def test_a_picture_is_a_film_of_one_frame() -> None:
    codec = OpenSoraCodec(small())
    picture = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latent = codec.encode_picture(picture)
    assert latent.shape == (1, 4, 1, 2, 3)
    assert torch.equal(latent, codec.encode(picture[:, :, None]))


def test_encoding_is_a_function_of_the_video_unless_it_draws() -> None:
    network = small()
    video = torch.rand(1, 3, 5, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.equal(network.encode(video), network.encode(video))

    def sampled(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return network.encode(video, lambda shape: torch.randn(shape, generator=generator))

    assert torch.equal(sampled(1), sampled(1))
    assert not torch.equal(sampled(1), sampled(2))


def test_samples_lie_a_deviation_times_the_draw_from_the_mean() -> None:
    log_variance = [2 * math.log(3), 99.0, -99.0]
    moments = torch.tensor([1.0, 2.0, 0.0, *log_variance]).view(1, 6, 1, 1, 1)
    drawn = posterior(moments, lambda shape: torch.full(shape, 2.0))
    expected = torch.tensor([7.0, 2 + 2 * math.exp(10), 2 * math.exp(-15)])
    torch.testing.assert_close(drawn.flatten(), expected, rtol=1e-6, atol=0)
    assert posterior(moments, None).flatten().tolist() == [1, 2, 0]


def test_frames_still_wanted_fall_below_none() -> None:
    chunks = small().decode_temporal(torch.zeros(1, 4, 16, 1, 1), 20)
    # 17, 3, -14 and -31 are wanted: 3, 1, 2 and 3 frames are dropped of four for each latent.
    assert [chunk.shape[2] for chunk in chunks] == [17, 19, 18, 1]


def test_the_norms_of_each_autoencoder_have_its_epsilon() -> None:
    """Which barely shows in what the last ones give."""

    def epsilons(network: nn.Module) -> set[float]:
        return {norm.eps for norm in network.modules() if isinstance(norm, nn.GroupNorm)}

    network = small()
    assert epsilons(network.temporal_vae) == {1e-5}
    assert epsilons(network.spatial_vae) == {1e-6}


def test_a_micro_batch_bounds_the_spatial_decoder() -> None:
    network = small()
    z = torch.randn(1, 4, 5, 2, 3, generator=torch.Generator().manual_seed(0))
    decoded = network.decode(z, 17)
    seen: list[int] = []
    network.spatial_vae.module.decoder.register_forward_pre_hook(
        lambda module, inputs: seen.append(len(inputs[0]))
    )
    network.micro_batch_size = 3
    close(network.decode(z, 17), decoded)
    assert seen == [3, 3, 3, 3, 3, 2]


def test_one_tile_is_the_whole_picture() -> None:
    network = small()
    z = torch.randn(1, 4, 7, 3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(decode_tiled(network, z, 24, tile_cells=4, overlap_cells=1), network.decode(z, 24))


@pytest.mark.parametrize("overlap_cells", [0, 1, 2])
def test_tiles_of_a_picture_that_is_the_same_everywhere_blend_to_it(overlap_cells: int) -> None:
    """With a decoder that is a function of each cell alone, tiling must change nothing."""
    network = small()
    network.spatial_vae.decode = lambda z: z[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3)
    z = torch.randn(1, 4, 5, 7, 10, generator=torch.Generator().manual_seed(0))
    close(decode_tiled(network, z, 17, 3, overlap_cells), network.decode(z, 17))


def test_tiles_are_blended_and_never_wider_than_asked() -> None:
    network = small()
    z = torch.randn(1, 4, 1, 3, 7, generator=torch.Generator().manual_seed(0))
    sides: list[tuple[int, ...]] = []
    network.spatial_vae.module.decoder.register_forward_pre_hook(
        lambda module, inputs: sides.append(tuple(inputs[0].shape[-2:]))
    )
    tiled, _ = OpenSoraCodec(network, tile_cells=4).decode(z, {})
    assert sides == [(3, 4), (3, 4)]
    (spatial,) = network.decode_temporal(z, 1)
    left, right = network.decode_spatial(spatial[..., :4]), network.decode_spatial(spatial[..., 3:])
    torch.testing.assert_close(tiled[..., :24], left[..., :24])
    torch.testing.assert_close(tiled[..., 32:], right[..., 8:])
    share = (torch.arange(8) + 0.5) / 8
    torch.testing.assert_close(tiled[..., 24:32], left[..., 24:] * (1 - share) + right[..., :8] * share)


def test_placing_keeps_scale_and_shift_exact() -> None:
    network = small()
    scale = network.scale.clone()
    z = torch.randn(1, 4, 5, 2, 3, generator=torch.Generator().manual_seed(0))
    decoded = network.decode(z, 17)
    network.place(torch.device("cpu"), torch.float32)
    close(network.decode(z, 17), decoded)
    network.place(torch.device("cpu"), torch.bfloat16)
    rounded = network.decode(z, 17)
    assert network.dtype == torch.bfloat16
    assert torch.equal(network.scale, scale)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - decoded).square().mean().sqrt() < 0.05 * decoded.std()


def test_decoding_dtype() -> None:
    cpu, card = torch.device("cpu"), torch.device("cuda")
    assert decoding_dtype(card, torch.bfloat16) == torch.bfloat16
    assert decoding_dtype(card, torch.float16) == torch.float32
    assert decoding_dtype(card, torch.float32) == torch.float32
    assert decoding_dtype(cpu, torch.bfloat16) == torch.float32


@pytest.mark.gpu
def test_codec_takes_tensors_of_the_cpu_and_gives_them_back() -> None:
    video = torch.rand(1, 3, 17, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    here = OpenSoraCodec(small())
    card = OpenSoraCodec(small().place(torch.device("cuda"), torch.float32))
    with torch.backends.cudnn.flags(allow_tf32=False):
        z = card.encode(video)
        frames, _ = card.decode(z, {})
    assert z.device == frames.device == video.device
    torch.testing.assert_close(z, here.encode(video), rtol=0, atol=1e-3)
    torch.testing.assert_close(frames, here.decode(z, {})[0], rtol=0, atol=1e-3)
