"""LoRA by peft: low-rank adapters in a network's linear layers, trained while all else stays as it is.

Saved alone in peft's own layout, as `longvid.lora` and peft read it; or merged into the network's weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from longvid.errors import UserError
from longvid.files import write, write_tensors
from longvid.lora import CONFIG, WEIGHTS, difference

ADAPTER = "default"
"""peft's name of the one adapter."""
PREFIX = "base_model.model."
"""peft's, of every name in a file."""
SIDE = re.compile(rf"(?P<layer>.+)\.lora_(?P<side>[AB])\.{ADAPTER}\.weight")


def adapt(
    network: nn.Module,
    targets: Sequence[str],
    rank: int,
    alpha: float | None = None,
    *,
    base: str | None = None,
    seed: int = 0,
) -> None:
    """Give the network's layers ``targets`` adapters of this rank, in place: from here on only these train.

    ``alpha``: the adapters count alpha / rank times; left out: once. ``base``: the model that it is for.
    They begin as nothing, B = 0, with A drawn from ``seed``: the network computes what it did. Raises
    UserError without peft, and for a rank that no layer has.
    """
    peft = _peft()
    names = _layers(network, targets)
    widest = max(min(network.get_parameter(f"{name}.weight").shape) for name in names)
    if not 1 <= rank <= widest:
        raise UserError(
            f"--lora-rank {rank}: the widest layer that it adapts has rank {widest}; 1 to {widest}"
        )
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=rank if alpha is None else alpha,
        target_modules=names,
        base_model_name_or_path=base,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, network, ADAPTER)


def is_adapted(network: nn.Module) -> bool:
    """Whether the network has adapters."""
    return hasattr(network, "peft_config")


def adapters(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of an adapted network's weights the adapters alone, by peft's names of them in a file."""
    return {
        f"{PREFIX}{found['layer']}.lora_{found['side']}.weight": weight
        for name, weight in weights.items()
        if (found := SIDE.fullmatch(name))
    }


def base(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An adapted network's weights by the names that they have without adapters, and without those."""
    return {
        name.replace(".base_layer.", "."): weight
        for name, weight in weights.items()
        if not SIDE.fullmatch(name)
    }


def merged(network: nn.Module, weights: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The weights W + alpha / r · B A of a network without adapters that computes what the adapted one does.

    ``weights``: in place of the network's own, as an average of them. The network stays as it is.
    """
    weights = network.state_dict() | dict(weights or {})
    scale = _scale(network)
    found = base(weights)
    for layer, down, up in _pairs(weights):
        weight = found[f"{layer}.weight"]
        found[f"{layer}.weight"] = (weight.float() + difference(down, up, scale)).to(weight.dtype)
    return found


def save(folder: Path, network: nn.Module, weights: Mapping[str, Tensor] | None = None) -> None:
    """The adapters alone, in peft's layout; equal ones give equal bytes. ``weights`` as for ``merged``.

    Raises RenderError where the disk refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        key: sorted(value) if isinstance(value, set) else value
        for key, value in _config(network).to_dict().items()
    }
    config["inference_mode"] = True
    write_tensors(folder / WEIGHTS, adapters(network.state_dict() | dict(weights or {})), {"format": "pt"})
    write(folder / CONFIG, (json.dumps(config, indent=2, sort_keys=True, default=str) + "\n").encode())


def _pairs(weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(layer, A, B) of each adapter."""
    for name, down in weights.items():
        found = SIDE.fullmatch(name)
        if found and found["side"] == "A":
            yield found["layer"], down, weights[f"{found['layer']}.lora_B.{ADAPTER}.weight"]


def _layers(network: nn.Module, targets: Sequence[str]) -> list[str]:
    """The linear layers that peft finds by these names, each whole or the end of one."""
    found = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and any(f".{name}".endswith(f".{target}") for target in targets)
    ]
    assert found, f"no linear layer is named {targets}"
    return found


def _config(network: nn.Module) -> Any:
    return cast(Any, network).peft_config[ADAPTER]


def _scale(network: nn.Module) -> float:
    config = _config(network)
    return float(config.lora_alpha / config.r)


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise UserError("peft is not installed, which LoRA takes: pip install 'longvid[training]'") from error
    return peft
