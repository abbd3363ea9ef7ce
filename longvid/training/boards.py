"""The figures of a training as TensorBoard shows them, where that is installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from longvid.training.metrics import mean

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from longvid.training.trainer import Stepped


class Board:
    """Event files in a folder. What cannot be written there is not: every figure is in ``metrics.jsonl``."""

    def __init__(self, writer: SummaryWriter | None) -> None:
        """``writer``: None where TensorBoard is not installed."""
        self.writer = writer

    def write(self, step: int, figures: Mapping[str, float | None]) -> None:
        """Figures by their names, as they are at a step; those that are None are left out."""
        for name, figure in figures.items():
            if self.writer is not None and figure is not None:
                with suppress(OSError):
                    self.writer.add_scalar(name, figure, step)

    def write_step(self, stepped: Stepped) -> None:
        """Loss, rate, and what is held out: its mean, and by check."""
        checks = {f"held_out/{check}": loss for check, loss in stepped.held_out.items()}
        self.write(
            stepped.step,
            {"loss": stepped.loss, "lr": stepped.lr, "held_out": mean(stepped.held_out), **checks},
        )


@contextmanager
def board(folder: Path, step: int) -> Iterator[Board]:
    """What is written below goes on behind ``step``; what an earlier run wrote of later ones is not shown."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        yield Board(None)
        return
    try:
        writer = SummaryWriter(str(folder), purge_step=step + 1)
    except OSError:
        yield Board(None)
        return
    try:
        yield Board(writer)
    finally:
        with suppress(OSError):
            writer.close()
