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
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from longvid.backends import (
    RESIDENT,
    Carry,
    CodecPart,
    FilmSpec,
    Geometry,
    Lora,
    Process,
    Prompts,
    Rung,
    Runtime,
)
from longvid.downloads import Download
from longvid.errors import UserError
from longvid.files import checksum, write_backend, write_tensors, written_over
from longvid.guidance import PromptText
from longvid.lora import adapting, layers
from longvid.processes import RectifiedFlow

SPEC = FilmSpec((24, 16), Fraction(12), 4, {})
RUNTIME = Runtime(torch.device("cpu"), torch.float32)

LATENT_FRAMES = 4
WIDTH = 8
WEIGHTS, COLOURS = "network.safetensors", "codec.safetensors"
"""In a folder of one's own; without them, the weights are made anew."""


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
    expects: str = ""
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

    def lora_layers(self) -> dict[str, tuple[int, int]]:
        return layers(TinyNetwork(1))

    def rungs(self, spec: FilmSpec, value_bytes: int) -> Sequence[Rung]:
        return self.ladder or [
            Rung(RESIDENT, 1000 * spec.size[0] * spec.size[1], "everything stays in memory")
        ]

    def for_film(self, spec: FilmSpec, runtime: Runtime) -> TinyFilm:
        self.check_options(spec.options)
        gain = float(spec.options.get("gain", 1))
        return TinyFilm(self, gain, runtime.device, runtime.dtype, spec.loras)


def backend(folder: Path | None) -> TinyBackend:
    """The entry point's shape."""
    return TinyBackend() if folder is None else TinyBackend(folder=folder)


@dataclass(frozen=True)
class TinyFilm:
    backend: TinyBackend
    gain: float
    device: torch.device
    dtype: torch.dtype
    loras: tuple[Lora, ...] = ()

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
        return TinyDenoiser(self.network(), self.device, self.dtype)

    def trainee(self, fresh: int | None = None) -> TinyTrainee:
        network = self.network()
        if fresh is not None:
            with torch.no_grad():
                for name, parameter in network.named_parameters():
                    parameter.copy_(hashed(f"{fresh}/{name}", *parameter.shape) / 4)
        return TinyTrainee(self, network.to(self.device))

    def codec_trainee(self, part: CodecPart, fresh: int | None = None) -> TinyCodecTrainee:
        if self.backend.causal:
            raise UserError(f"--train {part}: the causal tiny codec is not trained here; train the denoiser")
        colours = self.colours()
        if fresh is not None:
            with torch.no_grad():
                for name in ("shown",) if part == "decoder" else ("seen", "shown"):
                    colours.get_parameter(name).copy_(hashed(f"{fresh}/{name}", 3, 3))
        colours.seen.requires_grad_(part == "codec")
        return TinyCodecTrainee(self, colours.to(self.device))

    def network(self) -> TinyNetwork:
        """Of its weights, and what LoRAs make of them."""
        network = TinyNetwork(self.gain)
        adapted = adapting(self.loras, layers(network), self.backend.name)
        own = self.backend.folder / WEIGHTS
        weights = load_file(own) if own.exists() else network.state_dict()
        network.load_state_dict({name: adapted(name, weight) for name, weight in weights.items()})
        return network

    def codec(self) -> TinyCodec:
        return TinyCodec(self.backend.causal, self.backend.held_frames, self.colours().requires_grad_(False))

    def colours(self) -> TinyColours:
        colours, own = TinyColours(), self.backend.folder / COLOURS
        if own.exists():
            colours.load_state_dict(load_file(own))
        return colours

    @property
    def fingerprint(self) -> str:
        files = (self.backend.folder / name for name in (WEIGHTS, COLOURS))
        weights = "".join(f" {checksum(own)}" for own in files if own.exists())
        return hashlib.sha256(f"tiny gain={self.gain}{weights}".encode()).hexdigest()

    def save(self, folder: Path, network: Mapping[str, Tensor], colours: Mapping[str, Tensor]) -> None:
        """A folder of these weights, those that are not named as they are."""
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / WEIGHTS, written_over(self.network().state_dict(), network))
        write_tensors(folder / COLOURS, written_over(self.colours().state_dict(), colours))
        write_backend(folder, self.backend.name)


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


class TinyBlock(nn.Module):
    """A frame mixes with its neighbours, then hears its words."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, hidden: Tensor, heard: Tensor, mix: Tensor) -> Tensor:
        """hidden [b d f h w]; heard [b p d], the mean word of each prompt; mix [b f p]."""
        frames = torch.arange(hidden.shape[2], device=hidden.device)
        nearness = (-(frames[:, None] - frames).abs().to(hidden.dtype)).softmax(dim=1)
        hidden = hidden + torch.einsum("fg,bdghw->bdfhw", nearness, hidden)
        # Cross-attention, reduced to the mean word through one map; a blend mixes its outputs.
        told = torch.stack([shares @ self.query(words) for words, shares in zip(heard, mix, strict=True)])
        return hidden + rearrange(told, "b f d -> b d f 1 1")


class TinyNetwork(nn.Module):
    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain
        self.enter = nn.Parameter(hashed("tiny/enter", WIDTH, 3) / 2)
        self.time = nn.Parameter(hashed("tiny/time", WIDTH))
        self.blocks = nn.ModuleList([TinyBlock()])
        self.leave = nn.Parameter(hashed("tiny/leave", 3, WIDTH) / 5)
        with torch.no_grad():
            self.blocks[0].query.weight.copy_(hashed("tiny/query", WIDTH, WIDTH).T / 4)

    def forward(self, x: Tensor, t: Tensor, heard: Tensor, mix: Tensor) -> Tensor:
        """v = (x - clean) / t with a clean estimate in (-1, 1): exact where the network knows the picture."""
        times = rearrange(t, "b f -> b 1 f 1 1")
        hidden = torch.einsum("dc,bcfhw->bdfhw", self.enter, x) + self.time[:, None, None, None] * times
        hidden = hidden.tanh()
        for block in self.blocks:
            hidden = block(hidden, heard, mix)
        clean = torch.einsum("cd,bdfhw->bcfhw", self.leave, hidden).mul(self.gain).tanh()
        return (x - clean) / times.clamp(min=1 / 64)


def listen(text: PromptText, frames: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The mean word of each prompt [p d], and each frame's shares of them [f p]."""
    words, mask = text.prompts.embeddings.to(dtype), text.prompts.mask[..., None].to(dtype)
    mix = repeat(text.mix.to(dtype), "k p -> (k l) p", l=frames // len(text.mix))
    return (words * mask).sum(1) / mask.sum(1).clamp(min=1), mix


class TinyDenoiser:
    def __init__(self, network: TinyNetwork, device: torch.device, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.network = network.to(device, dtype).requires_grad_(False)

    def __call__(self, x: Tensor, t: Tensor, text: PromptText) -> Tensor:
        heard, mix = listen(text, x.shape[2], self.dtype)
        noisy, times = x.to(self.dtype), t.to(self.dtype)
        return self.network(noisy, times, heard[None], mix[None]).to(x.dtype)


@dataclass(frozen=True, eq=False)
class TinyTrainee:
    film: TinyFilm
    network: TinyNetwork
    lora_targets: tuple[str, ...] = ("query",)

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        return tuple(self.network.blocks)

    def predict(self, network: nn.Module, x: Tensor, t: Tensor, texts: Sequence[PromptText]) -> Tensor:
        heard, mixes = zip(*(listen(text, x.shape[2], x.dtype) for text in texts), strict=True)
        prompts = max(len(words) for words in heard)
        padded = torch.stack([F.pad(words, (0, 0, 0, prompts - len(words))) for words in heard])
        mix = torch.stack([F.pad(mix, (0, prompts - mix.shape[1])) for mix in mixes])
        return network(x, t, padded, mix)

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        self.film.save(folder, weights, {})


class TinyColours(nn.Module):
    """All that the codec has to learn: how it ``seen`` and ``shown`` colours mix, at first as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.shown = (nn.Parameter(torch.eye(3)) for _ in range(2))

    def forward(self, frames: Tensor, noise: Tensor, heard: int) -> tuple[Tensor, Tensor]:
        codec = TinyCodec(causal=False, held_frames=0, colours=self)
        latents = codec.encode(frames)
        noisy = latents + noise
        carry = {"latent": noisy[:, :, :heard]} if heard else {}
        return latents, codec.decode(noisy[:, :, heard:], carry)[0]


@dataclass(frozen=True, eq=False)
class TinyCodecTrainee:
    film: TinyFilm
    network: TinyColours
    blocks: tuple[nn.Module, ...] = ()
    latent_frames: int = LATENT_FRAMES

    def reconstruct(
        self, network: nn.Module, frames: Tensor, noise: Tensor, heard: int
    ) -> tuple[Tensor, Tensor]:
        return network(frames, noise, heard)

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        self.film.save(folder, {}, {**self.network.state_dict(), **weights})


@dataclass(frozen=True)
class TinyCodec:
    """Latents are means over 4x4 pixels and four frames; a frame is on its way from one latent to the next,
    so the carry holds the last latent (and the frames held back)."""

    causal: bool
    held_frames: int
    colours: TinyColours = field(default_factory=lambda: TinyColours().requires_grad_(False), compare=False)

    def encode(self, video: Tensor) -> Tensor:
        video = torch.einsum("dc,bcfhw->bdfhw", self.colours.seen.to(video), video)
        if self.causal:
            video = torch.cat([video[:, :, :1].expand(-1, -1, LATENT_FRAMES - 1, -1, -1), video], dim=2)
        return reduce(video, "b c (f r) (h y) (w x) -> b c f h w", "mean", r=LATENT_FRAMES, y=4, x=4)

    def encode_picture(self, picture: Tensor) -> Tensor:
        seen = torch.einsum("dc,bchw->bdhw", self.colours.seen.to(picture), picture)
        return reduce(seen, "b c (h y) (w x) -> b c 1 h w", "mean", y=4, x=4)

    def decode(self, chunk: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        before = carry.get("latent", chunk[:, :, :1])
        share = torch.arange(1, LATENT_FRAMES + 1, device=chunk.device) / LATENT_FRAMES
        share = repeat(share, "r -> (f r) 1 1", f=chunk.shape[2])
        start, goal = (
            repeat(latents, "b c f h w -> b c (f r) (h y) (w x)", r=LATENT_FRAMES, y=4, x=4)
            for latents in (torch.cat([before, chunk[:, :, :-1]], dim=2), chunk)
        )
        frames = torch.einsum("dc,bcfhw->bdfhw", self.colours.shown.to(chunk), start + share * (goal - start))
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
