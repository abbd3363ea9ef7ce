"""The autoencoder against the recorded numbers, its real size against the published list, and its codec."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from longvid.backends.opensora.config import SpatialSize, TemporalSize, VAESize
from longvid.backends.opensora.vae import VideoAutoencoder, posterior
from tests.backends.opensora.cases import COPY, Case

KIND = "vae"


def size(config: dict[str, Any]) -> VAESize:
    def read(kind: type[Any], said: dict[str, Any]) -> Any:
        named = {field.name: said[field.name] for field in fields(kind) if field.name in said}
        return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in named.items()})

    return VAESize(
        read(SpatialSize, config["spatial"]),
        read(TemporalSize, config["temporal"]),
        config["micro_frame_size"],
        config["micro_batch_size"],
    )


def autoencoder(model: Case) -> VideoAutoencoder:
    network = VideoAutoencoder(size(model.config)).eval().requires_grad_(False)
    network.load_state_dict(model.weights())
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
    network = autoencoder(case.beside(case.config["model"]))
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
                close(network.decode(recorded[f"pipe_enc_mean/{key}"], frames_of(key)), tensor)
            case ["pipe_dec_tz", key]:
                chunks = network.decode_temporal(recorded[f"pipe_enc_mean/{key}"], frames_of(key))
                close(torch.cat(list(chunks), dim=2), tensor)
            case ["lat_dec_tz", key]:
                chunks = network.decode_temporal(recorded[f"lat_in/{key}"], wanted(key))
                close(torch.cat(list(chunks), dim=2), tensor)
            case ["mom", frames]:
                close(network.temporal_vae.moments(recorded[f"in/x{frames}"]), tensor)
            case ["mean", frames]:
                close(posterior(recorded[f"mom/{frames}"], None), tensor)
            case ["std", frames]:
                moments = recorded[f"mom/{frames}"]
                close(posterior(moments, torch.ones) - posterior(moments, None), tensor)
            case ["dec", frames]:
                close(network.temporal_vae.decode(recorded[f"mean/{frames}"], int(frames)), tensor)
            case ["dec_short", key]:
                latents = recorded[f"in/{key.split('_')[0]}"]
                close(network.temporal_vae.decode(latents, wanted(key)), tensor)
            case ["mid", part]:
                close(intermediate(network, recorded, part, frames_meant(case, name)), tensor)
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


def frames_meant(case: Case, name: str) -> int:
    """The number of frames that a tensor's meaning names, as "T=17"."""
    (meaning,) = [key["meaning"] for key in case.about["keys"] if name in key["names"]]
    found = re.search(r"T=(\d+)", meaning)
    assert found
    return int(found[1])


def intermediate(network: VideoAutoencoder, recorded: dict[str, Tensor], part: str, frames: int) -> Tensor:
    """What a layer gives on the way of so many frames to their mean and back."""
    layer = {
        "enc_conv_in": network.temporal_vae.encoder.conv_in,
        "enc_out": network.temporal_vae.encoder,
        "post_quant": network.temporal_vae.post_quant_conv,
        "dec_conv1": network.temporal_vae.decoder.conv1,
        "dec_out_full": network.temporal_vae.decoder,
    }[part]
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    network.temporal_vae.moments(recorded[f"in/x{frames}"])
    network.temporal_vae.decode(recorded[f"mean/{frames}"], frames)
    hook.remove()
    (output,) = seen
    return output
