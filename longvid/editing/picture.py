"""What changes the picture: each effect is a span of frames and a function of one frame.

Exact in whole numbers wherever no letters are drawn; no frame outside of the spans is ever touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from longvid.editing import Edit, text
from longvid.editing.film import Film, Shot
from longvid.editing.text import Lettering, Line
from longvid.errors import UserError
from longvid.times import round_half_up
from longvid.video import source

if TYPE_CHECKING:
    from numpy.typing import NDArray

TITLE_SECONDS = 5
"""How long a title is seen, in a film that is at least twice as long."""
CAPTION_FADE_SECONDS = Fraction(3, 10)


@dataclass(frozen=True)
class Effect:
    """``change(i, pixels [h w 3])`` is the picture of frame i, start_frame <= i < end_frame."""

    start_frame: int
    end_frame: int
    change: Callable[[int, NDArray[np.uint8]], NDArray[np.uint8]]


def effects(film: Film, edit: Edit) -> tuple[Effect, ...]:
    """All that the edit does to the film's frames, in the order in which it is done.

    Raises UserError where a text fits no picture, or the picture's size is none.
    """
    size = output_size(film, edit)
    return (
        *crossfades(film, edit.crossfade.seconds(film.source.fps)),
        *scaling(film, size),
        *(captions(film, edit, size) if edit.captions == "burn" else ()),
        *(title(film, edit, size) if edit.title else ()),
        *fades(film.source.frames, frames_of(film, edit.fade.seconds(film.source.fps))),
    )


def frames_of(film: Film, seconds: Fraction) -> int:
    return round_half_up(seconds * film.source.fps)


def output_size(film: Film, edit: Edit) -> tuple[int, int]:
    """(width, height) of the edited film. Raises UserError where that is no size of a film."""
    if edit.scale is None:
        return film.source.size
    if isinstance(edit.scale, tuple):
        return edit.scale
    width, height = (2 * max(round_half_up(side * edit.scale / 2), 1) for side in film.source.size)
    if not (min(width, height) >= 16 and max(width, height) <= 8192):
        raise UserError(f"scale: {width}x{height} is out of range; 16 to 8192 pixels a side")
    return width, height


def crossfades(film: Film, seconds: Fraction) -> Iterator[Effect]:
    """Around each cut one shot dissolves into the other, and no time moves.

    The film has no frames of a shot beyond its cuts, so one of the two stands still: before the cut the
    first picture of what comes, behind it the last of what was. The one that stands still never has more than
    half of the weight, and the middle of the dissolve is the cut.
    """
    wanted = frames_of(film, seconds)

    @lru_cache(maxsize=1)
    def beside(cut: int) -> tuple[NDArray[np.uint8], ...]:
        return tuple(source.frames(film.source, cut - 1, cut + 1))

    def dissolve(cut: int, frames: int) -> Effect:
        start = cut - frames // 2

        def change(frame: int, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
            last, first = beside(cut)
            one, other = (pixels, first) if frame < cut else (last, pixels)
            return mix(one, other, 2 * (frame - start) + 1, 2 * frames)

        return Effect(start, start + frames, change)

    for before, after in pairwise(film.shots):
        lengths = (shot.end_frame - shot.start_frame for shot in (before, after))
        frames = min(wanted, *lengths)  # no two dissolves share a frame
        if after.cut and frames:
            yield dissolve(after.start_frame, frames)


def mix(one: NDArray[np.uint8], other: NDArray[np.uint8], weight: int, of: int) -> NDArray[np.uint8]:
    """The ``other`` picture with weight / of over the ``one``, to the nearest value, halves upwards."""
    sum_ = one.astype(np.uint32) * (of - weight) + other.astype(np.uint32) * weight
    return ((2 * sum_ + of) // (2 * of)).astype(np.uint8)


def scaling(film: Film, size: tuple[int, int]) -> Iterator[Effect]:
    """Every frame at another size; one of another shape is shown whole, on black."""
    if size != film.source.size:
        yield Effect(0, film.source.frames, lambda frame, pixels: source.fit(pixels, size, "pad"))


def fades(frames: int, length: int) -> Iterator[Effect]:
    """From black, and to black: frame i has i / length of its light, and so has the i-th from the end."""
    length = min(length, frames // 2)
    if length:
        yield Effect(0, length, lambda frame, pixels: dim(pixels, frame, length))
        yield Effect(frames - length, frames, lambda frame, pixels: dim(pixels, frames - 1 - frame, length))


def dim(pixels: NDArray[np.uint8], light: int, of: int) -> NDArray[np.uint8]:
    """Each value times light / of, to the nearest, halves upwards."""
    table = ((2 * light * np.arange(256) + of) // (2 * of)).astype(np.uint8)
    return table[pixels]


def ramp(frame: int, start: int, end: int, length: int) -> Fraction:
    """How much is seen in this frame of what comes and goes over ``length`` frames between start and end."""
    return min(Fraction(1), Fraction(frame - start + 1, length + 1), Fraction(end - frame, length + 1))


def shown(letters: Callable[[], Lettering], start: int, end: int, length: int) -> Effect:
    """Letters that come and go. They are drawn when they are needed."""
    return Effect(
        start, end, lambda frame, pixels: text.lay(pixels, letters(), ramp(frame, start, end, length))
    )


def title(film: Film, edit: Edit, size: tuple[int, int]) -> Iterator[Effect]:
    """The title in the middle of the picture, for the first seconds."""
    width, height = size
    largest, least = max(height // 8, 12), max(height // 24, 9)
    lines = text.fitting(
        edit.title,
        edit.font,
        "Semibold" if height < 480 else "Regular",
        int(width * 0.86),
        range(largest, least - 1, -1),
        3,
        "title",
    )
    drawn = text.lettering(lines, edit.font, size, (height - text.height(lines)) // 2)
    frames = min(frames_of(film, Fraction(TITLE_SECONDS)), -(-film.source.frames // 2))
    start = frames // 10
    yield shown(lambda: drawn, start, max(frames, start + 1), frames // 5)


def captions(film: Film, edit: Edit, size: tuple[int, int]) -> Iterator[Effect]:
    """Each shot's words at the bottom of the picture; more than two lines come one after the other."""
    width, height = size
    size_px = max(min(height // 17, width // 24), 9)
    font = text.load(edit.font, size_px)
    length = frames_of(film, CAPTION_FADE_SECONDS)

    @lru_cache(maxsize=1)
    def drawn(page: tuple[str, ...]) -> Lettering:
        lines = [Line(line, size_px) for line in page]
        return text.lettering(lines, edit.font, size, height - height // 16 - text.height(lines))

    for shot in film.shots:
        said = words(film, shot)
        text.check_letters(said, edit.font, "captions")
        lines = text.wrap(said, font, int(width * 0.86))
        pages = [tuple(lines[at : at + 2]) for at in range(0, len(lines), 2)]
        for page, (start, end) in zip(pages, spans(shot, pages), strict=True):
            if start < end:
                yield shown(partial(drawn, page), start, end, min(length, (end - start) // 4))


def words(film: Film, shot: Shot) -> str:
    """What is said of a shot: its prompt; in a film that tells of none, its chapter's name."""
    return shot.prompt if any(shot.prompt for shot in film.shots) else shot.title


def spans(shot: Shot, pages: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    """The shot's frames divided among pages by their letters."""
    lengths = [sum(map(len, page)) for page in pages]
    frames = shot.end_frame - shot.start_frame
    borders = [
        shot.start_frame + round_half_up(Fraction(frames * sum(lengths[:i]), max(sum(lengths), 1)))
        for i in range(len(pages) + 1)
    ]
    return list(pairwise(borders))


def changed(number: int, pixels: NDArray[np.uint8], made: Sequence[Effect]) -> NDArray[np.uint8]:
    """A frame with everything done to it."""
    for effect in made:
        if effect.start_frame <= number < effect.end_frame:
            pixels = effect.change(number, pixels)
    return pixels
