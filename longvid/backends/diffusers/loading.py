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

from longvid.backends import Lora, checkpoints
from longvid.backends.checkpoints import COUNTERS, FLOATS, Checkpoint, Problems
from longvid.backends.diffusers.published import DIFFUSERS_WEIGHTS, TRANSFORMERS_WEIGHTS
from longvid.backends.random_weights import filled
from longvid.errors import UserError
from longvid.lora import adapting, layers
from longvid.lora import read as read_lora

Config = Mapping[str, Any]

EXTRA = ("diffusers", "transformers", "accelerate", "sentencepiece", "google.protobuf", "ftfy")
"""Without one of these a model runs not at all, or on other prompts than the published pipeline's. (protobuf:
transformers reads a ``spiece.model`` by it, which is all that LTX-Video's tokenizer is.)"""

OLD_NAMES = {
    r"^text_model\.": "",  # CLIP, before transformers 5
    r"\.query\.": ".to_q.",  # attention of autoencoders, before diffusers 0.17
    r"\.key\.": ".to_k.",
    r"\.value\.": ".to_v.",
    r"\.proj_attn\.": ".to_out.0.",
}
"""What of names was another in checkpoints of their time, which the libraries still load."""

ADAPTER = "adapter_config.json"
"""Beside weights, it would have transformers change them by others."""


def require_extra(model: str) -> None:
    """Raise UserError with the command that installs what is missing."""
    for module in EXTRA:
        package, _, name = module.rpartition(".")
        if (package and find_spec(package) is None) or find_spec(module) is None:
            raise UserError(f"{model} needs {name}: pip install 'longvid[models]'")


# Networks


def outline(config: Config) -> nn.Module:
    """The network of a configuration on the meta device; buffers of a network of diffusers are real, since
    no file holds them. Raises UserError for sizes that make no network."""
    from accelerate import init_empty_weights  # type: ignore[import-untyped]  # it has no stubs

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
        raise UserError(f"the config.json makes no {config['_class_name']}: {_in_short(error)}") from error
    return network


def from_folder(folder: Path, config: Config, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """The network with the folder's weights, in eval mode, its parameters asking for no gradient.

    Layers that its library keeps in float32 stay so. Raises UserError unless names and shapes agree.
    """
    differs = check(folder, config)
    if differs:
        said = f"{differs.summary()}; `longvid models check` lists all"
        raise UserError(f"{folder}: does not fit the model: {said}")
    if (folder / ADAPTER).exists():
        raise UserError(f"{folder / ADAPTER}: no adapter is read beside weights; move it away, or use --lora")
    told = {"dtype" if _is_of_transformers(config) else "torch_dtype": dtype}
    network: nn.Module
    try:
        with _quietly():
            network = _class(config).from_pretrained(
                folder, local_files_only=True, use_safetensors=True, **told
            )
    except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{folder}: cannot be loaded: {_in_short(error)}") from error
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
            made[id(empty)] = nn.Parameter(filled(tensor, name, generator), requires_grad=False)
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


def adapt(
    network: nn.Module,
    loras: Sequence[Lora],
    model: str,
    stored: Checkpoint | None,
    original: Mapping[str, str],
) -> None:
    """Let the layers of a loaded network take on the LoRAs, from the weights as they are stored.

    ``stored``: None where they are random, and the network's own are meant. ``original``: see `Family`.
    Raises UserError where a LoRA does not fit.
    """
    if not loras:
        return
    known = layers(network)
    names = {layer: (layer, original_name(layer, original)) for layer in known}
    adapted = adapting(loras, with_original_names(known, original), model)
    named = {layer for lora in loras for layer in read_lora(lora.path).parts}
    changed = {f"{layer}.weight": names[layer] for layer in known if named & set(names[layer])}
    own = network.state_dict()
    if stored is None:
        as_stored: Iterator[tuple[str, Tensor]] = ((name, own[name].clone()) for name in changed)
    else:
        only = {name: tensor for name, tensor in stored.tensors.items() if name in changed}
        as_stored = checkpoints.read(replace(stored, tensors=only))
    with torch.no_grad():
        for name, weight in as_stored:
            for layer in dict.fromkeys(changed[name]):
                weight = adapted(f"{layer}.weight", weight)
            own[name].copy_(weight)


def with_original_names(
    layers: Mapping[str, tuple[int, int]], original: Mapping[str, str]
) -> dict[str, tuple[int, int]]:
    """A network's layers, and once more by the names that LoRAs for the model's original code have."""
    return dict(layers) | {original_name(name, original): size for name, size in layers.items()}


def original_name(layer: str, original: Mapping[str, str]) -> str:
    return next((layer.replace(own, other) for own, other in original.items() if own in layer), layer)


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


def checkpoint(folder: Path, config: Config) -> Checkpoint:
    """The tensors of a part's folder, by its files' headers. Raises UserError where there are none."""
    if _is_of_transformers(config):  # and each library looks for these first
        stem, endings = TRANSFORMERS_WEIGHTS, (".safetensors", ".safetensors.index.json")
    else:
        stem, endings = DIFFUSERS_WEIGHTS, (".safetensors.index.json", ".safetensors")
    for ending in endings:
        if (folder / f"{stem}{ending}").is_file():
            return checkpoints.open_safetensors(folder / f"{stem}{ending}", FLOATS | COUNTERS)
    raise UserError(f"{folder}: holds no {stem}.safetensors; pickles are not read, save it as safetensors")


def check(folder: Path, config: Config) -> Problems:
    """How a part's weights differ from its network, by the files' headers.

    A tensor that the network has under several names may be stored under one of them, or under an old name;
    those that its library says to ignore, or computes anew, are ignored.
    """
    network, stored = outline(config), checkpoint(folder, config)
    own = network.state_dict()
    tensors = {name if name in own else _of_today(name): tensor for name, tensor in stored.tensors.items()}
    names: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for tied in names.values():
        known = next((tensors[name] for name in tied if name in tensors), None)
        if known is not None:
            tensors |= dict.fromkeys(tied, known)
    ignored = tuple(getattr(network, "_keys_to_ignore_on_load_unexpected", None) or ())
    computed = {name for name, _ in network.named_buffers()}
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if name in own or not (name in computed or any(re.search(pattern, name) for pattern in ignored))
    }
    return checkpoints.check(network, replace(stored, tensors=kept))


def _of_today(name: str) -> str:
    for old, new in OLD_NAMES.items():
        name = re.sub(old, new, name)
    return name


# Classes


def _class(config: Config) -> Any:
    library = import_module("transformers" if _is_of_transformers(config) else "diffusers")
    return getattr(library, config["_class_name"])


def _is_of_transformers(config: Config) -> bool:
    return "model_type" in config


def _in_short(error: Exception) -> str:
    """The first line of a library's message, which may have many."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


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
