"""Open-Sora v1.2's video autoencoder: a temporal one round diffusers' spatial one, a chunk at a time.

Frames become latents in two hops, and latents frames in the same two, backwards: the spatial autoencoder
(SDXL's) makes 4 channels of a picture, an eighth as wide and high; the temporal one makes 5 latents of 17
such pictures. Chunks know nothing of each other. Weights have the published state dict's names.

It computes in its parameters' dtype; `decoding_dtype` chooses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from longvid.backends import Carry
from longvid.backends.opensora.config import SpatialSize, TemporalSize, VAESize
from longvid.errors import UserError

SPATIAL_SCALE = 0.18215
"""What Open-Sora v1.2 multiplies spatial latents by (SDXL's own factor is 0.13025)."""

Draw = Callable[[Sequence[int]], Tensor]
"""Standard normal numbers of a shape."""


class CausalConv3d(nn.Module):
    """Convolution [b c f h w] -> [b c' f/stride h w] whose frames see themselves and earlier frames only."""

    def __init__(
        self, channels: int, out_channels: int, kernel: int = 3, time_stride: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        around = kernel // 2
        self.frames_before = kernel - time_stride
        self.conv = nn.Conv3d(
            channels, out_channels, kernel, (time_stride, 1, 1), (0, around, around), bias=bias
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(F.pad(x, (0, 0, 0, 0, self.frames_before, 0)) if self.frames_before else x)
        return y


class Residual(nn.Module):
    """Two normed convolutions beside a skip, which is a convolution too where the width changes."""

    def __init__(self, channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv1 = CausalConv3d(channels, out_channels, bias=False)
        self.norm2 = nn.GroupNorm(groups, out_channels)
        self.conv2 = CausalConv3d(out_channels, out_channels, bias=False)
        self.conv3 = (
            CausalConv3d(channels, out_channels, kernel=1, bias=False)
            if channels != out_channels
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        added: Tensor = y + self.conv3(x)
        return added


def _residuals(channels: int, out_channels: int, size: TemporalSize) -> nn.Sequential:
    widths = [channels] + [out_channels] * size.num_res_blocks
    return nn.Sequential(*(Residual(before, after, size.num_groups) for before, after in pairwise(widths)))


class TemporalEncoder(nn.Module):
    """Spatial latents [b c f h w] -> features [b 2c' f/4 h w]; f is a multiple of the time stride, 4."""

    def __init__(self, size: TemporalSize) -> None:
        super().__init__()
        widths = [size.filters * multiplier for multiplier in size.channel_multipliers]
        self.conv_in = CausalConv3d(size.in_out_channels, size.filters, bias=False)
        self.block_res_blocks = nn.ModuleList(
            _residuals(before, after, size) for before, after in pairwise([size.filters, *widths])
        )
        self.conv_blocks = nn.ModuleList(
            CausalConv3d(width, width, time_stride=2) if halves else nn.Identity()
            for width, halves in zip(widths[:-1], size.temporal_downsample, strict=True)
        )
        self.res_blocks = _residuals(widths[-1], widths[-1], size)
        self.norm1 = nn.GroupNorm(size.num_groups, widths[-1])
        self.conv2 = CausalConv3d(widths[-1], 2 * size.latent_embed_dim, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level, blocks in enumerate(self.block_res_blocks):
            x = blocks(x)
            if level < len(self.conv_blocks):
                x = self.conv_blocks[level](x)
        x = self.res_blocks(x)
        x = self.conv2(F.silu(self.norm1(x)))
        return x


class TemporalDecoder(nn.Module):
    """Features [b c' l h w] -> spatial latents [b c 4l h w], the levels of the encoder from last to first."""

    def __init__(self, size: TemporalSize) -> None:
        super().__init__()
        widths = [size.filters * multiplier for multiplier in size.channel_multipliers]
        self.doubles = size.temporal_downsample
        self.conv1 = CausalConv3d(size.latent_embed_dim, widths[-1])
        self.res_blocks = _residuals(widths[-1], widths[-1], size)
        self.block_res_blocks = nn.ModuleList(
            _residuals(before, after, size) for after, before in pairwise([*widths, widths[-1]])
        )
        self.conv_blocks = nn.ModuleList(
            CausalConv3d(width, 2 * width) if doubles else nn.Identity()
            for width, doubles in zip(widths[1:], size.temporal_downsample, strict=True)
        )
        self.norm1 = nn.GroupNorm(size.num_groups, widths[0])
        self.conv_out = CausalConv3d(widths[0], size.in_out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.res_blocks(self.conv1(x))
        for level in reversed(range(len(self.block_res_blocks))):
            x = self.block_res_blocks[level](x)
            if level and self.doubles[level - 1]:
                x = self.conv_blocks[level - 1](x)
                x = rearrange(x, "b (c t) f h w -> b c (f t) h w", t=2)
        x = self.conv_out(F.silu(self.norm1(x)))
        return x


class TemporalAutoencoder(nn.Module):
    """Spatial latents, four frames to one latent; its norms see a whole chunk in time."""

    def __init__(self, size: TemporalSize) -> None:
        super().__init__()
        self.stride: int = 2 ** sum(size.temporal_downsample)
        self.encoder = TemporalEncoder(size)
        self.quant_conv = CausalConv3d(2 * size.latent_embed_dim, 2 * size.embed_dim, kernel=1)
        self.post_quant_conv = CausalConv3d(size.embed_dim, size.latent_embed_dim, kernel=1)
        self.decoder = TemporalDecoder(size)

    def moments(self, x: Tensor) -> Tensor:
        """Mean and log variance [b 2c l h w] of spatial latents [b c f h w], l = ceil(f / 4).

        Frames of zeros in front make f a multiple of the stride, 4.
        """
        moments: Tensor = self.quant_conv(self.encoder(F.pad(x, (0, 0, 0, 0, -x.shape[2] % self.stride, 0))))
        return moments

    def decode(self, z: Tensor, frames: int) -> Tensor:
        """Spatial latents [b c f h w] of latents [b c l h w], f = 4 l less those that made ``frames`` whole.

        So with l = ceil(frames / 4) there are ``frames``; any other ``frames`` counts by its remainder only.
        """
        decoded: Tensor = self.decoder(self.post_quant_conv(z))
        return decoded[:, :, -frames % self.stride :]


class SpatialAutoencoder(nn.Module):
    """diffusers' AutoencoderKL on pictures, as it is built for ``size``; nothing is downloaded."""

    def __init__(self, size: SpatialSize) -> None:
        super().__init__()
        try:
            from diffusers import AutoencoderKL
        except ImportError as error:
            raise UserError("Open-Sora needs diffusers: pip install 'longvid[models]'") from error
        levels = len(size.block_out_channels)
        self.stride: int = 2 ** (levels - 1)
        self.module: Any = AutoencoderKL(  # type: ignore[no-untyped-call]  # diffusers has no types
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=size.block_out_channels,
            layers_per_block=size.layers_per_block,
            latent_channels=size.latent_channels,
            norm_num_groups=size.norm_num_groups,
        )

    def moments(self, pictures: Tensor) -> Tensor:
        """Mean and log variance [b 2c h w] of pictures [b 3 8h 8w] in [-1, 1], unscaled."""
        moments: Tensor = self.module.quant_conv(self.module.encoder(pictures))
        return moments

    def decode(self, z: Tensor) -> Tensor:
        """Pictures [b 3 8h 8w], about in [-1, 1], of latents [b c h w], unscaled."""
        pictures: Tensor = self.module.decoder(self.module.post_quant_conv(z))
        return pictures


def posterior(moments: Tensor, draw: Draw | None) -> Tensor:
    """A sample of the Gaussian with ``moments`` [b 2c ...], mean and log variance; without draws its mean."""
    mean, log_variance = moments.chunk(2, dim=1)
    if draw is None:
        return mean
    return mean + (log_variance.clamp(-30, 20) / 2).exp() * draw(mean.shape).to(mean)


def decoding_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """What the autoencoder computes in for a film whose network computes in ``dtype`` on ``device``.

    bfloat16 where a card's film is in it, as in Open-Sora v1.2's shipped configuration: rounding the result
    moves a pixel by at most a quarter of one of 256 levels, and all roundings together leave 43 dB (random
    weights at full width), less than what a film's compression loses. Never float16: SDXL's decoder overflows
    in it. float32 else, and always on a CPU.
    """
    wanted = device.type == "cuda" and dtype == torch.bfloat16
    return torch.bfloat16 if wanted else torch.float32


class VideoAutoencoder(nn.Module):
    """Frames [b 3 f h w] in [-1, 1] to normalised latents [b c l h/8 w/8] and back.

    ``micro_batch_size``, frames that the spatial autoencoder takes at once, bounds the memory and may be set;
    it moves results by rounding only.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, size: VAESize) -> None:
        super().__init__()
        self.micro_batch_size = size.micro_batch_size
        self.chunk_frames = size.micro_frame_size
        self.spatial_vae = SpatialAutoencoder(size.spatial)
        self.temporal_vae = TemporalAutoencoder(size.temporal)
        self.chunk_latents = -(-self.chunk_frames // self.temporal_vae.stride)
        shape = (1, size.temporal.embed_dim, 1, 1, 1)
        self.register_buffer("scale", torch.ones(shape))
        self.register_buffer("shift", torch.zeros(shape))

    @property
    def device(self) -> torch.device:
        return self.temporal_vae.decoder.conv_out.conv.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.temporal_vae.decoder.conv_out.conv.weight.dtype

    def frames(self, latents: int) -> int:
        """Frames that so many latents decode to: 17 for each 5, and 4 n - 3 for n left over."""
        whole, rest = divmod(latents, self.chunk_latents)
        missing = -self.chunk_frames % self.temporal_vae.stride
        return whole * self.chunk_frames + max(rest * self.temporal_vae.stride - missing, 0)

    def place(self, device: torch.device, dtype: torch.dtype) -> VideoAutoencoder:
        """Itself on ``device``, its networks in ``dtype``, scale and shift in float32.

        Channels-last weights, and with them activations, decode on a CPU in 0.92 of the time, and convolve in
        0.8 of it in bfloat16.
        """
        layouts = ((self.spatial_vae, torch.channels_last), (self.temporal_vae, torch.channels_last_3d))
        for network, layout in layouts:
            network.to(device, dtype).to(memory_format=layout)  # type: ignore[call-overload]  # not in its stub
        return self.to(device)

    def encode(self, video: Tensor, draw: Draw | None = None) -> Tensor:
        """Latents [b c l h w] of frames [b 3 f 8h 8w]: 5 for every 17 frames, ceil(n / 4) for n left over.

        The published code samples both posteriors; without draws their means make a function of the video
        alone. Draws come in the published order: a micro-batch of frames after the other, then a chunk after
        the other.
        """
        spatial = self.encode_spatial(video, draw)
        latents = torch.cat(
            [
                posterior(self.temporal_vae.moments(chunk), draw)
                for chunk in spatial.split(self.chunk_frames, dim=2)
            ],
            dim=2,
        )
        return (latents.float() - self.shift) / self.scale

    def encode_spatial(self, video: Tensor, draw: Draw | None = None) -> Tensor:
        """Scaled spatial latents [b c f h w] of frames [b 3 f 8h 8w], a micro-batch at a time."""
        pictures = rearrange(video, "b c f h w -> (b f) c h w")
        latents = torch.cat(
            [
                posterior(self.spatial_vae.moments(batch.to(self.device, self.dtype)), draw)
                for batch in pictures.split(self.micro_batch_size)
            ]
        )
        return rearrange(latents * SPATIAL_SCALE, "(b f) c h w -> b c f h w", b=len(video))

    def decode(self, z: Tensor, frames: int) -> Tensor:
        """Frames [b 3 f 8h 8w], about in [-1, 1], of latents [b c l h w], 5 of them at a time.

        f is ``frames`` where so many encode to l latents; see `decode_temporal` where they do not.
        """
        return torch.cat([self.decode_spatial(chunk) for chunk in self.decode_temporal(z, frames)], dim=2)

    def decode_temporal(self, z: Tensor, frames: int) -> Iterator[Tensor]:
        """Scaled spatial latents [b c f h w] of latents [b c l h w], a chunk of 5 after the other.

        A chunk's latents make 4 frames each, less the first -n mod 4 with n = min(17, frames still wanted);
        those wanted fall by 17 a chunk, and below 0. So no latent is ever cut, as in Open-Sora v1.2.
        """
        for chunk in z.split(self.chunk_latents, dim=2):
            denormalised = chunk.to(self.device, torch.float32) * self.scale + self.shift
            yield self.temporal_vae.decode(denormalised.to(self.dtype), min(self.chunk_frames, frames))
            frames -= self.chunk_frames

    def decode_spatial(self, spatial: Tensor) -> Tensor:
        """Frames [b 3 f 8h 8w] in float32 of scaled spatial latents [b c f h w], a micro-batch at a time."""
        pictures = rearrange(spatial, "b c f h w -> (b f) c h w")
        decoded = torch.cat(
            [
                self.spatial_vae.decode(batch / SPATIAL_SCALE).float()
                for batch in pictures.split(self.micro_batch_size)
            ]
        )
        return rearrange(decoded, "(b f) c h w -> b c f h w", b=len(spatial))


def decode_tiled(
    autoencoder: VideoAutoencoder, z: Tensor, frames: int, tile_cells: int, overlap_cells: int
) -> Tensor:
    """As `VideoAutoencoder.decode`, but the spatial decoder sees square tiles with a side of ``tile_cells``.

    Neighbours overlap by at least ``overlap_cells`` (0 <= overlap_cells < tile_cells) and are blended over
    them linearly. The decoder's norms and attention see a tile alone, so pixels differ from the untiled ones;
    a tile that covers the picture gives exactly those.
    """
    stride = autoencoder.spatial_vae.stride
    rows, columns = (_tiles(cells, tile_cells, overlap_cells) for cells in z.shape[-2:])
    height, width = (cells * stride for cells in z.shape[-2:])
    decoded = []
    for spatial in autoencoder.decode_temporal(z, frames):
        total = spatial.new_zeros((len(z), 3, spatial.shape[2], height, width), dtype=torch.float32)
        weights = total.new_zeros(height, width)
        for top, bottom in rows:
            for left, right in columns:
                tile = autoencoder.decode_spatial(spatial[..., top:bottom, left:right])
                down = _ramps(top > 0, bottom * stride < height, tile.shape[-2], overlap_cells * stride)
                across = _ramps(left > 0, right * stride < width, tile.shape[-1], overlap_cells * stride)
                weight = torch.outer(down, across).to(total)
                here = ..., slice(top * stride, bottom * stride), slice(left * stride, right * stride)
                total[here] += tile * weight
                weights[here] += weight
        decoded.append(total / weights)
    return torch.cat(decoded, dim=2)


def _tiles(cells: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Starts and ends of tiles of equal length that cover ``cells``, the last one at their end."""
    last = max(cells - tile, 0)
    starts = [*range(0, last, tile - overlap), last]
    return [(start, min(start + tile, cells)) for start in starts]


def _ramps(before: bool, after: bool, length: int, overlap: int) -> Tensor:
    """Weights [length] of a tile: 1, rising and falling over ``overlap`` where there is a neighbour."""
    ramp = (torch.arange(length) + 0.5) / overlap
    weights = ramp.clamp(max=1) if before else torch.ones(length)
    return weights * ramp.flip(0).clamp(max=1) if after else weights


@dataclass(frozen=True)
class OpenSoraCodec:
    """The VideoCodec of a placed autoencoder; chunks are independent, so the carry stays empty.

    ``tile_cells``: None, or the side in latent cells of `decode_tiled`'s tiles, overlapping by a quarter, for
    a card that holds no whole picture. Tensors come from any device; what is made of them goes back to it.
    """

    autoencoder: VideoAutoencoder
    tile_cells: int | None = None

    @torch.inference_mode()
    def encode(self, video: Tensor) -> Tensor:
        return self.autoencoder.encode(video).to(video.device)

    def encode_picture(self, picture: Tensor) -> Tensor:
        return self.encode(picture[:, :, None])

    @torch.inference_mode()
    def decode(self, chunk: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        autoencoder, frames = self.autoencoder, self.autoencoder.frames(chunk.shape[2])
        if self.tile_cells is None:
            decoded = autoencoder.decode(chunk, frames)
        else:
            decoded = decode_tiled(autoencoder, chunk, frames, self.tile_cells, self.tile_cells // 4)
        return decoded.to(chunk.device), {}

    def flush(self, carry: Carry) -> Tensor | None:
        return None
