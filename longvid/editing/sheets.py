"""Pictures of a whole film: its poster, a contact sheet, and its storyboard. Each is a file's content."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from longvid.editing import storyboard as board
from longvid.editing import text
from longvid.editing.film import Film
from longvid.editing.stills import best, everywhere, spread, stills
from longvid.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

PAGE_PX = 1600
MARGIN_PX = 64
GAP_PX = 20
MAX_HEIGHT_PX = 30_000
SHEET_ROWS = 5
PAPER, INK, QUIET, ACCENT = (18, 19, 23), (240, 240, 244), (152, 156, 168), (240, 176, 90)

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Sheet:
    """A page under work."""

    page: Image
    draw: ImageDraw
    font: Path | None

    def words(
        self, at: tuple[int, int], said: str, width: int, size_px: int, colour: Colour, weight: text.Weight
    ) -> int:
        """One line, its upper left corner ``at``, with an ellipsis where it is wider; returns its width."""
        font = text.load(self.font, size_px, weight)
        while said and font.getlength(said) > width:
            said = said.removesuffix("…")[:-1].rstrip() + "…" if len(said) > 1 else ""
        letters = text.strip(text.Line(said, size_px, weight), self.font, width, "l")
        self.page.paste(colour, at, letters)
        return round(font.getlength(said))

    def picture(self, at: tuple[int, int], pixels: NDArray[np.uint8]) -> None:
        self.page.paste(_image(pixels), at)


def poster(film: Film, file: Path, font: Path | None) -> bytes:
    """One good frame of the film, as PNG."""
    return _png(_image(next(stills(film, [best(film)]))))


def contact_sheet(film: Film, file: Path, font: Path | None) -> bytes:
    """Frames from all over the film with their times and shots, as PNG; at least one of each shot."""
    width, height = film.source.size
    columns = min(max(round(4 * 16 * height / (9 * width)), 3), 8)
    tile = (PAGE_PX - 2 * MARGIN_PX - (columns - 1) * GAP_PX) // columns
    tile_height = max(round(height * tile / width), 1)
    numbers = everywhere(film, columns * SHEET_ROWS)
    step = tile_height + 58
    sheet, top = begin(film, -(-len(numbers) // columns) * step - 24, font)
    for place, (number, pixels) in enumerate(zip(numbers, stills(film, numbers, tile), strict=True)):
        left = MARGIN_PX + place % columns * (tile + GAP_PX)
        y = top + place // columns * step
        sheet.picture((left, y), pixels)
        y += tile_height + 8
        time = sheet.words((left, y), board.tenths(film.seconds(number)), tile, 18, INK, "Semibold") + 10
        sheet.words((left + time, y), film.shot_at(number).name, tile - time, 18, QUIET, "Regular")
    return _png(sheet.page)


def storyboard(film: Film, file: Path, font: Path | None) -> bytes:
    """A row for each shot with its pictures, title, prompt and times: HTML or, by the file's name, PNG."""
    if file.suffix.lower() != ".png":
        return board.page(film)
    width, height = film.source.size
    tile = min(300, 300 * 4 * width // (3 * height))
    tile_height = max(round(height * tile / width), 1)
    words_left = MARGIN_PX + board.STILLS * (tile + GAP_PX) + GAP_PX
    words_width = PAGE_PX - MARGIN_PX - words_left
    prompts = [
        text.wrap(shot.prompt, text.load(font, 22), words_width)[: max((tile_height - 84) // 29, 1)]
        for shot in film.shots
    ]
    step = max(tile_height, 84 + 29) + 44
    sheet, top = begin(film, len(film.shots) * step - 44, font)
    for index, (shot, prompt) in enumerate(zip(film.shots, prompts, strict=True)):
        y = top + index * step
        numbers = spread(shot.start_frame, shot.end_frame, board.STILLS)
        for place, pixels in enumerate(stills(film, numbers, tile)):
            sheet.picture((MARGIN_PX + place * (tile + GAP_PX), y), pixels)
        sheet.words((words_left, y - 5), board.heading(film, shot), words_width, 30, INK, "Semibold")
        sheet.words((words_left, y + 38), board.times(film, shot), words_width, 20, ACCENT, "Regular")
        for number, line in enumerate(prompt):
            sheet.words((words_left, y + 76 + 29 * number), line, words_width, 22, QUIET, "Regular")
        if index:
            line_y = y - 22
            sheet.draw.line((MARGIN_PX, line_y, PAGE_PX - MARGIN_PX, line_y), fill=(44, 46, 54))
    return _png(sheet.page)


def begin(film: Film, height: int, font: Path | None) -> tuple[Sheet, int]:
    """A page with the film's name and facts, and where below them ``height`` pixels are free."""
    from PIL import Image, ImageDraw

    said = [film.title, *(shot.name + shot.prompt for shot in film.shots)]
    text.check_letters("".join(said), font, "the film's titles and prompts")
    top = MARGIN_PX + 122
    if top + height + MARGIN_PX > MAX_HEIGHT_PX:
        raise UserError(f"{len(film.shots)} shots are too many for one picture; write a storyboard as .html")
    page = Image.new("RGB", (PAGE_PX, top + height + MARGIN_PX), PAPER)
    sheet = Sheet(page, ImageDraw.Draw(page), font)
    wide = PAGE_PX - 2 * MARGIN_PX
    sheet.words((MARGIN_PX, MARGIN_PX - 14), film.title, wide, 50, INK, "Semibold")
    sheet.words((MARGIN_PX, MARGIN_PX + 52), board.facts(film), wide, 22, QUIET, "Regular")
    return sheet, top


def _image(pixels: NDArray[np.uint8]) -> Image:
    from PIL import Image

    return Image.fromarray(pixels)


def _png(page: Image) -> bytes:
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()
