"""Passages as pixels at the model's size and rate, decoded ahead of whoever uses them."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING

import numpy as np

from longvid.errors import UserError
from longvid.training.captions import Problem
from longvid.training.passages import Passage, Selection
from longvid.video import source

if TYPE_CHECKING:
    from numpy.typing import NDArray


def decoded(
    selection: Selection, passages: Sequence[Passage], workers: int
) -> Generator[NDArray[np.uint8] | Problem, None, None]:
    """Each passage's pixels [f h w 3] in turn, or why there are none; so many are made while one is used.

    In threads: two decode 1.9 times as fast as one, as PyAV does its work outside of Python, and a process
    is no faster than a thread.
    """
    stop = Event()
    pending: deque[Future[NDArray[np.uint8] | Problem]] = deque()
    with ThreadPoolExecutor(workers, "clip") as pool:
        try:
            for passage in passages:
                pending.append(pool.submit(_decode, selection, passage, stop))
                if len(pending) > workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            # Where the caller goes away, the threads do not decode the rest.
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _decode(selection: Selection, passage: Passage, stop: Event) -> NDArray[np.uint8] | Problem:
    """A passage's pixels [f h w 3], fitted to the format as `extend` fits the clip that it goes on from.

    That is Open-Sora's own transform, to cover the picture and cut the middle out, but by Lanczos: bilinear
    sampling makes small pictures of large ones flicker (from 1280x720 to 96x64 frames differ by 3.2 grey
    levels instead of 1.9, and diorama's codec loses 1.8 dB).
    """
    clip, format = selection.corpus.examples[passage.example].source, selection.format
    width, height = format.size
    pixels = np.empty((format.frames(passage.chunks), height, width, 3), np.uint8)
    shown: NDArray[np.uint8] | None = None
    try:
        for index, picture in enumerate(source.at(clip, selection.numbers(passage))):
            if stop.is_set():
                raise CancelledError
            again = picture is shown
            pixels[index] = pixels[index - 1] if again else source.fit(picture, format.size, "crop")
            shown = picture
    except UserError as error:
        return Problem(clip.path, str(error).removeprefix(f"{clip.path}: "))
    return pixels
