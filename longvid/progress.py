"""One stream of events from a render, and three ways to show it: a live display, plain lines, JSON lines."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, TextIO

from longvid import training_events as training
from longvid.errors import LockedError, RenderError, UserError
from longvid.times import duration

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

Choice = Literal["auto", "rich", "plain", "json"]
PLAIN_SECONDS = 10.0
"""Plain lines come at most this often, beside those that begin a shot."""
DRAW_SECONDS = 0.1
"""The live display is drawn at most this often."""


@dataclass(frozen=True)
class Noted:
    """A line for the person: which model and why, words that it does not know."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Began:
    """Everything is loaded and checked; the first evaluation follows."""

    title: str
    output: str
    model: str
    device: str
    dtype: str
    size: tuple[int, int]
    """Width, height of the film in pixels."""
    fps: float
    frames: int
    chunks: int
    shots: int
    evaluations: int
    steps: int


@dataclass(frozen=True)
class Loading:
    """Something that takes a while before the first evaluation, such as the prompts being encoded."""

    what: str


@dataclass(frozen=True)
class Stepped:
    """One evaluation is done, and every chunk that it finished is in the work directory."""

    step: int
    """Evaluations done."""
    evaluations: int
    units: tuple[int, ...]
    """The window as it is now, in order of time."""
    levels: tuple[int, ...]
    """The units' noise levels: ``steps`` is pure noise, 0 finished."""
    steps: int
    shot: int
    """The shot of the chunk that finishes next, from 0."""
    shots: int
    prompt: str
    frames_done: int
    frames: int
    fps: float
    seconds: float
    """Since the first evaluation began."""
    begun_at: int = 0
    """Evaluations that an earlier render had done."""


@dataclass(frozen=True)
class ChunkSaved:
    """A chunk is finished and safe on disk."""

    chunk: int
    chunks: int
    frames_done: int
    frames: int


@dataclass(frozen=True)
class PreviewWritten:
    path: str
    frames: int


@dataclass(frozen=True)
class Done:
    """The film is there."""

    output: str
    frames: int
    fps: float
    seconds: float
    """From the first evaluation to the film; 0 where it was there already."""
    bytes: int
    kept_frames: int = 0
    """Frames that an earlier render left."""


@dataclass(frozen=True)
class Stopped:
    """The render ended before the film did, and this is how things stand."""

    why: str
    chunks_done: int
    chunks: int
    frames_done: int
    frames: int
    fps: float
    work: str
    """The work directory, which keeps the finished chunks and their preview."""


@dataclass(frozen=True)
class Failed:
    """It went wrong: the one line for a person, and the code that the command exits with."""

    message: str
    exit_code: int
    traceback: str | None = None
    """Of a bug alone."""


Event = (
    Noted | Began | Loading | Stepped | ChunkSaved | PreviewWritten | Done | Stopped | Failed | training.Event
)
Show = Callable[[Event], None]


@contextmanager
def showing(choice: Choice, quiet: bool = False, stream: TextIO | None = None) -> Iterator[Show]:
    """A function that shows events on ``stream`` (stderr) until the block ends.

    ``auto`` is the live display on a terminal and plain lines anywhere else. ``quiet`` shows nothing. With
    ``json`` an error inside the block is shown as well, as Failed, and leaves as SystemExit: nothing but JSON
    is on the stream.
    """
    stream = stream or sys.stderr
    if choice == "json":
        with _json(stream) as show:
            yield (lambda event: None) if quiet else show
    elif quiet:
        yield lambda event: None
    elif choice == "rich" or (choice == "auto" and stream.isatty() and os.environ.get("TERM") != "dumb"):
        with _live(stream) as show:
            yield show
    else:
        yield _Plain(stream)


def to_json(event: Event) -> str:
    """One line: {"event": "stepped", ...} with the event's own fields."""
    name = "".join(f"_{c.lower()}" if c.isupper() else c for c in type(event).__name__).lstrip("_")
    return json.dumps({"event": name, **asdict(event)}, ensure_ascii=False)


def clock(frames: int, fps: float) -> str:
    """A place in the film, to the second."""
    return duration(frames / fps)


def seconds_left(event: Stepped) -> float:
    """From the evaluations done so far."""
    return event.seconds / (event.step - event.begun_at) * (event.evaluations - event.step)


def frames_a_second(event: Stepped) -> float:
    """Frames of film that the evaluations done so far amount to, a second."""
    done = (event.step - event.begun_at) / event.evaluations
    return event.frames * done / max(event.seconds, 1e-9)


def summary(event: Began) -> str:
    width, height = event.size
    return (
        f"{event.output}: {clock(event.frames, event.fps)} of film, {event.frames} frames of "
        f"{width}x{height} at {event.fps:g} a second, in {event.chunks} chunks of {event.steps} steps "
        f"on {event.device} ({event.dtype})"
    )


def finished(event: Done) -> str:
    if not event.seconds:
        return f"{clock(event.frames, event.fps)} of film is there already, nothing to do"
    rate = (event.frames - event.kept_frames) / event.seconds
    return (
        f"{clock(event.frames, event.fps)} of film in {duration(event.seconds)} "
        f"({rate:.1f} frames/s), {event.bytes / 1e6:.1f} MB"
    )


def standing(event: Stopped) -> str:
    """How things stand, and what to do next."""
    kept = f"{event.chunks_done} of {event.chunks} chunks"
    if event.chunks_done:
        kept += f" ({clock(event.frames_done, event.fps)} of {clock(event.frames, event.fps)})"
    return f"{event.why}; {kept} are kept; to go on: longvid resume {shlex.quote(event.work)}"


# JSON lines


@contextmanager
def _json(stream: TextIO) -> Iterator[Show]:
    def show(event: Event) -> None:
        print(to_json(event), file=stream, flush=True)

    def warned(message: Warning | str, *where: object, **more: object) -> None:
        show(Noted(str(message), warning=True))

    with warnings.catch_warnings():
        warnings.showwarning = warned
        try:
            yield show
        except (UserError, LockedError, RenderError) as error:
            failed = Failed(str(error), error.exit_code)
        except KeyboardInterrupt:
            failed = Failed("broken off", 130)
        except Exception as error:  # a bug: its traceback goes where the reader looks
            said = "".join(traceback.format_exception(error))
            failed = Failed(f"{type(error).__name__}: {error}", 1, said)
        else:
            return
        show(failed)
        raise SystemExit(failed.exit_code)


# Plain lines


class _Plain:
    """A line where something changes, and one every few seconds: what a log should hold."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.last = -PLAIN_SECONDS
        self.shot = -1
        self.counted_at = 0.0

    def __call__(self, event: Event) -> None:
        line = self.line(event)
        if line:
            print(line, file=self.stream, flush=True)

    def line(self, event: Event) -> str | None:
        match event:
            case Noted():
                return f"warning: {event.text}" if event.warning else event.text
            case Loading():
                return event.what
            case Began():
                return summary(event)
            case Stepped():
                if event.shot == self.shot and event.seconds - self.last < PLAIN_SECONDS:
                    return None
                self.last = event.seconds
                said = (
                    f"{100 * event.step // event.evaluations:3d} %  {clock(event.frames_done, event.fps)} of "
                )
                said += f"{clock(event.frames, event.fps)}  {frames_a_second(event):.1f} frames/s  "
                said += f"{duration(seconds_left(event))} left"
                if event.shot != self.shot:
                    said += f"  shot {event.shot + 1} of {event.shots}: {event.prompt or 'without words'}"
                self.shot = event.shot
                return said
            case Done():
                return finished(event)
            case Stopped():
                return standing(event)
            case training.Counted():
                if 0 < event.done < event.total and time.monotonic() - self.counted_at < PLAIN_SECONDS:
                    return None
                self.counted_at = time.monotonic()
                return training.line(event)
            case training.TrainingStepped():
                if not (event.measured or event.seconds - self.last >= PLAIN_SECONDS):
                    return None
                self.last = event.seconds
                return training.line(event)
            case ChunkSaved() | PreviewWritten() | Failed():
                return None
            case _:
                return training.line(event)


# The live display


@contextmanager
def _live(stream: TextIO) -> Iterator[Show]:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(file=stream, highlight=False)
    drawn = 0.0
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def show(event: Event) -> None:
            nonlocal drawn
            match event:
                case Noted():
                    console.print(event.text, style="yellow" if event.warning else "dim", markup=False)
                case Began():
                    live.update("", refresh=True)
                    console.print(summary(event), style="dim", markup=False, soft_wrap=True)
                case Loading():
                    live.update(Text(f"{event.what} …", style="dim"), refresh=True)
                case training.Counted() if time.monotonic() - drawn > DRAW_SECONDS:
                    live.update(Text(f"{training.line(event)} …", style="dim"), refresh=True)
                    drawn = time.monotonic()
                case Stepped() if time.monotonic() - drawn > DRAW_SECONDS:
                    live.update(picture(event), refresh=True)
                    drawn = time.monotonic()
                case Done():
                    live.update("", refresh=True)
                    console.print(finished(event), style="green")
                case Stopped():
                    live.update("", refresh=True)
                    console.print(standing(event), style="yellow", markup=False, soft_wrap=True)
                case training.TrainingStepped() if time.monotonic() - drawn > DRAW_SECONDS:
                    live.update(training.picture(event), refresh=True)
                    drawn = time.monotonic()
                case training.TrainingBegan() | training.TrainingDone() | training.TrainingStopped():
                    live.update("", refresh=True)
                    console.print(training.line(event), style="green", markup=False, soft_wrap=True)
                case training.CheckpointWritten() | training.SampleWritten():
                    console.print(training.line(event), style="dim", markup=False, soft_wrap=True)
                case _:
                    pass

        yield show


def picture(event: Stepped) -> RenderableType:
    """The display of one moment: the bar, the shot at work, and what is done of each unit in the window."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    bar = Table.grid(padding=(0, 2), expand=True)
    bar.add_column(ratio=1)
    for _ in range(3):
        bar.add_column(no_wrap=True)
    bar.add_row(
        ProgressBar(total=event.evaluations, completed=event.step),
        f"{clock(event.frames_done, event.fps)} / {clock(event.frames, event.fps)}",
        f"{frames_a_second(event):.1f} frames/s",
        f"[bold]{duration(seconds_left(event))} left[/]",
    )
    shot = Text(no_wrap=True, overflow="ellipsis")
    shot.append(f"shot {event.shot + 1}/{event.shots}  ", style="dim")
    shot.append(event.prompt)
    return Group(bar, shot, window(event))


CELLS = 6
"""Width of a unit's bar in the window."""
EIGHTHS = " ▏▎▍▌▋▊▉█"


def window(event: Stepped) -> Text:
    """The units in order of time, each as a bar that fills while its noise goes."""
    from rich.text import Text

    line = Text(no_wrap=True, overflow="ellipsis")
    line.append("window    ", style="dim")
    for unit, level in zip(event.units, event.levels, strict=True):
        eighths = round((1 - level / event.steps) * CELLS * 8)
        full, part = divmod(eighths, 8)
        filled = "█" * full + (EIGHTHS[part] if part else "")
        color = "green" if level == 0 else "cyan" if 2 * level <= event.steps else "magenta"
        line.append(f"{unit} ", style="dim")
        line.append(filled.ljust(CELLS), style=f"{color} on grey15")
        line.append("  ")
    return line
