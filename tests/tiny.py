"""A tiny random backend that is every Protocol of longvid.backends at once: fast, deterministic, torch only.

    from tests.tiny import TinyBackend
    film = TinyBackend().for_film(SPEC, RUNTIME)

Four window units of two latents, S = 8, 24x16 pixels as 3x4x6 latents, four frames a latent. The network
mixes frames, so that a window's content matters; has a time a frame; and hears its prompts as words, each
hashed to a vector. Its clean estimates lie in (-1, 1), so a film's pixels do. A word that begins with "zz" is
unknown to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor

from longvid.backends import (
    RESIDENT,
    Carry,
    FilmSpec,
    Geometry,
    Process,
    Prompts,
    Rung,
    Runtime,
)
from longvid.downloads import Download
from longvid.errors import UserError
from longvid.guidance import PromptText
from longvid.processes import RectifiedFlow

SPEC = FilmSpec((24, 16), Fraction(12), 4, {})
RUNTIME = Runtime(torch.device("cpu"), torch.float32)

LATENT_FRAMES = 4
WIDTH = 8


def hashed(name: str, *shape: int) -> Tensor:
    """Normal numbers that depend on the name alone."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class TinyBackend:
    """``causal``: a run's first chunk decodes to five frames instead of eight. ``held_frames``: so many
    frames are held back by the codec until the next chunk or the flush. ``ladder``: its rungs, which differ
    in nothing but what they say; by default it has one."""

    name: str = "tiny"
    causal: bool = False
    held_frames: int = 0
    window_units: int = 4
    steps: int = 8
    guidance: float = 2.0
    process: Process = field(default_factory=RectifiedFlow)
    licence: str = "none: it has no weights"
    folder: Path = Path(__file__).parent
    downloads: tuple[Download, ...] = ()
    ladder: tuple[Rung, ...] = ()

    @property
    def geometry(self) -> Geometry:
        return Geometry(
            chunk_latents=2,
            chunk_frames=8,
            first_chunk_frames=5 if self.causal else 8,
            channels=3,
            pixel_stride=4,
            window_units=self.window_units,
            steps=self.steps,
            guidance=self.guidance,
            sizes=((24, 16), (32, 32)),
            any_size=True,
            fps=Fraction(12),
            fps_min=Fraction(1),
            fps_max=Fraction(60),
            output_width_px=24,
        )

    def check_options(self, options: Mapping[str, Any]) -> None:
        for key, value in options.items():
            if key != "gain":
                raise UserError(f"model_options.{key}: unknown; known: gain")
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 10:
                raise UserError(f"model_options.gain: {value!r} is not a number above 0 and up to 10")

    def unknown_words(self, prompt: str) -> list[str]:
        return [word for word in prompt.split() if word.startswith("zz")]

    def missing_files(self) -> list[str]:
        return []

    def check_weights(self) -> list[str]:
        return []

    def with_random_weights(self) -> TinyBackend:
        return self

    def rungs(self, spec: FilmSpec, value_bytes: int) -> Sequence[Rung]:
        return self.ladder or [
            Rung(RESIDENT, 1000 * spec.size[0] * spec.size[1], "everything stays in memory")
        ]

    def for_film(self, spec: FilmSpec, runtime: Runtime) -> TinyFilm:
        self.check_options(spec.options)
        return TinyFilm(self, float(spec.options.get("gain", 1)), runtime.device, runtime.dtype)


def backend(folder: Path | None) -> TinyBackend:
    """The entry point's shape."""
    return TinyBackend()


@dataclass(frozen=True)
class TinyFilm:
    backend: TinyBackend
    gain: float
    device: torch.device
    dtype: torch.dtype

    @property
    def process(self) -> Process:
        return self.backend.process

    def schedule(self, level: Tensor) -> Tensor:
        return 1.5 * level / (1 + 0.5 * level)

    def text_encoder(self) -> TinyTextEncoder:
        return TinyTextEncoder(self.device)

    def text(self, prompts: Prompts, negatives: Mapping[int, Prompts], mix: Tensor) -> PromptText:
        nulls = Prompts(torch.zeros_like(prompts.embeddings), prompts.mask)
        return PromptText.of(prompts, nulls, negatives, mix).to(self.device)

    def denoiser(self) -> TinyDenoiser:
        return TinyDenoiser(self.gain, self.device, self.dtype)

    def codec(self) -> TinyCodec:
        return TinyCodec(self.backend.causal, self.backend.held_frames)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"tiny gain={self.gain}".encode()).hexdigest()


@dataclass(frozen=True)
class TinyTextEncoder:
    device: torch.device
    tokens: int = 12

    def __call__(self, prompts: Sequence[str]) -> Prompts:
        embeddings = torch.zeros(len(prompts), self.tokens, WIDTH)
        mask = torch.zeros(len(prompts), self.tokens, dtype=torch.bool)
        for p, prompt in enumerate(prompts):
            for n, word in enumerate(prompt.split()[: self.tokens]):
                embeddings[p, n] = hashed(word, WIDTH)
                mask[p, n] = True
        return Prompts(embeddings.to(self.device), mask.to(self.device))

    def negative(self, prompt: str) -> Prompts:
        return self([prompt])

    def unread(self, prompt: str) -> str:
        return ""


class TinyDenoiser:
    def __init__(self, gain: float, device: torch.device, dtype: torch.dtype) -> None:
        def weight(name: str, *shape: int) -> Tensor:
            return hashed(f"tiny/{name}", *shape).to(device, dtype)

        self.dtype = dtype
        self.gain = gain
        self.enter = weight("enter", WIDTH, 3) / 2
        self.time = weight("time", WIDTH)
        self.query = weight("query", WIDTH, WIDTH) / 4
        self.leave = weight("leave", 3, WIDTH) / 5

    def __call__(self, x: Tensor, t: Tensor, text: PromptText) -> Tensor:
        """v = (x - clean) / t with a clean estimate in (-1, 1): exact where the network knows the picture."""
        noisy, times = x.to(self.dtype), rearrange(t, "b f -> b 1 f 1 1").to(self.dtype)
        hidden = torch.einsum("dc,bcfhw->bdfhw", self.enter, noisy) + self.time[:, None, None, None] * times
        hidden = hidden.tanh()

        frames = torch.arange(x.shape[2], device=x.device)
        nearness = (-(frames[:, None] - frames).abs().to(self.dtype)).softmax(dim=1)
        hidden = hidden + torch.einsum("fg,bdghw->bdfhw", nearness, hidden)

        # Cross-attention, reduced to the mean word through one map; a blend mixes its outputs.
        words, mask = text.prompts.embeddings.to(self.dtype), text.prompts.mask[..., None].to(self.dtype)
        heard = (words * mask).sum(1) / mask.sum(1).clamp(min=1) @ self.query
        told = repeat(text.mix.to(self.dtype) @ heard, "k d -> d (k l)", l=x.shape[2] // len(text.mix))
        hidden = hidden + told[:, :, None, None]

        clean = torch.einsum("cd,bdfhw->bcfhw", self.leave, hidden).mul(self.gain).tanh()
        return ((noisy - clean) / times.clamp(min=1 / 64)).to(x.dtype)


@dataclass(frozen=True)
class TinyCodec:
    """Latents are means over 4x4 pixels and four frames; a frame is on its way from one latent to the next,
    so the carry holds the last latent (and the frames held back)."""

    causal: bool
    held_frames: int

    def encode(self, video: Tensor) -> Tensor:
        if self.causal:
            video = torch.cat([video[:, :, :1].expand(-1, -1, LATENT_FRAMES - 1, -1, -1), video], dim=2)
        return reduce(video, "b c (f r) (h y) (w x) -> b c f h w", "mean", r=LATENT_FRAMES, y=4, x=4)

    def encode_picture(self, picture: Tensor) -> Tensor:
        return reduce(picture, "b c (h y) (w x) -> b c 1 h w", "mean", y=4, x=4)

    def decode(self, chunk: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        before = carry.get("latent", chunk[:, :, :1])
        share = torch.arange(1, LATENT_FRAMES + 1, device=chunk.device) / LATENT_FRAMES
        share = repeat(share, "r -> (f r) 1 1", f=chunk.shape[2])
        start, goal = (
            repeat(latents, "b c f h w -> b c (f r) (h y) (w x)", r=LATENT_FRAMES, y=4, x=4)
            for latents in (torch.cat([before, chunk[:, :, :-1]], dim=2), chunk)
        )
        frames = start + share * (goal - start)
        if self.causal and "latent" not in carry:
            frames = frames[:, :, LATENT_FRAMES - 1 :]

        frames = torch.cat([carry.get("held", frames[:, :, :0]), frames], dim=2)
        shown = frames.shape[2] - self.held_frames
        return frames[:, :, :shown], {
            "latent": chunk[:, :, -1:].clone(),
            "held": frames[:, :, shown:].clone(),
        }

    def flush(self, carry: Carry) -> Tensor | None:
        return carry["held"] if self.held_frames else None
