"""STDiT3 as the recordings have it: one text a sample, in embeddings and a mask."""

from __future__ import annotations

import torch
from torch import Tensor

from longvid.backends.opensora.config import TransformerSize
from longvid.backends.opensora.stdit3 import Reading, STDiT3
from tests.backends.opensora.cases import Case


def network(case: Case) -> STDiT3:
    """The network that a recording was made with; its sizes are said in its own config or in its model's."""
    config = case.config
    said = case.beside(config["model"]).config | config.get("model_config", {}) | config
    sizes = {name: int(said[name]) for name in TransformerSize.__dataclass_fields__.keys() & said.keys()}
    loaded = STDiT3(TransformerSize(**sizes))
    loaded.load_state_dict(case.weights())
    return loaded.eval()


def tiled(tensor: Tensor, rows: int) -> Tensor:
    """The reference repeats what has too few rows, such as a mask that prompts and null prompts share."""
    return torch.cat([tensor] * (rows // len(tensor)))


def readings(stdit3: STDiT3, y: Tensor, mask: Tensor | None, frames: int) -> list[Reading]:
    """Each sample reads the tokens of y [b 1 n d] that its row of the mask has, without a mask all."""
    valid = torch.ones(y.shape[:1] + y.shape[2:3]) if mask is None else tiled(mask, len(y))
    return [
        Reading(frames, ((stdit3.project(tokens[row.bool()]), 1.0),))
        for tokens, row in zip(y[:, 0], valid, strict=True)
    ]


def predict(stdit3: STDiT3, x: Tensor, t: Tensor, inputs: dict[str, Tensor]) -> Tensor:
    """The prediction [b 2c f h w] for x at times t [b f] in 0..1000, everything else as recorded."""
    b, _, f, _, _ = x.shape
    picture = inputs["in/height"][0].item(), inputs["in/width"][0].item()
    reads = readings(stdit3, tiled(inputs["in/y"], b), inputs.get("in/mask"), f)
    return stdit3(x, t, tiled(inputs["in/fps"], b), picture, reads)
