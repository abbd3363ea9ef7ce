"""A LoRA beside a model's weights: W + strength · (alpha / r) · B A for its layers (Hu et al. 2022).

It is read in peft's layout, a folder with ``adapter_model.safetensors`` and ``adapter_config.json``, or as
one safetensors file, as diffusers and others write it. The weights take it on while they are loaded, in
float32, so that a film costs what it costs without. Nothing is ever unpickled. Light at import.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longvid import digests
from longvid.backends import Lora
from longvid.document import show
from longvid.errors import UserError
from longvid.plugins import FOLDER_FILE
from longvid.timeline import Timeline
from longvid.values import MAX_STRENGTH

if TYPE_CHECKING:
    from torch import Tensor, nn

    Adapt = Callable[[str, Tensor], Tensor]
    """What becomes of a weight, by its name."""

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
MAX_CONFIG_BYTES = 1_000_000

PREFIXES = ("base_model.model.", "diffusion_model.", "transformer.", "unet.")
"""Of every name: what peft, and those who train for one kind of network, put in front of a layer's."""
PART = re.compile(r"(?P<layer>.+)\.(?:lora_(?P<side>A|B|down|up)(?:\.default)?\.weight|(?P<alpha>alpha))")
COUNTS = ("peft_type", "r", "lora_alpha", "use_rslora", "alpha_pattern")
"""What of the configuration decides the numbers."""


@dataclass(frozen=True)
class Part:
    """What a LoRA does to one layer: the names of ``down`` A [r i] and ``up`` B [o r] in its file, (outputs,
    inputs) of the layer, and alpha / r (with rank-stabilised LoRA, alpha / √r)."""

    down: str
    up: str
    size: tuple[int, int]
    scale: float


@dataclass(frozen=True)
class Adapter:
    """A LoRA of which no weight is read yet: its ``file``, its parts by the layers' names, and the model that
    it says it is for."""

    file: Path
    parts: Mapping[str, Part]
    base: str | None


# By name


def named(path: Path, strength: float) -> Lora:
    """A LoRA by the whole path of its folder or file. Raises UserError for what is none, and for a strength
    that is no number from -10 to 10."""
    if not (math.isfinite(strength) and abs(strength) <= MAX_STRENGTH):
        raise UserError(f"the strength {strength:g} is out of range; -{MAX_STRENGTH:g} to {MAX_STRENGTH:g}")
    return Lora(path.absolute(), strength, fingerprint(path))


def of_timeline(timeline: Timeline) -> tuple[Lora, ...]:
    """The timeline's own, in their order. Raises UserError, which tells the line."""
    loras = []
    for index, (path, strength) in enumerate(timeline.lora_paths()):
        try:
            loras.append(named(path, strength))
        except UserError as error:
            raise timeline.source.error(("lora", index), str(error)) from error
    return tuple(loras)


def parse(written: str) -> Lora:
    """``PATH`` or ``PATH:STRENGTH``, as on the command line. Raises UserError."""
    path, colon, strength = written.rpartition(":")
    if path and colon and not os.path.exists(os.path.expanduser(written)):
        try:
            return named(Path(path).expanduser(), float(strength))
        except ValueError:
            if not os.path.exists(os.path.expanduser(path)):  # ``C:\my-lora``
                return named(Path(written).expanduser(), 1.0)
            raise UserError(
                f"{strength!r} is no strength, in {written}; write a number, as {path}:0.8"
            ) from None
    return named(Path(written).expanduser(), 1.0)


REMEMBERED_BYTES = 1 << 26
"""A file below that is read sooner than its digest is looked up."""


def fingerprint(path: Path) -> str:
    """SHA-256 of all that decides a LoRA's numbers. Raises UserError for what is no LoRA."""
    file, config = locate(path)
    counts = {key: config[key] for key in COUNTS if key in config}
    try:
        if file.stat().st_size < REMEMBERED_BYTES:
            content = hashlib.sha256(file.read_bytes()).hexdigest()
        else:
            content = digests.sha256(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
    return hashlib.sha256(json.dumps([content, counts], sort_keys=True).encode()).hexdigest()


def locate(path: Path) -> tuple[Path, dict[str, Any]]:
    """The safetensors file of a LoRA, and its configuration: {} where there is none beside it.

    Raises UserError, in one line, for what can be no LoRA.
    """
    if path.is_dir():
        if (path / FOLDER_FILE).is_file() and not (path / CONFIG).is_file():
            raise UserError(f"{path} is a model, not a LoRA; give it as `model:` or with --model")
        found = sorted(path.glob("*.safetensors"))
        file = path / WEIGHTS if path / WEIGHTS in found or len(found) != 1 else found[0]
        if not file.is_file():
            pickled = next((other for other in sorted(path.iterdir()) if other.suffix in PICKLES), None)
            if pickled is not None:
                raise UserError(_pickled(pickled))
            raise UserError(
                f"{path} holds no {WEIGHTS}; a LoRA's folder is as peft's save_pretrained writes it"
            )
    else:
        file = path
        if not file.exists():
            raise UserError(_missing(path))
        if file.suffix in PICKLES:
            raise UserError(_pickled(file))
        if file.suffix != ".safetensors":
            raise UserError(f"{file} is no safetensors file; a LoRA is one, or a folder with {WEIGHTS}")
    config = file.parent / CONFIG
    # A file of another name has nothing to do with what lies beside it.
    return file, _config(config) if path.is_dir() or file.name == WEIGHTS else {}


def _missing(path: Path) -> str:
    try:
        near = get_close_matches(path.name, os.listdir(path.parent), n=1)
    except OSError:
        near = []
    hint = f"; did you mean {show(near[0])}?" if near else ""
    return f"there is no file or folder {show(str(path), 200)}{hint}"


def _pickled(file: Path) -> str:
    return (
        f"{file} is a pickle, which could run code, so it was not opened; save the LoRA as safetensors "
        "(peft: `safe_serialization=True`)"
    )


def _config(file: Path) -> dict[str, Any]:
    try:
        if not file.is_file():
            return {}
        said = json.loads(file.read_text("utf-8")) if file.stat().st_size <= MAX_CONFIG_BYTES else None
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise UserError(f"{file}: is not the configuration of a LoRA, as peft writes it")
    kind = said.get("peft_type", "LORA")
    if kind != "LORA":
        raise UserError(f"{file}: is of the kind {show(kind)}; only plain LoRA can be rendered with")
    return said


# Its layers


def read(path: Path) -> Adapter:
    """What a LoRA adapts, from its file's header. Raises UserError for what is no whole, plain LoRA."""
    file, config = locate(path)
    shapes, alphas = _header(file)
    names = {name: name for name in shapes}
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in names):
            names = {name.removeprefix(prefix): key for name, key in names.items()}
    sides: dict[str, dict[str, str]] = {}
    for name, key in names.items():
        part = PART.fullmatch(name)
        if part is None or (part["side"] and len(shapes[key]) != 2):
            raise UserError(f"{file}: {show(key)} is no part of a plain LoRA of linear layers")
        side = {"A": "down", "B": "up"}.get(part["side"], part["side"]) or "alpha"
        sides.setdefault(part["layer"], {})[side] = key
    if not sides:
        raise UserError(f"{file}: holds no LoRA; its tensors would be named lora_A and lora_B")
    parts = {}
    for layer, keys in sides.items():
        if not {"down", "up"} <= keys.keys():
            lacking = "lora_B" if "down" in keys else "lora_A"
            raise UserError(f"{file}: {show(layer)} has no {lacking}; the file is not whole")
        (rank, inputs), (outputs, up_rank) = shapes[keys["down"]], shapes[keys["up"]]
        if rank != up_rank or not rank:
            raise UserError(f"{file}: {show(layer)} has lora_A of rank {rank} and lora_B of rank {up_rank}")
        alpha = alphas[keys["alpha"]] if "alpha" in keys else _alpha(config, layer, rank, file)
        scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        parts[layer] = Part(keys["down"], keys["up"], (outputs, inputs), scale)
    for pattern in config.get("alpha_pattern") or {}:
        if not any(_is_of(layer, pattern) for layer in parts):
            raise UserError(
                f"{file.parent / CONFIG}: alpha_pattern {show(pattern)} names no layer of the LoRA"
            )
    base = config.get("base_model_name_or_path")
    return Adapter(file, parts, base if isinstance(base, str) and base else None)


def _header(file: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, float]]:
    """The shapes of all tensors, and the values of those that are one number."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as tensors:
            shapes = {
                key: tuple(tensors.get_slice(key).get_shape())
                for key in tensors.keys()  # noqa: SIM118 (no mapping)
            }
            single = [
                key for key, shape in shapes.items() if math.prod(shape) == 1 and key.endswith(".alpha")
            ]
            return shapes, {key: float(tensors.get_tensor(key)) for key in single}
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise UserError(f"{file}: is no whole safetensors file ({error}); copy it again") from error


def _alpha(config: Mapping[str, Any], layer: str, rank: int, file: Path) -> float:
    """Alpha as the configuration has it; r where it says nothing, so that the scale is 1."""
    patterns = config.get("alpha_pattern") or {}
    said = next((patterns[key] for key in patterns if _is_of(layer, key)), config.get("lora_alpha", rank))
    if isinstance(said, bool) or not isinstance(said, int | float) or not math.isfinite(said):
        raise UserError(f"{file.parent / CONFIG}: lora_alpha {show(said)} is not a number")
    return float(said)


def _is_of(layer: str, pattern: str) -> bool:
    """peft takes the end of a name, or a regular expression: those of strangers are not run."""
    return layer == pattern or layer.endswith(f".{pattern}")


def layers(network: nn.Module) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of a network's linear layers by name."""
    from torch import nn

    return {
        name: (module.out_features, module.in_features)
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear)
    }


def check(adapter: Adapter, layers: Mapping[str, tuple[int, int]], model: str) -> None:
    """Raise UserError, in one line that names what differs, unless a LoRA fits the model's ``layers``."""
    file, base = adapter.file, adapter.base
    if not layers:
        raise UserError(f"{model} takes no LoRA; leave {file} out")
    if base is not None and base != model and "/" not in base and "\\" not in base:
        raise UserError(f"{file}: was trained on {show(base)}, not on {model}")
    unknown = [name for name in adapter.parts if name not in layers]
    if unknown:
        near = get_close_matches(unknown[0], layers, n=1)
        has = f"; the nearest is {near[0]}" if near else ""
        raise UserError(
            f"{file}: is for another model than {model}, which has no layer {show(unknown[0], 200)}{has} "
            f"({len(unknown)} of the LoRA's {len(adapter.parts)} layers are unknown)"
        )
    other = [name for name, part in adapter.parts.items() if part.size != layers[name]]
    if other:
        (o, i), (outputs, inputs) = adapter.parts[other[0]].size, layers[other[0]]
        raise UserError(
            f"{file}: is for a model of other sizes than {model}: its {other[0]} takes {i} numbers to {o}, "
            f"{model}'s {inputs} to {outputs} ({len(other)} of the LoRA's {len(adapter.parts)} layers differ)"
        )


# Its numbers


def adapting(loras: Sequence[Lora], layers: Mapping[str, tuple[int, int]], model: str) -> Adapt:
    """What makes a stored weight W, by its name, the one to render with: W + Σ strength · scale · B A.

    In float32, the LoRAs in their order; a weight that none of them reaches, or only with strength 0, is W
    itself. Raises UserError where a LoRA does not fit, or is not what it was when it was named.
    """
    found: dict[str, list[tuple[Path, Part, float]]] = {}
    for lora in loras:
        adapter = read(lora.path)
        check(adapter, layers, model)
        if fingerprint(lora.path) != lora.fingerprint:
            raise UserError(
                f"{lora.path}: is not the LoRA any more that this film was begun with; put that one back, or "
                "render the timeline anew"
            )
        for layer, part in adapter.parts.items() if lora.strength else ():
            found.setdefault(f"{layer}.weight", []).append((adapter.file, part, lora.strength))

    def adapted(name: str, weight: Tensor) -> Tensor:
        from safetensors import safe_open

        for file, part, strength in found.get(name, ()):
            with safe_open(file, "pt") as tensors:
                down, up = tensors.get_tensor(part.down), tensors.get_tensor(part.up)
            change = difference(down, up, strength * part.scale).to(weight.device)
            weight = weight.float() + change
        return weight

    return adapted


def difference(down: Tensor, up: Tensor, factor: float) -> Tensor:
    """factor · B A [o i] of ``down`` A [r i] and ``up`` B [o r], in float32."""
    return factor * (up.float() @ down.float())
