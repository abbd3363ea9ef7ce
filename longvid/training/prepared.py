"""What training reads: passages as latents and captions as embeddings, encoded once, on disk.

    for done in encoded(selection, film, runtime, cache, workers): ...
    prepared = collect(selection, film, runtime, cache)

    cache/latents/SHA-256.safetensors   latents [c f h w] in half precision
    cache/text/SHA-256.safetensors      embeddings [n d] and mask [n] of a caption, without padding behind

A file is named by all that its numbers depend on, appears whole or not at all, and counts as missing where
it is damaged: a stopped encoding goes on where it was, and the same clips in another folder cost nothing.
Neither the codec nor the text encoder is in memory while training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open

from longvid.backends import Film, Prompts, Runtime, TextEncoder
from longvid.errors import RenderError, UserError
from longvid.files import digest, read_sealed, write_sealed, write_tensors
from longvid.locks import locked, refused
from longvid.training.captions import Problem
from longvid.training.passages import Passage, Selection
from longvid.training.pixels import decoded
from longvid.training.sequences import Excerpt

VERSION = 1
"""Raised when the same clip gives other numbers, so that they are not mixed."""
LATENTS, TEXT = "latents", "text"


@dataclass(frozen=True)
class Encoded:
    """A caption or a passage is on disk, or cannot be, for the ``problem``: ``done`` of ``total``. ``kept``:
    how many of those were there already."""

    what: Literal["caption", "passage"]
    done: int
    total: int
    kept: int
    problem: Problem | None = None


def encoded(
    selection: Selection, film: Film, runtime: Runtime, cache: Path, workers: int
) -> Iterator[Encoded]:
    """Encode what the cache lacks: captions, then passages, each network loaded where it is needed and freed
    behind it. ``workers``: threads that decode ahead of the codec, which hold a passage's pixels each.

    Raises RenderError for a full disk, UserError for a cache that cannot be, LockedError where another
    process fills it.
    """
    with refused(cache):
        for folder in (LATENTS, TEXT):
            (cache / folder).mkdir(parents=True, exist_ok=True)
    with locked(cache, "encodes clips"):
        try:
            yield from _encode_captions(selection, film, cache)
            yield from _encode_passages(selection, film, runtime, cache, workers)
        except RenderError as error:
            raise RenderError(
                f"{error}; what is encoded so far stays, and the same command goes on from there"
            ) from error


def _encode_captions(selection: Selection, film: Film, cache: Path) -> Iterator[Encoded]:
    paths = {_text_path(cache, film, caption): caption for caption in selection.captions}
    missing = [path for path in paths if not _is_whole(path, "embeddings")]
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


def _encode_passages(
    selection: Selection, film: Film, runtime: Runtime, cache: Path, workers: int
) -> Iterator[Encoded]:
    paths = {_latents_path(cache, selection, film, runtime, one): one for one in selection.passages}
    missing = {path: one for path, one in paths.items() if not _is_whole(path, "latents")}
    done = kept = len(paths) - len(missing)
    yield Encoded("passage", done, len(paths), kept)
    if not missing:
        return
    codec = film.codec()
    with closing(decoded(selection, list(missing.values()), workers)) as shown:
        for (path, passage), pixels in zip(missing.items(), shown, strict=True):
            problem = None
            if isinstance(pixels, Problem):
                problem = pixels
            else:
                video = torch.from_numpy(pixels).to(runtime.device).permute(3, 0, 1, 2)[None] / 127.5 - 1
                with torch.inference_mode():
                    latents = codec.encode(video)[0].half().cpu()
                if latents.isfinite().all():
                    write_tensors(path, {"latents": latents})
                else:
                    problem = Problem(
                        _path(selection, passage), "its latents are no numbers in half precision"
                    )
            done += 1
            yield Encoded("passage", done, len(paths), kept, problem)


def _path(selection: Selection, passage: Passage) -> Path:
    return selection.corpus.examples[passage.example].path


def _latents_path(cache: Path, selection: Selection, film: Film, runtime: Runtime, passage: Passage) -> Path:
    example, format = selection.corpus.examples[passage.example], selection.format
    content = {
        "version": VERSION,
        "model": film.fingerprint,
        "dtype": str(runtime.dtype),
        "size": format.size,
        "fps": str(format.fps),
        "clip": example.sha256,
        "begin": str(passage.begin),
        "frames": format.frames(passage.chunks),
        "latents": passage.chunks * format.geometry.chunk_latents,
    }
    return cache / LATENTS / f"{digest(content)}.safetensors"


def _text_path(cache: Path, film: Film, caption: str) -> Path:
    content = {"version": VERSION, "model": film.fingerprint, "caption": caption}
    return cache / TEXT / f"{digest(content)}.safetensors"


def _is_whole(path: Path, name: str) -> bool:
    """Whether the file is there with all its bytes, by its header and its length."""
    try:
        with safe_open(path, "pt") as file:
            return name in file.keys()  # noqa: SIM118, it is no mapping
    except (OSError, SafetensorError):
        return False


@dataclass(frozen=True)
class CachedSequences:
    """Passages on disk, as `Sequences`: ``latents`` and ``texts`` are files, one of each a passage. What is
    asked for is mapped into memory, so that their number does not count."""

    latents: tuple[Path, ...]
    texts: tuple[Path, ...]
    chunks: tuple[int, ...]
    chunk_latents: int

    def excerpt(self, sequence: int, first: int, chunks: int) -> Excerpt:
        """All of it is under one prompt. Raises RenderError where a file is gone."""
        begin, end = first * self.chunk_latents, (first + chunks) * self.chunk_latents
        path = self.latents[sequence]
        try:
            with safe_open(path, "pt") as file:
                latents = file.get_slice("latents")[:, begin:end].float()
            path = self.texts[sequence]
            with safe_open(path, "pt") as file:
                embeddings, mask = file.get_tensor("embeddings"), file.get_tensor("mask")
                tokens = int(file.metadata()["tokens"])
        except (OSError, SafetensorError) as error:
            raise RenderError(f"{path}: cannot be read; the same command encodes it again") from error
        padding = tokens - len(mask)
        prompts = Prompts(
            torch.nn.functional.pad(embeddings, (0, 0, 0, padding))[None],
            torch.nn.functional.pad(mask, (0, padding))[None],
        )
        return Excerpt(latents, prompts, torch.ones(chunks, 1))


@dataclass(frozen=True)
class Prepared:
    """All that was encoded: what is trained on, and what is held out and may be empty. ``problems``: of what
    could not be."""

    training: CachedSequences
    held_out: CachedSequences
    problems: tuple[Problem, ...]

    def save(self, path: Path) -> None:
        """As a file that `load` reads: for other processes, and for a training that goes on."""
        parts = {"training": self.training, "held_out": self.held_out}
        written = {
            name: {
                "latents": [str(file.absolute()) for file in part.latents],
                "texts": [str(file.absolute()) for file in part.texts],
                "chunks": part.chunks,
                "chunk_latents": part.chunk_latents,
            }
            for name, part in parts.items()
        }
        problems = [[str(problem.path), problem.reason] for problem in self.problems]
        write_sealed(path, {**written, "problems": problems})

    @staticmethod
    def load(path: Path) -> Prepared:
        """Raises UserError where there is no such file, or a changed one."""
        content = read_sealed(path)
        if content is None:
            raise UserError(f"{path}: is missing or was changed; begin anew, the clips stay encoded")

        def part(said: dict[str, Any]) -> CachedSequences:
            latents, texts = (tuple(map(Path, said[name])) for name in ("latents", "texts"))
            return CachedSequences(latents, texts, tuple(said["chunks"]), said["chunk_latents"])

        problems = tuple(Problem(Path(path), reason) for path, reason in content["problems"])
        return Prepared(part(content["training"]), part(content["held_out"]), problems)


def collect(selection: Selection, film: Film, runtime: Runtime, cache: Path) -> Prepared:
    """What is in the cache of a selection, after it was `encoded`.

    Raises UserError where nothing is there to train on.
    """
    found, problems = list[Passage](), list[Problem]()
    files = {one: _latents_path(cache, selection, film, runtime, one) for one in selection.passages}
    for passage, path in files.items():
        if _is_whole(path, "latents"):
            found.append(passage)
        else:
            problems.append(Problem(_path(selection, passage), "cannot be encoded"))

    def sequences(wanted: Callable[[Passage], bool]) -> CachedSequences:
        chosen = [passage for passage in found if wanted(passage)]
        captions = [selection.corpus.examples[passage.example].caption for passage in chosen]
        return CachedSequences(
            tuple(files[passage] for passage in chosen),
            tuple(_text_path(cache, film, caption) for caption in captions),
            tuple(passage.chunks for passage in chosen),
            selection.format.geometry.chunk_latents,
        )

    prepared = Prepared(
        sequences(lambda passage: not passage.held_out),
        sequences(lambda passage: passage.held_out),
        tuple(dict.fromkeys(problems)),
    )
    if not prepared.training.chunks:
        raise UserError(f"{selection.corpus.folder}: nothing of it could be encoded: {problems[0]}")
    return prepared
