"""AdamW, AdamW with its state in 8 bits, or Muon: by name, over a network's weights."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import nn

from longvid.errors import UserError
from longvid.training import checkpoints
from longvid.training.distributed import is_sharded, spread
from longvid.training.muon import Muon
from longvid.training.recipe import Recipe


def check_device(optimizer: str, device: torch.device) -> None:
    """Raise UserError for an optimizer that cannot be there."""
    if optimizer == "adamw-8bit" and (device.type != "cuda" or find_spec("bitsandbytes") is None):
        raise UserError(
            "--optimizer adamw-8bit: needs a CUDA card and bitsandbytes (pip install bitsandbytes); "
            "adamw needs neither"
        )


def make_optimizer(recipe: Recipe, weights: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019) unless the recipe says otherwise. Raises UserError for one that cannot
    be here."""
    options: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    parameters = list(weights.values())
    match recipe.optimizer:
        case "adamw":
            return torch.optim.AdamW(parameters, **options, fused=True)
        case "muon":
            if is_sharded(weights):
                raise UserError("--optimizer muon: needs whole matrices; leave --shard out, or take adamw")
            return Muon(parameters, **options)
        case "adamw-8bit":
            check_device(recipe.optimizer, parameters[0].device)
            # For cards only: never run yet.
            from bitsandbytes.optim import AdamW8bit  # type: ignore[import-not-found, unused-ignore]

            return cast(torch.optim.Optimizer, AdamW8bit(parameters, **options))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of the next step; a group that asks for a share of it (`Muon`) has that."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("share", 1.0)


def named_state(
    optimizer: torch.optim.Optimizer, weights: Mapping[str, nn.Parameter]
) -> dict[str, torch.Tensor]:
    """The optimizer's state by the weights' names, as NAME/KEY."""
    return checkpoints.flatten(optimizer.state_dict()["state"], _names(optimizer, weights))


def load_state(
    optimizer: torch.optim.Optimizer,
    weights: Mapping[str, nn.Parameter],
    stored: Mapping[str, torch.Tensor],
) -> None:
    """Give an optimizer what `named_state` said of one that was made alike."""
    names = _names(optimizer, weights)
    state = {
        index: {
            key: spread(value, weights[names[index]])
            if isinstance(value, torch.Tensor) and value.ndim
            else value
            for key, value in values.items()
        }
        for index, values in checkpoints.unflatten(stored, names).items()
    }
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _names(optimizer: torch.optim.Optimizer, weights: Mapping[str, nn.Parameter]) -> list[str]:
    """The weights' names in the optimizer's order."""
    name = {id(weight): name for name, weight in weights.items()}
    return [name[id(weight)] for group in optimizer.param_groups for weight in group["params"]]
