from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from longvid.backends import RESIDENT, Carry, Prompts, Rung
from longvid.backends.contract import check_backend
from longvid.guidance import PromptText
from longvid.noise import noise
from longvid.processes import DDIM, RectifiedFlow
from tests.tiny import TinyBackend, TinyCodec, TinyDenoiser, TinyFilm, TinyNetwork, TinyTextEncoder


@pytest.mark.parametrize(
    "backend",
    [
        TinyBackend(),
        TinyBackend(causal=True),
        TinyBackend(held_frames=3),
        TinyBackend(window_units=1, steps=3),
        TinyBackend(process=RectifiedFlow("clean - noise")),
        TinyBackend(process=DDIM(torch.linspace(0.999, 0.005, 1000), "velocity")),
    ],
    ids=["tiny", "causal", "holds frames back", "one unit", "other sign", "ddim"],
)
def test_the_tiny_backend_is_one(backend: TinyBackend) -> None:
    check_backend(backend)


def test_options_and_size() -> None:
    check_backend(TinyBackend(), size=(16, 40), options={"gain": 0.5})


def test_pictures_of_the_tiny_codecs() -> None:
    """A still film's latent is a picture's; a causal codec's first latent is one frame's."""
    picture = noise(0, 0, 0, (1, 3, 16, 24))
    for codec, frames in ((TinyCodec(False, 0), 4), (TinyCodec(True, 0), 1)):
        still = picture[:, :, None].expand(-1, -1, frames, -1, -1)
        torch.testing.assert_close(codec.encode_picture(picture), codec.encode(still))


# Every way to break it is found, and named

denoise = TinyDenoiser.__call__
decode, encode, encode_picture = TinyCodec.decode, TinyCodec.encode, TinyCodec.encode_picture
read, text, for_units = TinyTextEncoder.__call__, TinyFilm.text, PromptText.for_units
network = TinyFilm.network


def remembering(self: TinyCodec, chunk: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
    remembered = REMEMBERED.pop() if REMEMBERED else chunk
    REMEMBERED.append(chunk.clone())
    return decode(self, chunk, {"latent": remembered[:, :, -1:]})


REMEMBERED: list[Tensor] = []


def changing_its_carry(self: TinyCodec, chunk: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
    frames, after = decode(self, chunk, carry)
    SHARED["latent"] = SHARED.get("latent", torch.zeros_like(after["latent"])).copy_(after["latent"])
    return frames, after | SHARED


SHARED: Carry = {}


def in_one_batch(self: TinyTextEncoder, prompts: Sequence[str]) -> Prompts:
    encoded = read(self, prompts)
    return replace(encoded, embeddings=encoded.embeddings - encoded.embeddings.mean(0))


def of_the_whole_film(self: PromptText, units: Sequence[int]) -> PromptText:
    return for_units(self, range(len(units)))


def at_full_strength(self: TinyFilm) -> TinyNetwork:
    return network(replace(self, loras=tuple(replace(lora, strength=1.0) for lora in self.loras)))


def of_mean_prompt(self: TinyDenoiser, x: Tensor, t: Tensor, text: PromptText) -> Tensor:
    return denoise(self, x, t, replace(text, mix=text.mix.mean(0).expand_as(text.mix)))


def of_every_prompt(self: TinyDenoiser, x: Tensor, t: Tensor, text: PromptText) -> Tensor:
    return denoise(self, x, t, replace(text, mix=(text.mix + 0.1) / (1 + 0.1 * text.mix.shape[1])))


def of_one_unit_a_time(self: TinyDenoiser, x: Tensor, t: Tensor, text: PromptText) -> Tensor:
    units = len(text.mix)
    parts = zip(x.chunk(units, 2), t.chunk(units, 1), strict=True)
    return torch.cat([denoise(self, *part, text.for_units([k])) for k, part in enumerate(parts)], dim=2)


def by_the_unit(self: TinyDenoiser, x: Tensor, t: Tensor, text: PromptText) -> Tensor:
    """As a network whose units have a place of their own."""
    place = torch.arange(len(text.mix)).repeat_interleave(x.shape[2] // len(text.mix))
    return denoise(self, x, t, text) + place.view(1, 1, -1, 1, 1) / 10


def blind_to_what_is_clean(self: TinyDenoiser, x: Tensor, t: Tensor, text: PromptText) -> Tensor:
    seen = x * (t > 0).view(len(x), 1, -1, 1, 1)
    return denoise(self, seen, t, text)


count = itertools.count()

BROKEN: dict[str, tuple[type, str, Any, str]] = {
    "steps do not fit": (
        TinyBackend,
        "geometry",
        replace(TinyBackend().geometry, steps=7),
        "geometry.steps 7 must be a multiple of window_units 4",
    ),
    "sizes do not fit": (
        TinyBackend,
        "geometry",
        replace(TinyBackend().geometry, sizes=((24, 18),)),
        "24x18 is not a multiple of pixel_stride 4",
    ),
    "no LoRA is taken on": (
        TinyFilm,
        "network",
        lambda self: TinyNetwork(self.gain),
        "lora_layers() names layers, and for_film ignores spec.loras",
    ),
    "a LoRA of strength 0 acts": (
        TinyFilm,
        "network",
        at_full_strength,
        "a LoRA of strength 0 changes the network's numbers",
    ),
    "any option goes": (
        TinyBackend,
        "check_options",
        lambda *_: None,
        "check_options accepts an unknown key",
    ),
    "missing files": (TinyBackend, "missing_files", lambda *_: ["weights/a"], "missing_files() names"),
    "negative memory": (
        TinyBackend,
        "rungs",
        lambda *_: [Rung(RESIDENT, -1, "")],
        "None is the value for not known",
    ),
    "no resident rung": (TinyBackend, "rungs", lambda *_: [Rung("tiled", 1, "")], "must be 'resident'"),
    "wrong weights": (TinyBackend, "check_weights", lambda _: ["a is missing"], "check_weights"),
    "schedule falls": (TinyFilm, "schedule", lambda _, u: 1 - u, "schedule must rise strictly"),
    "schedule starts late": (TinyFilm, "schedule", lambda _, u: 0.1 + 0.9 * u, "schedule(0) is 0.1"),
    "schedule ends early": (TinyFilm, "schedule", lambda _, u: 0.9 * u, "schedule(1) is 0.9"),
    "steps go uphill": (
        RectifiedFlow,
        "step",
        lambda _, x, slope, t, t_next: x - (t_next - t) * slope,
        "process.step with the true slope misses",
    ),
    "prompts are encoded together": (TinyTextEncoder, "__call__", in_one_batch, "encode each alone"),
    "no text": (
        TinyDenoiser,
        "__call__",
        lambda self, x, t, text: denoise(self, x, t, text.null()),
        "another prompt for unit 0 of 3 does not change",
    ),
    "one text for all": (TinyDenoiser, "__call__", of_mean_prompt, "not which unit each is for"),
    "all prompts are heard": (
        TinyDenoiser,
        "__call__",
        of_every_prompt,
        "a prompt that no unit of the window uses",
    ),
    "units are mixed up": (PromptText, "for_units", of_the_whole_film, "text.for_units does not give"),
    "null is the prompt": (PromptText, "null", lambda self: self, "text.null() is the prompt itself"),
    "negatives are ignored": (
        TinyFilm,
        "text",
        lambda self, prompts, negatives, mix: text(self, prompts, {}, mix),
        "with a negative prompt, text.null()",
    ),
    "no blend": (
        TinyDenoiser,
        "__call__",
        lambda self, x, t, text: denoise(self, x, t, replace(text, mix=text.mix.round())),
        "a blend of two prompts equals one of them",
    ),
    "no time": (
        TinyDenoiser,
        "__call__",
        lambda self, x, t, text: denoise(self, x, torch.full_like(t, 0.5), text),
        "another time for unit 0 of 3",
    ),
    "the first time for all": (
        TinyDenoiser,
        "__call__",
        lambda self, x, t, text: denoise(self, x, t[:, :1].expand_as(t), text),
        "another time for unit 1 of 3",
    ),
    "the mean time for all": (
        TinyDenoiser,
        "__call__",
        lambda self, x, t, text: denoise(self, x, t.mean(1, keepdim=True).expand_as(t), text),
        "a time a frame is needed, not their mean",
    ),
    "chunks are alone": (TinyDenoiser, "__call__", of_one_unit_a_time, "the network must look across frames"),
    "too few frames": (
        TinyDenoiser,
        "__call__",
        lambda self, x, t, text: denoise(self, x, t, text)[:, :, 1:],
        "get a prediction of shape",
    ),
    "a die is thrown": (
        TinyDenoiser,
        "__call__",
        lambda self, x, t, text: denoise(self, x, t, text) * (1 + next(count)),
        "two equal calls give different numbers",
    ),
    "samples are mixed": (
        TinyDenoiser,
        "__call__",
        lambda self, x, t, text: denoise(self, x.mean(0, keepdim=True).expand_as(x), t, text),
        "a batch of two gives other predictions",
    ),
    "a frame is lost": (
        TinyCodec,
        "decode",
        lambda self, chunk, carry: (decode(self, chunk, carry)[0][:, :, 1:], {}),
        "chunks decode to [7, 7, 7] frames, the geometry says [8, 8, 8]",
    ),
    "half a picture": (
        TinyCodec,
        "decode",
        lambda self, chunk, carry: (decode(self, chunk, carry)[0][..., ::2], {}),
        "decoded frames have shape",
    ),
    "a memory outside the carry": (TinyCodec, "decode", remembering, "remembers something outside"),
    "carries share a tensor": (TinyCodec, "decode", changing_its_carry, "changes the carry in place"),
    "half the latents": (
        TinyCodec,
        "encode",
        lambda self, video: encode(self, video)[:, :, ::2],
        "8 frames encode to latents",
    ),
    "a picture is a chunk": (
        TinyCodec,
        "encode_picture",
        lambda self, picture: encode_picture(self, picture).expand(-1, -1, 2, -1, -1),
        "a picture encodes to a latent of shape (1, 3, 2, 4, 6), not (1, 3, 1, 4, 6)",
    ),
    "a picture is lost": (
        TinyCodec,
        "encode_picture",
        lambda self, picture: 0 * encode_picture(self, picture),
        "another picture encodes to the same latent",
    ),
    "a picture is drawn": (
        TinyCodec,
        "encode_picture",
        lambda self, picture: encode_picture(self, picture) + next(count),
        "a picture encoded twice gives different latents",
    ),
    "units count": (TinyDenoiser, "__call__", by_the_unit, "units of one latent each"),
    "pictures are not seen": (
        TinyDenoiser,
        "__call__",
        blind_to_what_is_clean,
        "changes no prediction, or each picture the same",
    ),
    "no fingerprint": (TinyFilm, "fingerprint", "tiny", "must be a SHA-256"),
    "another fingerprint": (
        TinyFilm,
        "fingerprint",
        property(lambda _: f"{next(count):064d}"),
        "fingerprint changes",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_backend_is_told_what_is_wrong(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, broken, message = BROKEN[name]
    monkeypatch.setattr(owner, attribute, broken)
    with pytest.raises(AssertionError, match=re.escape(message)):
        check_backend(TinyBackend())
