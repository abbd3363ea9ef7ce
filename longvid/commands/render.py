"""`longvid render`: a timeline becomes a film. `longvid resume`: goes on with one."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated
from zlib import crc32

import typer

from longvid.commands import options
from longvid.errors import RenderError, UserError
from longvid.progress import Done

if TYPE_CHECKING:
    from longvid.backends import Backend, Lora
    from longvid.plan import RenderPlan
    from longvid.progress import Event, Noted, Show, Stopped
    from longvid.request import Request


def render(
    file: options.File,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The film; left out: the timeline's name + .mp4, here."),
    ] = None,
    model: options.Model = None,
    lora: options.Lora = None,
    seed: options.Seed = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    method: options.Method = None,
    draft: options.Draft = False,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    compile: options.Compile = False,
    overwrite: options.Overwrite = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Move an earlier render's work directory aside and start anew.")
    ] = False,
    freeze: Annotated[
        bool,
        typer.Option("--freeze", help="Keep what is finished before an edit as it is, to the last frame."),
    ] = False,
    branch_at: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="With --as: where the take differs.")
    ] = None,
    take: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Render another take; --seed is its seed.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Take over edits of the timeline while it renders, and wait.")
    ] = False,
    progress: options.Progress = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Render a timeline into an MP4 and print the film's path.

    Beside the film lies its work directory, film.longvid, with every finished chunk and a preview.mp4 that
    plays while the film grows. A render goes on from what is there: after a kill, and after an edit of the
    timeline, of which it keeps every chunk that the edit does not reach. Ctrl-C stops after the step at hand.
    """
    from longvid import timeline
    from longvid.progress import showing
    from longvid.request import Request
    from longvid.settings import Overrides

    if (branch_at is None) != (take is None):
        raise UserError("--from and --as go together: where a take differs, and what it is called")
    if freeze and watch:
        raise UserError("--freeze: keeps what is finished once; with --watch it always is; leave one out")
    branch_seed = 0
    if take is not None:
        seed, branch_seed = None, seed if seed is not None else crc32(take.encode())

    def asked() -> Request:
        overrides = Overrides(
            seed=seed,
            steps=steps,
            guidance=guidance,
            method=method,
            draft=draft,
            branch_at=branch_at,
            branch_seed=branch_seed,
        )
        loras = named_loras(lora)
        return Request(timeline.load(file), model, overrides, device, dtype, compile, loras=loras)

    with showing(progress, quiet) as show:
        film, code = run(
            asked,
            output,
            show,
            told=progress != "json",
            overwrite=overwrite,
            fresh=fresh,
            freeze=freeze,
            take=take,
            watched=file if watch else None,
        )
    end(film, code)


def named_loras(written: Sequence[str] | None) -> tuple[Lora, ...] | None:
    """What --lora names; None where it was not given. Raises UserError."""
    from longvid.lora import parse

    try:
        return tuple(map(parse, written)) if written else None
    except UserError as error:
        raise UserError(f"--lora: {error}") from error


def resume(
    work: options.Work,
    progress: options.Progress = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Go on with a render as it was asked for; needs no timeline."""
    from longvid.keeping import read_request
    from longvid.outputs import work_film
    from longvid.progress import showing

    with showing(progress, quiet) as show:
        film, code = run(lambda: read_request(work), work_film(work), show, told=progress != "json")
    end(film, code)


def end(film: Path, code: int) -> None:
    """Print the film's path, or exit with the code of what stopped it."""
    if code:
        raise typer.Exit(code)
    typer.echo(film)


def run(
    asked: Callable[[], Request],
    output: Path | None,
    show: Show,
    *,
    told: bool,
    overwrite: bool = False,
    fresh: bool = False,
    freeze: bool = False,
    take: str | None = None,
    watched: Path | None = None,
) -> tuple[Path, int]:
    """Render what is asked for; returns the film's path, and 0 or the exit code of what stopped it.

    ``asked``: reads what is asked for, again at every edit of the file ``watched``. ``told``: a person at a
    terminal is told that a signal was heard.
    """
    from longvid.progress import Loading, Noted, standing

    with signals(told=told) as received:
        request = asked()
        choice = request.choose()
        request = request.settled(choice.backend)
        planned = request.plan(choice.backend)
        for note in notes(str(choice), planned):
            show(note)
        show(Loading("loading PyTorch"))
        from longvid.keeping import own_start, unchanged
        from longvid.outputs import work_path
        from longvid.rendering import events, film_path
        from longvid.state import branch, unbranch

        film = film_path(request.timeline, output)
        if take is not None:
            film = branch(film, take)
        if freeze:
            work = work_path(film)
            request = replace(request, start=own_start(work, unchanged(work, planned), planned))
            planned = request.plan(choice.backend)
        edits = Edits(watched, asked, choice.backend, show, stamp(watched))
        while True:
            happening = events(
                planned,
                choice.backend,
                film,
                device=request.device,
                dtype=request.dtype,
                compile=request.compile,
                overwrite=overwrite,
                fresh=fresh,
                request=request,
            )
            event: Event | None = None
            try:
                with closing(followed(happening, edits)) as seen:
                    for event in seen:
                        show(event)
                        if received and not isinstance(event, Done):
                            break
            except UserError:
                if take is not None:
                    unbranch(film)
                raise
            except RenderError as error:
                raise RenderError(standing(stopped(str(error), planned, work_path(film)))) from error
            except KeyboardInterrupt:
                if not received:
                    raise
            if not isinstance(event, Done):
                why = f"stopped by {signal.Signals(received[0]).name}"
                show(stopped(why, planned, work_path(film)))
                return film, 128 + received[0]
            if watched is None:
                return film, 0
            # A live film: it goes on when the file is saved again.
            fresh = overwrite = False
            show(Noted(f"watching {watched}; Ctrl-C ends it"))
            latest = edits.missed(request)
            while latest is None and not received:
                time.sleep(WATCH_SECONDS)
                latest = edits()
            if latest is None:
                return film, 0
            request, planned = latest, latest.plan(choice.backend)


def stopped(why: str, planned: RenderPlan, work: Path) -> Stopped:
    """How a render that was stopped stands, by what is on disk: of earlier ones, and saved while it ended."""
    from longvid import takes
    from longvid.progress import Stopped

    records = takes.read(work, None).records[: len(planned.units)]
    return Stopped(
        why=why,
        chunks_done=len(records),
        chunks=len(planned.units),
        frames_done=min(sum(record["frames"] for record in records), planned.frames),
        frames=planned.frames,
        fps=float(planned.fps),
        work=str(work),
    )


def followed(happening: Generator[Event, Request | None, None], edits: Edits) -> Generator[Event, None, None]:
    """The render's events; behind each step it is told of an edit. Closing this one stops it cleanly."""
    from longvid.progress import Stepped

    with closing(happening), suppress(StopIteration):
        edit: Request | None = None
        while True:
            event = happening.send(edit)
            yield event
            edit = edits() if isinstance(event, Stepped) else None


WATCH_SECONDS = 0.5


@dataclass
class Edits:
    """What is asked for whenever the ``file`` was saved, if all is right with it; None: it is not watched."""

    file: Path | None
    asked: Callable[[], Request]
    backend: Backend
    show: Show
    seen: tuple[int, ...]
    """The file as it was last looked at."""

    def __call__(self) -> Request | None:
        """What is asked for now, if the file was saved since."""
        from longvid.progress import Noted

        if self.file is None or self.seen == (stamped := stamp(self.file)):
            return None
        self.seen = stamped
        try:
            now = self.asked().settled(self.backend)
            now.plan(self.backend)
        except UserError as error:
            self.show(Noted(f"{error}; goes on as before until that is mended", warning=True))
            return None
        return now

    def missed(self, request: Request) -> Request | None:
        """What is asked for now, if it is right and another film than this one."""
        try:
            now = self.asked().settled(self.backend)
            return None if now.plan(self.backend) == request.plan(self.backend) else now
        except UserError:
            return None


def stamp(file: Path | None) -> tuple[int, ...]:
    """Changes whenever the file is saved."""
    try:
        stat = file.stat() if file is not None else None
    except OSError:
        stat = None  # between two names, as editors save
    return () if stat is None else (stat.st_mtime_ns, stat.st_size, stat.st_ino)


def notes(choice: str, planned: RenderPlan) -> Iterator[Noted]:
    """Which model and why, and the words that it does not know."""
    from longvid.progress import Noted

    yield Noted(choice)
    for shot in planned.shots:
        if shot.unknown_words:
            words = ", ".join(shot.unknown_words)
            yield Noted(f"shot {shot.index + 1}: {planned.model} does not know: {words}", warning=True)


@contextmanager
def signals(*, told: bool) -> Iterator[list[int]]:
    """A list that Ctrl-C and SIGTERM append to, instead of breaking off; a second one is a KeyboardInterrupt.

    ``told``: a person at a terminal is told so.
    """
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            restore()
            raise KeyboardInterrupt
        if told and sys.stderr.isatty():  # past Python's buffers, which may be in use at this very moment
            os.write(sys.stderr.fileno(), b"\nstopping after this step; once more breaks it off\n")

    for number in before:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        restore()
