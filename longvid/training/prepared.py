"""What the denoiser's training reads: passages as latents and captions as embeddings, encoded once, on disk.

    for done in encoded(material, film, runtime, cache, workers): ...
    prepared = collect(material, film, runtime, cache)

    cache/latents/SHA-256.safetensors   latents [c f h w] and, if any, weights [f h w], in half precision
    cache/text/SHA-256.safetensors      embeddings [n d] and mask [n] of a caption, without padding behind

Neither the codec nor the text encoder is in memory while training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from longvid.backends import Film, Geometry, Prompts, Runtime, TextEncoder
from longvid.datasets import Clip
from longvid.errors import RenderError
from longvid.files import digest, write_tensors
from longvid.training.cache import (
    UNREADABLE,
    VERSION,
    Encoded,
    Make,
    Prepared,
    fill,
    filling,
    gather,
    is_whole,
    read_prepared,
)
from longvid.training.material import Item, Material, distinct_captions
from longvid.training.sequences import Excerpt

LATENTS, TEXT = "latents", "text"


def encoded(material: Material, film: Film, runtime: Runtime, cache: Path, workers: int) -> Iterator[Encoded]:
    """Encode what the cache lacks: captions, then passages, each network loaded where it is needed and freed
    behind it. ``workers``: clips made ahead of the codec, whose pixels are held.

    Raises RenderError for a full disk, UserError for a cache that cannot be, LockedError where another
    process fills it.
    """
    with filling(cache, LATENTS, TEXT):
        yield from _encode_captions(material, film, cache)

        def path(item: Item) -> Path:
            return _latents_path(cache, material, film, runtime, item)

        yield from fill(
            material, path, "latents", workers, lambda: _encoding(material.format.geometry, film, runtime)
        )


def _encode_captions(material: Material, film: Film, cache: Path) -> Iterator[Encoded]:
    paths = {_text_path(cache, film, caption): caption for caption in distinct_captions(material.items)}
    missing = [path for path in paths if not is_whole(path, "embeddings")]
    done = kept = len(paths) - len(missing)
    yield Encoded("caption", done, len(paths), kept)
    encoder: TextEncoder | None = None
    for path in missing:
        encoder = encoder or film.text_encoder()
        prompts = encoder([paths[path]])
        mask = prompts.mask[0].cpu()
        counted = int(mask.nonzero().max()) + 1 if mask.any() else 1
        tensors = {"embeddings": prompts.embeddings[0, :counted].cpu(), "mask": mask[:counted]}
        write_tensors(path, tensors, {"tokens": str(len(mask))})
        done += 1
        yield Encoded("caption", done, len(paths), kept)


def _encoding(geometry: Geometry, film: Film, runtime: Runtime) -> Make:
    codec = film.codec()

    def encode(clip: Clip) -> dict[str, Tensor] | str:
        video = torch.from_numpy(clip.pixels).to(runtime.device).permute(3, 0, 1, 2)[None] / 127.5 - 1
        with torch.inference_mode():
            latents = codec.encode(video)[0].half().cpu()
        if not latents.isfinite().all():
            return "its latents are no numbers in half precision"
        if clip.weights is None:
            return {"latents": latents}
        weights = cell_weights(torch.from_numpy(clip.weights), geometry, tuple(latents.shape[2:]))
        return {"latents": latents, "weights": weights.half()}

    return encode


def cell_weights(weights: Tensor, geometry: Geometry, cells: tuple[int, ...]) -> Tensor:
    """How much each latent cell counts [f h w], of the weights of pixels [f h w]: as the most of those that
    it stands for. A chunk's frames are shared out evenly among its latents; one that two have a part in
    counts for both. ``cells``: rows and columns of a latent."""
    chunks = geometry.run_chunks(len(weights))
    parts = weights.float().split(geometry.chunk_frame_counts(chunks))
    shape = (geometry.chunk_latents, *cells)
    return torch.cat([F.adaptive_max_pool3d(part[None], shape)[0] for part in parts])


def _latents_path(cache: Path, material: Material, film: Film, runtime: Runtime, item: Item) -> Path:
    content = {
        **item.content,
        "version": VERSION,
        "model": film.fingerprint,
        "dtype": str(runtime.dtype),
        "latents": item.chunks * material.format.geometry.chunk_latents,
    }
    return cache / LATENTS / f"{digest(content)}.safetensors"


def _text_path(cache: Path, film: Film, caption: str) -> Path:
    content = {"version": VERSION, "model": film.fingerprint, "caption": caption}
    return cache / TEXT / f"{digest(content)}.safetensors"


@dataclass(frozen=True)
class CachedSequences:
    """Passages on disk, as `Sequences`: ``latents`` is a file of each, ``captions`` the places in ``texts``,
    one file a caption, that each chunk of each is under; ``starts``: their begins. What is asked for is
    mapped into memory, so that their number does not count."""

    latents: tuple[Path, ...]
    captions: tuple[tuple[int, ...], ...]
    starts: tuple[tuple[bool, ...], ...]
    texts: tuple[Path, ...]
    chunk_latents: int

    @property
    def chunks(self) -> tuple[int, ...]:
        return tuple(map(len, self.captions))

    def begins(self, sequence: int) -> tuple[bool, ...]:
        return self.starts[sequence]

    def excerpt(self, sequence: int, first: int, chunks: int) -> Excerpt:
        """Raises RenderError where a file is gone."""
        begin, end = first * self.chunk_latents, (first + chunks) * self.chunk_latents
        rows = self.captions[sequence][first : first + chunks]
        used = sorted(set(rows))
        path = self.latents[sequence]
        try:
            with safe_open(path, "pt") as file:
                latents = file.get_slice("latents")[:, begin:end].float()
                weighted = "weights" in file.keys()  # noqa: SIM118, it is no mapping
                weights = file.get_slice("weights")[begin:end].float() if weighted else None
            embeddings, masks = [], []
            for path in (self.texts[row] for row in used):
                with safe_open(path, "pt") as file:
                    mask = file.get_tensor("mask")
                    padding = int(file.metadata()["tokens"]) - len(mask)
                    embeddings.append(F.pad(file.get_tensor("embeddings"), (0, 0, 0, padding)))
                    masks.append(F.pad(mask, (0, padding)))
        except (OSError, SafetensorError) as error:
            raise RenderError(f"{path}: {UNREADABLE}") from error
        mix = torch.tensor([[float(row == each) for each in used] for row in rows])
        return Excerpt(latents, Prompts(torch.stack(embeddings), torch.stack(masks)), mix, weights)

    def told(self) -> dict[str, Any]:
        """As JSON has it; `of` reads it."""
        return {
            "latents": [str(file.absolute()) for file in self.latents],
            "captions": self.captions,
            "begins": self.starts,
            "texts": [str(file.absolute()) for file in self.texts],
            "chunk_latents": self.chunk_latents,
        }

    @staticmethod
    def of(told: dict[str, Any]) -> CachedSequences:
        return CachedSequences(
            tuple(map(Path, told["latents"])),
            tuple(map(tuple, told["captions"])),
            tuple(map(tuple, told["begins"])),
            tuple(map(Path, told["texts"])),
            told["chunk_latents"],
        )


def collect(material: Material, film: Film, runtime: Runtime, cache: Path) -> Prepared[CachedSequences]:
    """What is in the cache of a material, after it was `encoded`.

    Raises UserError where nothing is there to train on.
    """

    def path(item: Item) -> Path:
        return _latents_path(cache, material, film, runtime, item)

    def sequences(items: Sequence[Item]) -> CachedSequences:
        places = {caption: place for place, caption in enumerate(distinct_captions(items))}
        return CachedSequences(
            tuple(map(path, items)),
            tuple(tuple(places[caption] for caption in item.captions) for item in items),
            tuple(item.begins for item in items),
            tuple(_text_path(cache, film, caption) for caption in places),
            material.format.geometry.chunk_latents,
        )

    return gather(material, path, "latents", sequences)


def load(path: Path) -> Prepared[CachedSequences]:
    """What `Prepared.save` wrote. Raises UserError where there is no such file, or a changed one."""
    return read_prepared(path, CachedSequences.of)
