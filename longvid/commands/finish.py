"""`longvid finish`: a film gets its titles, captions, music and fades, and the pictures that show it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from longvid.commands import options
from longvid.errors import UserError

if TYPE_CHECKING:
    from longvid.editing import Edit
    from longvid.times import Time


def finish(
    film: Annotated[Path, typer.Argument(help="The film, an MP4.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The finished film; left out: the film's name + -finished.mp4, here."
        ),
    ] = None,
    title: Annotated[str, typer.Option(help="Shown over the first seconds; \\n begins another line.")] = "",
    credits: Annotated[
        str, typer.Option(metavar="TEXT|FILE", help="Shown on black at the end: a text, or a .txt file.")
    ] = "",
    captions: Annotated[
        Literal["off", "track", "burn"],
        typer.Option(help="Each shot's prompt, as a track that players can show, or burnt into the picture."),
    ] = "off",
    music: Annotated[
        Path | None,
        typer.Option(
            help="A song under the film, cut or looped to its length; gives way to the film's sound."
        ),
    ] = None,
    fade: Annotated[
        str, typer.Option(metavar="TIME", help="From black and silence, and back, over this time, such as 1.")
    ] = "0",
    crossfade: Annotated[
        str, typer.Option(metavar="TIME", help="Dissolve around every cut over this time; no time moves.")
    ] = "0",
    scale: Annotated[
        str | None, typer.Option(metavar="SIZE", help="1280x720, or a factor such as 2.")
    ] = None,
    font: Annotated[Path | None, typer.Option(help="A .ttf or .otf file for all letters.")] = None,
    crf: Annotated[
        int, typer.Option(min=1, max=51, help="Quality of what must be encoded again; 18 is hard to tell.")
    ] = 18,
    poster: Annotated[Path | None, typer.Option(help="Write a good frame as FILE.png.")] = None,
    contact_sheet: Annotated[
        Path | None, typer.Option(help="Write frames from all over the film as FILE.png.")
    ] = None,
    storyboard: Annotated[
        Path | None, typer.Option(help="Write a row for each shot as FILE.html or FILE.png.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Finish a film, and print the path of each file that is written.

    Only what changes is encoded again: with music or a track of captions alone, and wherever no letter, fade
    or dissolve touches the picture, it is copied as it is. Chapters and metadata stay.
    """
    from longvid.editing import Edit, apply, read_credits
    from longvid.progress import showing

    edit = Edit(
        title=_lines(title),
        credits=read_credits(_lines(credits)),
        captions=captions,
        music=music,
        fade=_time("--fade", fade),
        crossfade=_time("--crossfade", crossfade),
        scale=None if scale is None else _scale(scale),
        font=font,
        crf=crf,
        poster=poster,
        contact_sheet=contact_sheet,
        storyboard=storyboard,
    )
    if output is None and edit.changes_film:
        output = Path(f"{film.stem}-finished.mp4")
    written = [path for path in (output, *edit.pictures.values()) if path is not None]
    if not written:
        raise UserError(
            "nothing is asked for; `longvid finish film.mp4 --title … --music song.mp3 --fade 1`, "
            "or see `longvid finish --help`"
        )
    _check(film, edit, output, overwrite)
    with showing("auto", quiet) as show:
        apply(film, edit, output, show)
    for path in written:
        typer.echo(path)


def _lines(text: str) -> str:
    """A shell makes a line break hard to type."""
    return text.replace("\\n", "\n")


def _time(option: str, text: str) -> Time:
    from longvid.times import parse_time

    try:
        return parse_time(text)
    except ValueError as error:
        raise UserError(f"{option}: {error}") from error


def _scale(text: str) -> tuple[int, int] | Fraction:
    from longvid.editing import parse_scale

    try:
        return parse_scale(text)
    except ValueError as error:
        raise UserError(f"--scale: {error}") from error


def _check(film: Path, edit: Edit, output: Path | None, overwrite: bool) -> None:
    from longvid.editing import check_files
    from longvid.outputs import check_output

    if output is not None:
        check_output(output)
    check_files(film, edit, output)
    for path in (output, *edit.pictures.values()):
        if path is not None and path.exists() and not overwrite:
            raise UserError(f"{path} exists; --overwrite replaces it, or name another")
