"""The card of a trained model: what it was made of, how, what came of it, and under which licence."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from longvid.files import write
from longvid.times import clock, duration

CARD, CURVE = "README.md", "loss.png"
"""As peft and the hub of models name them."""
PAPER = "Progressive Autoregressive Video Diffusion Models (arXiv 2410.08151), section 3.5"


@dataclass(frozen=True)
class Data:
    """What it was trained on. ``clips``: files; ``left_out``: those that could not be used. ``sequences``:
    the stretches that they were cut into, ``held_out`` of which nothing was learnt. ``dataset``: whose code
    made them; None for somebody's own."""

    clips: int
    left_out: int
    sequences: int
    held_out: int
    seconds: Fraction
    size: tuple[int, int]
    fps: Fraction
    dataset: str | None = None


@dataclass(frozen=True)
class Facts:
    """Everything that the card tells.

    ``backend``: the registered model's name; ``base``: what it was trained from, that or a folder's name, and
    ``repository`` of the hub, if it is there. ``licence``: the base's. ``lora_rank``: None where the weights
    themselves were trained. ``trained``, ``parameters``: how many numbers learnt, of how many. ``batch``:
    sequences a step. ``seconds``: of all training together. ``held_out``: the loss before and after, None
    where nothing was held out. ``psnr``: of a trained codec on what was held out, before and after, in dB.
    """

    name: str
    backend: str
    base: str
    licence: str
    part: Literal["denoiser", "codec", "decoder"]
    data: Data
    trained: int
    parameters: int
    steps: int
    batch: int
    learning_rate: float
    seed: int
    seconds: float
    device: str
    processes: int
    longvid: str
    repository: str | None = None
    lora_rank: int | None = None
    skipped_steps: int = 0
    held_out: tuple[float, float] | None = None
    psnr: tuple[float, float] | None = None


def write_card(folder: Path, facts: Facts) -> None:
    """The card as ``README.md``. Raises RenderError where the disk refuses."""
    write(folder / CARD, card(facts).encode())


def card(facts: Facts) -> str:
    """The card's text: Markdown, behind the front matter that the hub of models reads."""
    data, lora = facts.data, facts.lora_rank is not None
    matter = {
        "license": "apache-2.0" if facts.licence.startswith("Apache-2.0") else "other",
        **({"base_model": facts.repository} if facts.repository else {}),
        "base_model_relation": "adapter" if lora else "finetune",
        "library_name": "peft" if lora else "longvid",
        "pipeline_tag": "text-to-video",
    }
    what = f"a LoRA of rank {facts.lora_rank} for" if lora else f"the {facts.part} of"
    use = f"--lora ./{facts.name}" if lora else f"--model ./{facts.name}"
    made = {
        "denoiser": f"to denoise windows whose noise levels rise from front to back: {PAPER}",
        "codec": "to encode and decode such pictures",
        "decoder": "to decode latents as a denoiser makes them",
    }[facts.part]
    clips = _table(
        (
            "clips",
            _count(data.clips) + (f", {data.left_out} more could not be used" if data.left_out else ""),
        ),
        ("sequences trained on", _count(data.sequences - data.held_out)),
        ("sequences held out", _count(data.held_out)),
        ("footage", clock(data.seconds)),
        ("taken at", f"{data.size[0]}x{data.size[1]}, {float(data.fps):g} frames a second"),
    )
    whose = "somebody's own" if data.dataset is None else f"the dataset {_text(data.dataset)}"
    skipped = f" ({facts.skipped_steps} of them skipped: a loss that is no number)" * (
        facts.skipped_steps > 0
    )
    processes = f", {facts.processes} processes" if facts.processes > 1 else ""
    training = _table(
        ("numbers trained", f"{_count(facts.trained)} of {_count(facts.parameters)}"),
        ("steps", _count(facts.steps) + skipped),
        ("sequences a step", _count(facts.batch)),
        ("learning rate, at its highest", f"{facts.learning_rate:g}"),
        ("seed", str(facts.seed)),
        ("time", f"{duration(facts.seconds)} on {facts.device}{processes}"),
        ("made by", f"longvid {facts.longvid}"),
    )
    rows = []
    if facts.held_out is not None:
        rows.append(("loss on what was held out", *(f"{loss:.4f}" for loss in facts.held_out)))
    if facts.psnr is not None:
        rows.append(("PSNR of the codec there", *(f"{decibel:.2f} dB" for decibel in facts.psnr)))
    result = _table(*rows, heading=("", "before", "after")) if rows else "Nothing was held out to judge by.\n"
    return "\n".join(
        [
            "---",
            *(f"{key}: {value}" for key, value in matter.items()),
            "---",
            "",
            f"# {_text(facts.name)}",
            "",
            f"This is {what} {_text(facts.base)}, trained on {_count(data.clips)} "
            f"clip{'s' * (data.clips != 1)} of {whose} {made}.",
            "",
            "```console",
            f"longvid render film.yaml {use}",
            "```",
            "",
            "## Data",
            "",
            clips,
            "## Training",
            "",
            training,
            "## Result",
            "",
            result,
            f"![loss by step]({CURVE})",
            "",
            "## Licence",
            "",
            f"Of {_text(facts.base)}: {_text(facts.licence)}. Whoever passes this on should say here what "
            "the clips' owners allow.",
            "",
        ]
    )


def _table(*rows: tuple[str, ...], heading: tuple[str, ...] = ("", "")) -> str:
    lines = [heading, ("---",) * len(heading), *rows]
    return "".join(f"| {' | '.join(map(_text, line))} |\n" for line in lines)


def _text(value: str) -> str:
    """On one line, and no markup that a name brings along."""
    text = " ".join(value.split())
    for mark in "\\|`*[]<>":
        text = text.replace(mark, f"\\{mark}")
    return text


def _count(number: int) -> str:
    return f"{number:,}"
