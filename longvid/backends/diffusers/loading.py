"""A part of a folder in diffusers' layout as a network, loaded by diffusers' and transformers' own code.

Offline and from safetensors only: nothing is fetched, and nothing in a folder is run.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longvid.backends import Lora
from longvid.backends.diffusers.published import DIFFUSERS_WEIGHTS, TRANSFORMERS_WEIGHTS
from longvid.backends.opensora import weights
from longvid.errors import UserError
from longvid.lora import adapting, layers
from longvid.lora import read as read_lora

Config = Mapping[str, Any]

EXTRA = ("diffusers", "transformers", "accelerate", "sentencepiece", "ftfy")
"""Without one of these a model runs not at all, or on other prompts than the published pipeline's."""


def require_extra(model: str) -> None:
    """Raise UserError with the command that installs what is missing."""
    for library in EXTRA:
        if find_spec(library) is None:
            raise UserError(f"{model} needs {library}: pip install 'longvid[models]'")


# Networks


def outline(config: Config) -> nn.Module:
    """The network of a configuration on the meta device; buffers of a network of diffusers are real, since
    no file holds them. Raises UserError for sizes that make no network."""
    from accelerate import init_empty_weights  # type: ignore[import-untyped]

    kind = _class(config)
    network: nn.Module
    try:
        with _quietly():
            if _is_of_transformers(config):
                with torch.device("meta"):
                    network = kind(kind.config_class(**_sizes(config)))
            else:
                with init_empty_weights(include_buffers=False):
                    network = kind.from_config(_sizes(config))
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"the config.json makes no {config['_class_name']}: {said}") from error
    return network


def from_folder(folder: Path, config: Config, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """The network with the folder's weights, in eval mode, its parameters asking for no gradient.

    Layers that its library keeps in float32 stay so. Raises UserError unless names and shapes agree.
    """
    differs = check(folder, config)
    if differs:
        said = f"{differs.summary()}; `longvid models check` lists all"
        raise UserError(f"{folder}: does not fit the model: {said}")
    told = {"dtype" if _is_of_transformers(config) else "torch_dtype": dtype}
    with _quietly():
        network: nn.Module = _class(config).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, **told
        )
    return network.to(device).eval().requires_grad_(False)


def random(config: Config, dtype: torch.dtype, device: torch.device, seed: int = 0) -> nn.Module:
    """The network of a configuration with random weights, made on ``device``; equal seeds give equal ones.

    Matrices and kernels keep the scale of what goes through them. Buffers have the values they are made with.
    """
    network = outline(config)
    kept = tuple(getattr(network, "_keep_in_fp32_modules", None) or ())
    generator = torch.Generator(device).manual_seed(seed)
    made: dict[int, nn.Parameter] = {}
    for name, empty in list(network.named_parameters(remove_duplicate=False)):
        if id(empty) not in made:
            wide = any(part in name.split(".") for part in kept)
            tensor = torch.empty(empty.shape, dtype=torch.float32 if wide else dtype, device=device)
            made[id(empty)] = nn.Parameter(_filled(tensor, name, generator), requires_grad=False)
        owner, _, leaf = name.rpartition(".")
        setattr(network.get_submodule(owner), leaf, made[id(empty)])
    return network.to(device).eval()


def untrained(config: Config, seed: int) -> nn.Module:
    """The network of a configuration as its library begins a training, in float32, on the CPU: a seed means
    the same weights anywhere."""
    with torch.random.fork_rng(devices=[]), _quietly():
        torch.manual_seed(seed)
        network: nn.Module = _class(config).from_config(_sizes(config))
    return network


def _filled(tensor: Tensor, name: str, generator: torch.Generator) -> Tensor:
    if tensor.ndim > 1 and len(tensor) > 1:
        bound = (3 / tensor[0].numel()) ** 0.5
        return tensor.uniform_(-bound, bound, generator=generator)
    return tensor.fill_(0 if name.endswith(("bias", "scale_shift_table")) else 1)


def adapt(network: nn.Module, loras: Sequence[Lora], model: str, stored: weights.Checkpoint | None) -> None:
    """Let the layers of a loaded network take on the LoRAs, from the weights as they are stored.

    ``stored``: None where they are random, and the network's own are meant. Raises UserError where a LoRA
    does not fit.
    """
    if not loras:
        return
    adapted = adapting(loras, layers(network), model)
    changed = {f"{layer}.weight" for lora in loras for layer in read_lora(lora.path).parts}
    own = network.state_dict()
    if stored is None:
        as_stored: Iterator[tuple[str, Tensor]] = ((name, own[name].clone()) for name in changed)
    else:
        only = {name: tensor for name, tensor in stored.tensors.items() if name in changed}
        as_stored = weights.read(replace(stored, tensors=only))
    with torch.no_grad():
        for name, weight in as_stored:
            own[name].copy_(adapted(name, weight))


def stream_blocks(network: nn.Module, device: torch.device) -> None:
    """Let a network that lies on the CPU compute on ``device``, where its blocks come one at a time.

    By diffusers' group offloading: the next block is copied while one computes, and the numbers are the same.
    """
    from diffusers.hooks.group_offloading import apply_group_offloading

    apply_group_offloading(
        network,
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
    )


# Files


def checkpoint(folder: Path, config: Config) -> weights.Checkpoint:
    """The tensors of a part's folder, by its files' headers. Raises UserError where there are none."""
    stem = TRANSFORMERS_WEIGHTS if _is_of_transformers(config) else DIFFUSERS_WEIGHTS
    for name in (f"{stem}.safetensors.index.json", f"{stem}.safetensors"):
        if (folder / name).is_file():
            return weights.open_checkpoint(folder / name)
    raise UserError(f"{folder}: holds no {stem}.safetensors; pickles are not read, save it as safetensors")


def check(folder: Path, config: Config) -> weights.Problems:
    """How a part's weights differ from its network, by the files' headers.

    A tensor that the network has under several names may be stored under one of them; those that its library
    says to ignore are.
    """
    network, stored = outline(config), checkpoint(folder, config)
    tensors = dict(stored.tensors)
    names: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for tied in names.values():
        known = next((tensors[name] for name in tied if name in tensors), None)
        if known is not None:
            tensors |= dict.fromkeys(tied, known)
    ignored = tuple(getattr(network, "_keys_to_ignore_on_load_unexpected", None) or ())
    own = network.state_dict()
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if name in own or not any(re.search(pattern, name) for pattern in ignored)
    }
    return weights.check(network, replace(stored, tensors=kept))


# Classes


def _class(config: Config) -> Any:
    library = import_module("transformers" if _is_of_transformers(config) else "diffusers")
    return getattr(library, config["_class_name"])


def _is_of_transformers(config: Config) -> bool:
    return "model_type" in config


def _sizes(config: Config) -> dict[str, Any]:
    return {name: value for name, value in config.items() if not name.startswith("_")}


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the libraries' bars and advice: a render has its own, and what matters is checked."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    shown = [
        (library, library.get_verbosity(), library.is_progress_bar_enabled())
        for library in (of_diffusers, of_transformers)
    ]
    for library, _, bars in shown:
        library.set_verbosity_error()
        if bars:
            library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for library, verbosity, bars in shown:
            library.set_verbosity(verbosity)
            if bars:
                library.enable_progress_bar()
