"""A film, edited, as files: what is wanted is checked and drawn first, then written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import av

from longvid import files
from longvid.editing import Edit, check_files, picture, pieces, sheets, sound, text, tracks
from longvid.editing import credits as closing
from longvid.editing import film as films
from longvid.editing.credits import Reel
from longvid.editing.film import Film
from longvid.editing.picture import Effect
from longvid.editing.tracks import Captions, Copied, Mixed, Track, Tracks
from longvid.errors import RenderError, UserError
from longvid.progress import Event, Loading, Noted
from longvid.times import duration, round_half_up
from longvid.video import source, writer
from longvid.video.writer import Chapter

Show = Callable[[Event], None]
CONTAINER_KEYS = {"major_brand", "minor_version", "compatible_brands", "encoder"}
"""What a file's metadata say of the file, not of the film."""
PICTURE_CODECS = {"h264", "hevc", "av1", "vp9", "mpeg4"}
SOUND_CODECS = {"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"}
"""What MP4 players know, and so what can be copied."""
TOLD_SECONDS = 2.0
"""How far a film is written is told at most this often."""


PICTURES: Mapping[str, Callable[[Film, Path, Path | None], bytes]] = {
    "poster": sheets.poster,
    "contact sheet": sheets.contact_sheet,
    "storyboard": sheets.storyboard,
}


@dataclass(frozen=True)
class Edition:
    """Everything that is needed to write the edited film."""

    film: Film
    size: tuple[int, int]
    crf: int
    effects: tuple[Effect, ...]
    credits: Reel | None
    tracks: Tracks
    chapters: tuple[Chapter, ...]
    metadata: dict[str, str]
    copied: bool
    """Whether no frame changes and none is added."""

    @property
    def frames(self) -> int:
        return self.film.source.frames + (0 if self.credits is None else self.credits.frames)


def apply(path: Path, edit: Edit, output: Path | None, show: Show) -> None:
    """As ``longvid.editing.apply``."""
    check_files(path, edit, output)
    show(Loading(f"reading {path}"))
    film = films.read(path)
    edition = None if output is None else prepare(film, edit, show)
    for note in notes(film, edit, copied=edition is not None and edition.copied):
        show(Noted(f"{path}: {note}", warning=True))
    drawn = pictures(film, edit, show)
    if output is not None and edition is not None:
        with files.replacing(output) as partial:
            write(edition, partial, show)
    for file, content in drawn.items():
        files.write(file, content)


def notes(film: Film, edit: Edit, *, copied: bool) -> Iterator[str]:
    """What a person should know of the film: what is lost of it, and what becomes of a picture that is not
    ``copied``; and of what they asked for in vain."""
    yield from (note for note in film.source.notes if not copied or note.startswith(source.DAMAGED))
    if edit.crossfade.amount and not any(shot.cut for shot in film.shots[1:]):
        yield "no shot begins with a cut, so nothing dissolves"


def rehearse(film: Film, edit: Edit, show: Show) -> None:
    """Raise UserError for what would be wrong with the edit of a film that is not there yet."""
    reel(film, edit)
    picture.effects(film, edit)
    captioned(film, edit)
    if edit.pictures:
        text.check_installed()
    if edit.music is not None:
        show(Loading(f"listening to {edit.music}"))
        sound.listen(edit.music, tracks.RATES[-1])


def pictures(film: Film, edit: Edit, show: Show) -> dict[Path, bytes]:
    """The pictures that are wanted beside the film, as the content of files. Raises UserError."""
    drawn: dict[Path, bytes] = {}
    for what, file in edit.pictures.items():
        text.check_installed()
        show(Loading(f"drawing the {what}"))
        drawn[file] = PICTURES[what](film, file, edit.font)
    return drawn


def reel(film: Film, edit: Edit) -> Reel | None:
    if not edit.credits.strip():
        return None
    return closing.reel(edit, picture.output_size(film, edit), film.source.fps)


def captioned(film: Film, edit: Edit) -> None:
    """Raise UserError where captions are wanted and there is nothing to say."""
    if edit.captions != "off" and not any(picture.words(film, shot) for shot in film.shots):
        raise UserError(f"{film.source.path}: tells of no prompts or chapters; leave the captions out")


def prepare(film: Film, edit: Edit, show: Show) -> Edition:
    """Everything drawn and measured; nothing is written. Raises UserError."""
    clip = film.source
    size = picture.output_size(film, edit)
    effects = picture.effects(film, edit)
    credits = reel(film, edit)
    captioned(film, edit)
    metadata = {key: value for key, value in clip.metadata.items() if key not in CONTAINER_KEYS}
    if edit.title and not metadata.get("title"):
        metadata["title"] = " ".join(edit.title.split())
    chapters = film.chapters
    if credits is not None and chapters:
        chapters = (*chapters, Chapter("Credits", clip.frames, clip.frames + credits.frames))
    frames = clip.frames + (0 if credits is None else credits.frames)
    with av.open(str(clip.path)) as container:
        copied = (
            not effects
            and credits is None
            and container.streams[clip.stream].codec_context.name in PICTURE_CODECS
        )
    return Edition(
        film=film,
        size=size,
        crf=edit.crf,
        effects=effects,
        credits=credits,
        tracks=Tracks((*heard(film, edit, frames, show), *subtitles(film, edit))),
        chapters=chapters,
        metadata=metadata,
        copied=copied,
    )


def heard(film: Film, edit: Edit, frames: int, show: Show) -> list[Track]:
    """Each of the film's tracks of sound: as it is, or faded and with music. A silent film gets the music."""
    clip = film.source
    fade = edit.fade.seconds(clip.fps)
    kept: list[Track] = []
    songs: dict[int, sound.Song] = {}

    def mixed(index: int | None, rate: int, layout: str, language: str) -> Mixed:
        rate = rate if rate in tracks.RATES else tracks.RATES[-1]
        if edit.music is not None and rate not in songs:
            show(Loading(f"listening to {edit.music}"))
            songs[rate] = sound.listen(edit.music, rate)
        length = frames / clip.fps
        return Mixed(
            path=clip.path,
            index=index,
            start=clip.start,
            rate=rate,
            layout=layout,
            language=language,
            film_samples=round_half_up(clip.frames / clip.fps * rate),
            samples=round_half_up((length if edit.music is not None else clip.frames / clip.fps) * rate),
            fade_samples=round_half_up(min(fade, clip.frames / clip.fps / 2) * rate),
            song=songs.get(rate),
        )

    for track in clip.audio:
        if edit.music is None and not fade and track.codec in SOUND_CODECS:
            kept.append(Copied(clip.path, track.index, clip.start))
        else:
            layout = "mono" if track.channels == 1 and edit.music is None else "stereo"
            kept.append(mixed(track.index, track.sample_rate, layout, track.language))
    if not clip.audio and edit.music is not None:
        kept.append(mixed(None, tracks.RATES[-1], "stereo", ""))
    return kept


def subtitles(film: Film, edit: Edit) -> list[Track]:
    """The film's own, as they are, and the prompts where they are wanted as a track."""
    clip = film.source
    with av.open(str(clip.path)) as container:
        kept: list[Track] = [
            Copied(clip.path, stream.index, clip.start)
            for stream in container.streams.subtitles
            if stream.codec_context.name == "mov_text"
        ]
    if edit.captions == "track":
        said = tuple(
            (shot.start_frame, shot.end_frame, picture.words(film, shot))
            for shot in film.shots
            if picture.words(film, shot)
        )
        kept.append(Captions(said, clip.fps))
    return kept


def write(edition: Edition, path: Path, show: Show) -> None:
    """The edited film, straight into the file ``path``. Raises RenderError and OSError."""
    try:
        if edition.copied:
            _copy(edition, path)
            return
        fps, last = edition.film.source.fps, 0.0

        def told(done: int) -> None:
            nonlocal last
            if time.monotonic() - last >= TOLD_SECONDS:
                last = time.monotonic()
                at, end = duration(float(done / fps)), duration(float(edition.frames / fps))
                show(Loading(f"writing the film, {at} of {end}"))

        plan = pieces.pieces(edition.film, edition.effects, edition.size, edition.crf)
        made = pieces.segments(
            edition.film, plan, edition.effects, edition.credits, edition.size, edition.crf, told
        )
        writer.remux(made, path, edition.film.source.fps, edition.chapters, edition.metadata, edition.tracks)
    except av.FFmpegError as error:
        raise RenderError(f"{edition.film.source.path}: cannot be edited: {error.strerror}") from error


def _copy(edition: Edition, path: Path) -> None:
    """The film's own packets at their own times, and the tracks beside them."""
    clip = edition.film.source
    options = {"movflags": "+faststart+use_metadata_tags"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        container.metadata.update(edition.metadata)
        container.set_chapters(
            [
                {
                    "id": number,
                    "start": chapter.start_frame,
                    "end": chapter.end_frame,
                    "time_base": 1 / clip.fps,
                    "metadata": {"title": chapter.title},
                }
                for number, chapter in enumerate(edition.chapters)
            ]
        )
        everything = Tracks((Copied(clip.path, clip.stream, clip.start), *edition.tracks.tracks))
        for packet in everything.add_to(container):
            container.mux(packet)
