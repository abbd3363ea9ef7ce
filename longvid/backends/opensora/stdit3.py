"""STDiT3, the video transformer of Open-Sora v1.2: blocks over space and over time in turn.

Time is always one per latent frame. Each run of frames reads its own prompts, so that several share a window
and none sees another's tokens. Modules and parameters have the published names.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from longvid.backends.opensora.attention import attend
from longvid.backends.opensora.config import TransformerSize

PATCH = 2
"""Rows and columns of latents in a token."""
SCALAR_FEATURES = 256
EPS = 1e-6
"""Of the layer norms and the RMS norms."""
CACHED_VALUES = 2**18
"""Of an MLP's inner layer, what a CPU computes at once, so that it stays in the cache."""


@dataclass(frozen=True)
class PromptKeys:
    """What one prompt is to the network: its keys and values [2 n h e] for each block, in their order."""

    blocks: tuple[Tensor, ...]


@dataclass(frozen=True)
class Reading:
    """A run of `frames` that read the same prompts, each by its share; the shares sum to 1.

    A prompt comes as its keys, made once by `project`, or, while the weights change, as its embeddings [n d].
    """

    frames: int
    shares: tuple[tuple[PromptKeys | Tensor, float], ...]

    def of_block(self, block: int) -> BlockReading:
        return self.frames, tuple(
            (prompt if isinstance(prompt, Tensor) else prompt.blocks[block], share)
            for prompt, share in self.shares
        )


BlockReading = tuple[int, tuple[tuple[Tensor, float], ...]]
"""A Reading as one block sees it: frames, and (keys and values [2 n h e] or tokens [n d], share) of each
prompt."""


class STDiT3(nn.Module):
    """Predicts the velocity clean - noise of rectified flow, where time 1000 is noise."""

    def __init__(self, size: TransformerSize) -> None:
        super().__init__()
        width = size.hidden_size
        self.size = size
        self.rope = Rotary(width // size.num_heads)
        self.x_embedder = PatchEmbedder(size.in_channels, width)
        self.t_embedder = ScalarEmbedder(width)
        self.fps_embedder = ScalarEmbedder(width)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.y_embedder = CaptionEmbedder(size)
        self.spatial_blocks = nn.ModuleList(Block(size) for _ in range(size.depth))
        self.temporal_blocks = nn.ModuleList(Block(size) for _ in range(size.depth))
        self.final_layer = FinalLayer(width, PATCH**2 * 2 * size.in_channels)

    @property
    def null_embeddings(self) -> Tensor:
        """The null caption [n d], trained in place of a prompt's embeddings."""
        return self.y_embedder.y_embedding

    def project(self, embeddings: Tensor) -> PromptKeys:
        """One prompt's tokens [n d], those that count and no padding, as every block's keys and values.

        They depend on nothing else: once a prompt is enough.
        """
        y = self.y_embedder(embeddings)
        blocks = chain.from_iterable(self.pairs())
        return PromptKeys(tuple(block.cross_attn.project(y) for block in blocks))

    def pairs(self) -> Iterator[tuple[Block, Block]]:
        """A spatial block and the temporal one after it, in the order of the data."""
        pairs = zip(self.spatial_blocks, self.temporal_blocks, strict=True)
        return typing.cast("Iterator[tuple[Block, Block]]", pairs)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        fps: float | Tensor,
        picture: tuple[float, float],
        reads: Sequence[Reading],
    ) -> Tensor:
        """The prediction [b 2c f h w] in float32 for latents x [b c f h w]: first the velocity, then c more.

        t [b f] in 0..1000; fps one number or [b]; `picture` the (height, width) in pixels that positions are
        scaled by; `reads` follow one another over sample 0's frames, then sample 1's, and so on, and cover
        all b·f. Raises ValueError where they do not.
        """
        b, _, f, h, w = x.shape
        if sum(reading.frames for reading in reads) != b * f:
            raise ValueError(f"reads cover {sum(reading.frames for reading in reads)} frames of {b * f}")
        rows, columns = -(-h // PATCH), -(-w // PATCH)
        x = self.x_embedder(F.pad(x, (0, columns * PATCH - w, 0, rows * PATCH - h)))
        x = x + position_embedding(rows, columns, picture, self.size, x.device)
        if not isinstance(fps, Tensor):
            fps = torch.full((b,), fps, device=x.device)
        condition = self.t_embedder(t) + self.fps_embedder(fps)[:, None]
        modulation = rearrange(self.t_block(condition), "b f (six d) -> b f six d", six=6)
        turns = self.rope(f)
        x = x.to(self.y_embedder.y_proj.fc1.weight.dtype)
        reads = self.embedded(reads)
        for i, (spatial, temporal) in enumerate(self.pairs()):
            x = spatial(x, modulation, tuple(reading.of_block(2 * i) for reading in reads))
            x = temporal(x, modulation, tuple(reading.of_block(2 * i + 1) for reading in reads), turns)
        x = self.final_layer(x.float(), condition)
        shape = "b f (i j) (p q c) -> b c f (i p) (j q)"
        return rearrange(x, shape, i=rows, p=PATCH, q=PATCH)[..., :h, :w]

    def embedded(self, reads: Sequence[Reading]) -> list[Reading]:
        """The reads with tokens [n d] for embeddings: made inside the forward pass, as keys are inside the
        blocks', where gradients, sharding and recomputation find them."""
        tokens = {
            id(prompt): self.y_embedder(prompt)
            for reading in reads
            for prompt, _ in reading.shares
            if isinstance(prompt, Tensor)
        }
        return [
            Reading(
                reading.frames, tuple((tokens.get(id(prompt), prompt), s) for prompt, s in reading.shares)
            )
            for reading in reads
        ]


def cast(network: STDiT3, dtype: torch.dtype) -> STDiT3:
    """The network with its matrices in dtype, in place: those of the blocks and of the captions' projection.

    Times, angles, positions and what is made of them stay in float32, where Open-Sora v1.2 rounds them: in
    bfloat16 a time near 1000 is off by up to 2. So do both ends of the network, which cost next to nothing.
    """
    for module in (network.spatial_blocks, network.temporal_blocks, network.y_embedder.y_proj):
        for layer in module.modules():
            if isinstance(layer, nn.Linear | nn.RMSNorm):
                layer.to(dtype)
    return network


class Block(nn.Module):
    """Attention over one axis, cross-attention to the prompts, an MLP, under adaLN (Peebles & Xie 2023)."""

    def __init__(self, size: TransformerSize) -> None:
        super().__init__()
        width = size.hidden_size
        self.scale_shift_table = nn.Parameter(torch.randn(6, width) / width**0.5)
        self.attn = SelfAttention(width, size.num_heads)
        self.cross_attn = CrossAttention(width, size.num_heads)
        self.mlp = MLP(width, size.mlp_ratio * width, width)

    def forward(
        self, x: Tensor, modulation: Tensor, reads: Sequence[BlockReading], turns: Tensor | None = None
    ) -> Tensor:
        """x [b f n d]; modulation [b f 6 d] in float32.

        With `turns` [f e/2 2] a place attends over all frames, without them a frame over all its places.
        """
        modulation = (self.scale_shift_table + modulation)[:, :, :, None].to(x.dtype)
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.unbind(2)
        y = modulate(x, shift1, scale1)
        if turns is None:
            y = self.attn(y)
        else:
            y = self.attn(y.transpose(1, 2).contiguous(), turns).transpose(1, 2)
        x = torch.addcmul(x, gate1, y)
        x = x + self.cross_attn(x, reads)
        return torch.addcmul(x, gate2, self.mlp(modulate(x, shift2, scale2)))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Each token normalised, then scaled and shifted as its frame's time says."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=EPS), 1 + scale)


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.RMSNorm(width // heads, EPS)
        self.k_norm = nn.RMSNorm(width // heads, EPS)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, turns: Tensor | None = None) -> Tensor:
        """What the n tokens of each row [b r n d] read of one another; `turns` [n e/2 2] tell them apart."""
        qkv = rearrange(self.qkv(x), "b r n (three h e) -> (b r) n three h e", three=3, h=self.heads)
        q, k, v = qkv.unbind(2)
        q, k = rms(q.contiguous(), self.q_norm), rms(k.contiguous(), self.k_norm)
        if turns is not None:
            q, k = rotate(q, turns), rotate(k, turns)
        read: Tensor = self.proj(rearrange(attend(q, k, v), "(b r) n h e -> b r n (h e)", b=len(x)))
        return read


def rms(x: Tensor, norm: nn.RMSNorm) -> Tensor:
    """RMS-normalised in x's own dtype, which under autocast is not the weight's: it is rounded then."""
    return F.rms_norm(x, norm.normalized_shape, norm.weight.to(x.dtype), norm.eps)


class CrossAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_linear = nn.Linear(width, width)
        self.kv_linear = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def project(self, y: Tensor) -> Tensor:
        """Keys and values [2 n h e] of a prompt's tokens y [n d]."""
        kv: Tensor = self.kv_linear(y)
        return rearrange(kv, "n (two h e) -> two n h e", two=2, h=self.heads).contiguous()

    def forward(self, x: Tensor, reads: Sequence[BlockReading]) -> Tensor:
        """What the tokens x [b f n d] read of their frames' prompts: o = Σ share · CA(x, prompt).

        A frame is attended for on its own, so that its numbers do not depend on how long its run is.
        """
        q = rearrange(self.q_linear(x), "b f n (h e) -> (b f) n h e", h=self.heads)
        runs = []
        for run, (frames, prompts) in zip(q.split([frames for frames, _ in reads]), reads, strict=True):
            parts = []
            for prompt, share in prompts:
                kv = self.project(prompt) if prompt.ndim == 2 else prompt
                k, v = kv[:, None].expand(-1, frames, -1, -1, -1)
                part = attend(run, k, v)
                parts.append(part if share == 1 else share * part)
            runs.append(sum(parts[1:], parts[0]))
        read: Tensor = self.proj(rearrange(torch.cat(runs), "(b f) n h e -> b f n (h e)", b=len(x)))
        return read


class MLP(nn.Module):
    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        """[... d] of [... d], token by token."""
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            y: Tensor = self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
            return y
        parts = x.flatten(0, -2).split(CACHED_VALUES // self.fc1.out_features)
        return torch.cat([self.fc2(gelu(self.fc1(part))) for part in parts]).view(*x.shape[:-1], -1)


def gelu(x: Tensor) -> Tensor:
    """GELU's tanh form (Hendrycks & Gimpel 2016) as the sigmoid that it equals: on a CPU in half the time."""
    wide = x.float()
    slope = torch.addcmul(wide.new_tensor(1.5957691216), wide, wide, value=0.0713548163)
    return (wide * torch.sigmoid(wide * slope)).to(x.dtype)


class PatchEmbedder(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(channels, width, (1, PATCH, PATCH), (1, PATCH, PATCH))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [b f n d], row by row, of latents [b c f h w] with even sides."""
        # A convolution whose patches do not overlap, as the matrix product that it is.
        patches = rearrange(x, "b c f (i p) (j q) -> b f (i j) (c p q)", p=PATCH, q=PATCH)
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class ScalarEmbedder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(SCALAR_FEATURES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, scalar: Tensor) -> Tensor:
        """[... d] of numbers [...], by their cosines and sines."""
        angles = scalar.float()[..., None] * frequencies(SCALAR_FEATURES // 2, scalar.device)
        embedding: Tensor = self.mlp(torch.cat([angles.cos(), angles.sin()], -1))
        return embedding


class CaptionEmbedder(nn.Module):
    y_embedding: Tensor

    def __init__(self, size: TransformerSize) -> None:
        super().__init__()
        null = torch.randn(size.model_max_length, size.caption_channels) / size.caption_channels**0.5
        self.register_buffer("y_embedding", null)
        self.y_proj = MLP(size.caption_channels, size.hidden_size, size.hidden_size)

    def forward(self, embeddings: Tensor) -> Tensor:
        y: Tensor = self.y_proj(embeddings.to(self.y_proj.fc1.weight.dtype))
        return y


class FinalLayer(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.randn(2, width) / width**0.5)
        self.linear = nn.Linear(width, out)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [b f n d] under condition [b f d]."""
        shift, scale = (self.scale_shift_table + condition[:, :, None])[:, :, :, None].unbind(2)
        patches: Tensor = self.linear(modulate(x, shift, scale))
        return patches


class Rotary(nn.Module):
    """Rotary positions in time (Su et al. 2021); the checkpoint says at which frequencies."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.freqs = nn.Parameter(frequencies(width // 2))

    def forward(self, frames: int) -> Tensor:
        """Cosine and sine [f e/2 2] of the angle by which frame f's query and key are turned."""
        angles = torch.arange(frames, device=self.freqs.device)[:, None] * self.freqs
        return torch.stack([angles.cos(), angles.sin()], -1)


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """x [b n h e], each pair of neighbouring channels turned by `turns` [n e/2 2]."""
    pairs = x.float().unflatten(-1, (-1, 2))
    turns = turns[:, None]
    if torch.compiler.is_compiling():  # It fuses these, and knows no complex numbers.
        (a, b), (cos, sin) = pairs.unbind(-1), turns.unbind(-1)
        turned = torch.stack([a * cos - b * sin, b * cos + a * sin], -1)
    else:  # One pass, ten times as fast on a CPU as to pick every other channel.
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(turns))
    return turned.flatten(-2).to(x.dtype)


def frequencies(count: int, device: torch.device | None = None) -> Tensor:
    """10000^(-k / count) for k = 0 .. count - 1."""
    return torch.exp(-math.log(10_000) / count * torch.arange(count, device=device))


def position_embedding(
    rows: int, columns: int, picture: tuple[float, float], size: TransformerSize, device: torch.device
) -> Tensor:
    """Sines and cosines [n d] of each token's column, then of its row.

    Positions are scaled by the picture's size over the side that the weights were trained at first, and by
    the grid's, so that a larger picture spans the same positions more finely.
    """
    height_px, width_px = picture
    scale = round(math.sqrt(rows * columns)) / (math.sqrt(height_px * width_px) / size.input_sq_size)
    waves = frequencies(size.hidden_size // 4, device)

    def axis(count: int) -> Tensor:
        angles = torch.arange(count, device=device)[:, None] * (scale / count) * waves
        return torch.cat([angles.sin(), angles.cos()], -1)

    grid = (axis(columns).expand(rows, -1, -1), axis(rows)[:, None].expand(-1, columns, -1))
    return torch.cat(grid, -1).flatten(0, 1)
