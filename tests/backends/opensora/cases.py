"""The recorded numbers: one Case for every ``*.json`` of a folder that is not a ``*_model``."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

COPY = Path(__file__).parent / "fixtures"
"""At most 2 MB of the recorded numbers, so that an ordinary clone proves parity too."""
SHARED = Path(__file__).parents[4] / "shared" / "opensora" / "fixtures"

KINDS = ("stdit3", "vae", "sampler", "schedule", "training", "text_prompts", "sizes", "clip_transform")


@dataclass(frozen=True)
class Case:
    """One recording: ``about`` is its JSON, and its tensors are read when asked for."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def in_bf16(self) -> bool:
        """Whether it holds what the reference gives in bfloat16, which is no target."""
        return "bf16" in self.name.split("_")

    @property
    def about(self) -> dict[str, Any]:
        about: dict[str, Any] = json.loads(self.path.read_text("utf-8"))
        return about

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.about["config"]
        return config

    def tensors(self) -> dict[str, Tensor]:
        return load_file(self.path.with_suffix(".safetensors"))

    def beside(self, name: str) -> Case:
        """Another recording of the same folder, such as the inputs that this one's `config` names."""
        return Case(self.path.with_name(f"{name}.json"))

    def weights(self) -> dict[str, Tensor]:
        """A state dict: of the model that `config` names, if it does, with the recording's own ``w/`` tensors
        and its edit in their place."""
        config = self.config
        weights = self.beside(config["model"]).weights() if "model" in config else {}
        weights |= {k.removeprefix("w/"): w for k, w in self.tensors().items() if k.startswith("w/")}
        if edit := config.get("weight_edit"):
            # As "multiply every *.attn.qkv.weight and *.attn.qkv.bias by 1e-3".
            said = re.fullmatch(r"multiply (.+) by (\S+)", edit)
            assert said, edit
            patterns, factor = re.findall(r"\S*[.*]\S*[^\s,]", said[1]), float(said[2])
            edited = {name for name in weights if any(fnmatchcase(name, each) for each in patterns)}
            assert edited, edit
            weights |= {name: factor * weights[name] for name in edited}
        return weights


def kind(path: Path) -> str | None:
    """Which of KINDS a recording is; None for a model's weights and for what is unknown."""
    if path.stem.endswith("_model"):
        return None
    return next((known for known in KINDS if path.stem == known or path.stem.startswith(f"{known}_")), None)


def folders(given: Path | None) -> list[Path]:
    """The folder given by ``--fixtures``; else the copy in the tests, and the shared one if it is there."""
    if given is not None:
        return [given]
    return [COPY, *([SHARED] if SHARED.is_dir() else [])]


def cases(given: Path | None, wanted: str) -> list[Case]:
    return [
        Case(path)
        for folder in folders(given)
        for path in sorted(folder.glob("*.json"))
        if kind(path) == wanted
    ]
