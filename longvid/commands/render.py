"""`longvid render`: a timeline becomes a film."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from longvid.commands import options
from longvid.errors import RenderError
from longvid.progress import Choice, Done

if TYPE_CHECKING:
    from longvid.plan import RenderPlan
    from longvid.progress import Noted


def render(
    file: options.File,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The film; left out: the timeline's name + .mp4, here."),
    ] = None,
    model: options.Model = None,
    seed: options.Seed = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    method: options.Method = None,
    draft: options.Draft = False,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    compile: options.Compile = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that no render here made.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Move an earlier render's work directory aside and start anew.")
    ] = False,
    progress: Annotated[
        Choice, typer.Option(help="auto: live on a terminal, plain lines elsewhere. All on stderr.")
    ] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors.")] = False,
) -> None:
    """Render a timeline into an MP4 and print the film's path.

    Beside the film lies its work directory, film.longvid, with every finished chunk and a preview.mp4 that
    plays while the film grows. Ctrl-C stops after the step at hand and keeps what is finished.
    """
    from longvid import plugins, timeline
    from longvid.plan import plan
    from longvid.progress import ChunkSaved, Loading, Stopped, showing, standing
    from longvid.settings import Overrides

    with showing(progress, quiet) as show, signals(told=progress != "json") as received:
        parsed = timeline.load(file)
        choice = plugins.choose(parsed, model)
        overrides = Overrides(seed=seed, steps=steps, guidance=guidance, method=method, draft=draft)
        planned = plan(parsed, choice.backend, overrides)
        for note in notes(str(choice), planned):
            show(note)
        show(Loading("loading PyTorch"))
        from longvid.rendering import events, film_path
        from longvid.state import work_path

        film = film_path(parsed, output)
        last = ChunkSaved(chunk=-1, chunks=len(planned.units), frames_done=0, frames=planned.frames)

        def stopped(why: str) -> Stopped:
            work = str(work_path(film))
            return Stopped(
                why, last.chunk + 1, last.chunks, last.frames_done, last.frames, float(planned.fps), work
            )

        happening = events(
            planned,
            choice.backend,
            film,
            device=device,
            dtype=dtype,
            compile=compile,
            overwrite=overwrite,
            fresh=fresh,
        )
        try:
            with closing(happening):
                for event in happening:
                    show(event)
                    if isinstance(event, ChunkSaved):
                        last = event
                    if received and not isinstance(event, Done):
                        break
        except RenderError as error:
            raise RenderError(standing(stopped(str(error)))) from error
        ended = isinstance(event, Done)
        if not ended:
            show(stopped(f"stopped by {signal.Signals(received[0]).name}"))
    if not ended:
        raise typer.Exit(128 + received[0])
    typer.echo(film)


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
    """A list that Ctrl-C and SIGTERM append to, instead of breaking off; a second one does break off.

    ``told``: a person at a terminal is told so.
    """
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        restore()
        if told and sys.stderr.isatty():  # past Python's buffers, which may be in use at this very moment
            os.write(sys.stderr.fileno(), b"\nstopping after this step; once more breaks it off\n")

    for number in before:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        restore()
