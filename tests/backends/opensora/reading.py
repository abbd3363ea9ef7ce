"""STDiT3 as the recordings have it: one text a sample, in embeddings and a mask."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from longvid.backends.opensora.config import TransformerSize
from longvid.backends.opensora.stdit3 import Reading, STDiT3
from tests.backends.opensora.cases import Case


def network(case: Case, config: dict[str, object]) -> STDiT3:
    """The network whose sizes ``config`` has, with the recorded weights of ``case``."""
    names = TransformerSize.__dataclass_fields__.keys() & config.keys()
    return _network(case, TransformerSize(**{name: config[name] for name in names}))  # type: ignore[arg-type]


@cache
def _network(case: Case, size: TransformerSize) -> STDiT3:
    loaded = STDiT3(size)
    loaded.load_state_dict(case.weights())
    return loaded.eval()


def readings(stdit3: STDiT3, y: Tensor, mask: Tensor | None, frames: int) -> list[Reading]:
    """Each sample reads the tokens y [b 1 n d] that its row of the mask has; fewer rows are tiled."""
    found = []
    for sample, tokens in enumerate(y[:, 0]):
        valid = tokens if mask is None else tokens[mask[sample % len(mask)].bool()]
        found.append(Reading(frames, ((stdit3.project(valid), 1.0),)))
    return found


@torch.inference_mode()
def velocity(stdit3: STDiT3, x: Tensor, t: Tensor, inputs: dict[str, Tensor], y: Tensor) -> Tensor:
    """The predicted velocity [b c f h w] for x at times t [b f] in 0..1000."""
    picture = float(inputs["in/height"][0]), float(inputs["in/width"][0])
    reads = readings(stdit3, y, inputs.get("in/mask"), x.shape[2])
    return stdit3(x, t, inputs["in/fps"].expand(len(x)), picture, reads)[:, : x.shape[1]]
