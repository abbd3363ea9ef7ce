"""What is done to a film before people see it: titles, credits, captions, music, fades; and pictures of it.

``Edit`` says what is wanted, as plain data; ``apply`` does it. Nothing heavy is imported for the first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from longvid.errors import UserError
from longvid.times import Time
from longvid.values import MAX_CREDITS, MAX_SIDE_PX, Captions

if TYPE_CHECKING:
    from longvid.progress import Event

NOTHING = Time(Fraction(0))

Show = Callable[["Event"], None]


@dataclass(frozen=True)
class Edit:
    """What is wanted; by default, nothing."""

    title: str = ""
    """Shown over the first seconds. A line break begins another line."""
    credits: str = ""
    """Shown on black behind the last picture. In a block of lines the first is the role of those below it."""
    captions: Captions = "off"
    """Each shot's prompt: ``burn``t into the picture, or as a ``track`` that a player can show."""
    music: Path | None = None
    """A file with sound, under the whole film."""
    fade: Time = NOTHING
    """How long picture and sound come from black and silence, and go there."""
    crossfade: Time = NOTHING
    """How long a shot dissolves into one that begins with a cut."""
    scale: tuple[int, int] | Fraction | None = None
    """The picture's (width, height), or the factor by which it grows."""
    font: Path | None = None
    """A TrueType or OpenType file for all letters."""
    crf: int = 18
    """Quality of what is encoded again: H.264 constant rate factor, 1 to 51."""
    poster: Path | None = None
    """PNG of one good frame."""
    contact_sheet: Path | None = None
    """PNG of frames from all over the film."""
    storyboard: Path | None = None
    """HTML or PNG with a row for each shot."""

    @property
    def pictures(self) -> dict[str, Path]:
        """The pictures that are wanted beside the film, by what they are."""
        wanted = {
            "poster": self.poster,
            "contact sheet": self.contact_sheet,
            "storyboard": self.storyboard,
        }
        return {name: path for name, path in wanted.items() if path is not None}

    @property
    def changes_film(self) -> bool:
        """Whether the film itself becomes another."""
        return bool(
            self.title
            or self.credits
            or self.captions != "off"
            or self.music is not None
            or self.fade.amount
            or self.crossfade.amount
            or self.scale is not None
        )


def apply(film: Path, edit: Edit, output: Path | None, show: Show | None = None) -> None:
    """Write the edited film, and the pictures that ``edit`` wants; each file whole or not at all.

    ``output`` None: only the pictures. Files that are there are replaced; ``film`` itself cannot be. Equal
    inputs give equal bytes. Raises UserError, before anything is written, for what is wrong with the film,
    the texts and the files, and RenderError where writing fails.
    """
    from longvid.editing import edition

    edition.apply(film, edit, output, show or _silent)


def write(film: Path, edit: Edit, path: Path, show: Show | None = None) -> None:
    """Write the edited film straight into the file ``path``: what ``apply`` does, for one who replaces files
    himself, and without the pictures. Raises as ``apply``, and OSError."""
    from longvid.editing import edition
    from longvid.editing.film import read

    edition.write(edition.prepare(read(film), edit, show or _silent), path, show or _silent)


def rehearse(
    edit: Edit,
    size: tuple[int, int],
    fps: Fraction,
    frames: int,
    metadata: Mapping[str, str],
    output: Path,
    show: Show | None = None,
) -> None:
    """Raise UserError for what would be wrong with the edit of a film that is still to be made.

    Texts are set and the music is listened to; nothing is read of the film. ``metadata``: the film's, with
    its shots as JSON.
    """
    from longvid.editing import edition
    from longvid.editing.film import planned

    check_files(output, edit, None)
    edition.rehearse(planned(output, size, fps, frames, metadata), edit, show or _silent)


def _silent(event: Event) -> None:
    pass


def check_files(path: Path, edit: Edit, output: Path | None) -> None:
    """Raise UserError where one of the files cannot be written, or would take another's place."""
    read = {"the film": path, "the music": edit.music, "the font": edit.font}
    written = {"the finished film": output, **{f"the {what}": file for what, file in edit.pictures.items()}}
    taken: dict[Path, str] = {file.resolve(): f"{what} itself" for what, file in read.items() if file}
    for what, file in written.items():
        if file is None:
            continue
        place = file.resolve()
        if place in taken:
            raise UserError(f"{file}: {what} would replace {taken[place]}; write it elsewhere")
        taken[place] = what
        if file.is_dir():
            raise UserError(f"{file}: is a folder; name a file in it for {what}")
        if not file.parent.is_dir():
            raise UserError(f"{file}: there is no folder {file.parent}; create it first")
        if not os.access(file.parent, os.W_OK):
            raise UserError(f"{file}: nothing can be written in the folder {file.parent}")
    endings = {"poster": (".png",), "contact sheet": (".png",), "storyboard": (".html", ".png")}
    for name, file in edit.pictures.items():
        if file.suffix.lower() not in endings[name]:
            raise UserError(f"{file}: a {name} is written as {' or '.join(endings[name])}")


def read_credits(given: str, folder: Path = Path()) -> str:
    """Credits: the text itself, or what is in the file that it names (one that is there, or any ``.txt``).

    Raises UserError where that file cannot be read.
    """
    path = folder / os.path.expanduser(given)
    if "\n" in given or not (given.lower().endswith(".txt") or _is_file(path)):
        return given
    try:
        with open(path, "rb") as file:
            content = file.read(4 * MAX_CREDITS + 1)
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: the credits cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the credits are no text in UTF-8") from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False  # too long for a name, or with a zero in it: a text


def parse_scale(text: str) -> tuple[int, int] | Fraction:
    """``2`` or ``1.5``: a factor; ``1280x720``: a size in pixels. Raises ValueError."""
    if match := re.fullmatch(r"([0-9]{1,5})[xX]([0-9]{1,5})", text.strip()):
        width, height = int(match[1]), int(match[2])
        if not (16 <= width <= MAX_SIDE_PX and 16 <= height <= MAX_SIDE_PX):
            raise ValueError(f"{text} is out of range; 16 to {MAX_SIDE_PX} pixels a side")
        if width % 2 or height % 2:
            even = f"{width + width % 2}x{height + height % 2}"
            raise ValueError(f"{text}: H.264 players want even sides; try {even}")
        return width, height
    if re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?", text.strip()):
        factor = Fraction(Decimal(text.strip()))
        if not Fraction(1, 16) <= factor <= 16:
            raise ValueError(f"{text} is out of range; a factor of 0.0625 to 16")
        return factor
    raise ValueError(f"{text} is neither a size, as 1280x720, nor a factor, as 2 or 1.5")
