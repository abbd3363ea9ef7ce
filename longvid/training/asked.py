"""What a training was asked for, and where it keeps what. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from longvid.backends import Dtype
from longvid.training.recipe import Recipe

Part = Literal["denoiser", "codec", "decoder"]


@dataclass(frozen=True)
class Asked:
    """What `longvid finetune` was asked for. ``data``: a folder, or a dataset's name, of which ``clips`` are
    taken. ``out``: the model's folder. ``part``: what is trained, ``from_scratch``: from nothing.
    ``lora_rank``: None trains the weights themselves; with ``merge`` a LoRA is added to them in the end.
    ``sampling_steps`` and ``window``: S and K of the films to come. ``short_steps`` and ``dropout``: as
    `Denoising` has them. ``sample``: the timeline of the sample films, None for two of the captions; the
    recipe says how often they are made."""

    data: str
    out: Path
    model: str
    recipe: Recipe
    size: tuple[int, int]
    fps: Fraction
    window: int
    sampling_steps: int
    dropout: float
    cache: Path
    part: Part = "denoiser"
    from_scratch: bool = False
    lora_rank: int | None = None
    merge: bool = False
    short_steps: int = 0
    clips: int | None = None
    held_out: Fraction = Fraction(1, 20)
    sample: Path | None = None
    workers: int = 2
    device: str = "auto"
    dtype: Dtype = "auto"

    @property
    def fresh(self) -> int | None:
        """The seed of weights that begin from nothing."""
        return self.recipe.seed if self.from_scratch else None

    @property
    def training(self) -> Path:
        """What the training itself needs, and what it tells; the model can do without."""
        return self.out / "training"

    @property
    def prepared(self) -> Path:
        """Where in the cache lies what is trained on."""
        return self.training / "prepared.json"

    @property
    def metrics(self) -> Path:
        return self.training / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.training / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.training / "samples"

    @property
    def board(self) -> Path:
        return self.training / "tensorboard"
