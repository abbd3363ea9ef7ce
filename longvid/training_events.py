"""What a training tells a person, and in which words: the events beside those of a render. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from longvid.times import duration

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Counted:
    """So many of something that takes a while are done."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class TrainingBegan:
    """Everything is loaded and encoded; the first step follows."""

    output: str
    model: str
    part: str
    device: str
    dtype: str
    processes: int
    parameters: int
    """Numbers that are trained."""
    step: int
    """That it goes on from; 0 for a training that begins."""
    steps: int
    held_out: float | None
    """The loss on what is held out as it stands there; None where nothing is."""


@dataclass(frozen=True)
class TrainingStepped:
    """A step is done."""

    step: int
    steps: int
    loss: float | None
    """None where it was no finite number."""
    lr: float
    samples_per_second: float
    seconds: float
    """Into the training so far, measuring and saving included."""
    seconds_left: float
    skipped: int
    """Steps that were left out, as their loss was no finite number."""
    held_out: float | None
    """The loss on what is held out, as it was last measured."""
    measured: bool
    """Whether that was in this step."""


@dataclass(frozen=True)
class CheckpointWritten:
    """The training goes on from here after a kill."""

    step: int
    path: str


@dataclass(frozen=True)
class SampleWritten:
    """A film by the network as it is now."""

    step: int
    path: str


@dataclass(frozen=True)
class TrainingDone:
    """The model is there. ``held_out`` and ``psnr`` (dB): before and after, where they were measured."""

    output: str
    step: int
    """Of the checkpoint that it is made of, the best one."""
    steps: int
    held_out: tuple[float, float] | None
    psnr: tuple[float, float] | None


@dataclass(frozen=True)
class TrainingStopped:
    """It ended before its last step; the same command goes on from there."""

    why: str
    step: int
    steps: int


Event = (Counted | TrainingBegan | TrainingStepped | CheckpointWritten | SampleWritten) | (
    TrainingDone | TrainingStopped
)


def line(event: Event) -> str:
    """The event in one line."""
    match event:
        case Counted():
            return f"{event.what}: {event.done} of {event.total}"
        case TrainingBegan():
            return (
                f"{event.output}: {event.part} of {event.model}, {event.parameters:,} numbers, "
                f"{f'from step {event.step} of {event.steps}' if event.step else f'{event.steps} steps'} "
                f"on {event.device} ({event.dtype})"
                + (f", {event.processes} processes" if event.processes > 1 else "")
            )
        case TrainingStepped():
            return (
                f"{100 * event.step // event.steps:3d} %  step {event.step} of {event.steps}  "
                f"{'  '.join(figures(event))}  {duration(event.seconds_left)} left"
            )
        case CheckpointWritten():
            return f"checkpoint {event.path}"
        case SampleWritten():
            return f"sample film {event.path}"
        case TrainingDone():
            came = [f"{event.output}: trained for {event.steps} steps"]
            if event.step != event.steps:
                came.append(f"best at step {event.step}")
            if event.held_out is not None:
                came.append("loss on what is held out {:.4f} -> {:.4f}".format(*event.held_out))
            if event.psnr is not None:
                came.append("PSNR {:.2f} -> {:.2f} dB".format(*event.psnr))
            return ", ".join(came)
        case TrainingStopped():
            return (
                f"{event.why} at step {event.step} of {event.steps}, behind a checkpoint; "
                "the same command goes on"
            )


def figures(event: TrainingStepped) -> list[str]:
    """How the training stands."""
    loss = "no number" if event.loss is None else f"{event.loss:.4f}"
    said = [f"loss {loss}"]
    if event.held_out is not None:
        said.append(f"held out {event.held_out:.4f}")
    said += [f"lr {event.lr:.2g}", f"{event.samples_per_second:.1f} clips/s"]
    if event.skipped:
        said.append(f"{event.skipped} skipped")
    return said


def picture(event: TrainingStepped) -> RenderableType:
    """The live display of one moment: the bar, and the figures below."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    bar = Table.grid(padding=(0, 2), expand=True)
    bar.add_column(ratio=1)
    for _ in range(2):
        bar.add_column(no_wrap=True)
    bar.add_row(
        ProgressBar(total=event.steps, completed=event.step),
        f"step {event.step} / {event.steps}",
        f"[bold]{duration(event.seconds_left)} left[/]",
    )
    return Group(bar, Text("  ".join(figures(event)), style="dim", no_wrap=True, overflow="ellipsis"))
