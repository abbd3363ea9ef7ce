"""What comes of a training: the model's folder, its card and its curve, and how well it does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from torch import Tensor, nn

from longvid import __version__, datasets, plugins
from longvid.backends import Backend, CodecTrainee, Film, FilmSpec, Runtime, Trainee
from longvid.devices import device_name
from longvid.errors import RenderError
from longvid.training import card, checkpoints, curve, footage, lora, metrics
from longvid.training.asked import Asked
from longvid.training.boards import board
from longvid.training.material import Material
from longvid.training.reconstruction import measure_psnr
from longvid.training.trainer import Began


@dataclass(frozen=True)
class Written:
    """The model is in its folder, made of the checkpoint of ``step``. ``held_out``: its loss before and
    after, ``psnr``: a codec's in dB, where something was held out."""

    folder: Path
    step: int
    held_out: tuple[float, float] | None
    psnr: tuple[float, float] | None


def write(
    asked: Asked,
    backend: Backend,
    film: Film,
    runtime: Runtime,
    trainee: Trainee | CodecTrainee,
    material: Material,
    began: Began,
) -> Written:
    """The model, made of the best checkpoint, and what is told of it. Raises RenderError."""
    best, (newest, _) = checkpoints.best(asked.checkpoints), checkpoints.newest(asked.checkpoints)
    if best is None or newest is None:
        raise RenderError(f"{asked.checkpoints}: has no whole checkpoint")
    write_model(asked, trainee, best.tensors("average"))
    before, after = (metrics.mean(best.state[when]) for when in ("held_out_before", "held_out"))
    held_out = None if before is None or after is None else (before, after)
    psnr = None if asked.part == "denoiser" else codec_psnr(asked, film, runtime)
    if psnr is not None:
        with board(asked.board, newest.step) as shown:
            shown.write(0, {"psnr": psnr[0]})
            shown.write(best.step, {"psnr": psnr[1]})
    facts = card.Facts(
        name=asked.out.name,
        backend=backend.name,
        base=asked.model,
        licence=backend.licence,
        part=asked.part,
        data=told(asked, material),
        trained=began.parameters,
        parameters=parameters(trainee.network),
        steps=newest.step,
        batch=asked.recipe.batch,
        learning_rate=asked.recipe.lr,
        seed=asked.recipe.seed,
        seconds=newest.state["elapsed_seconds"],
        device=device_name(runtime.device),
        processes=began.processes,
        longvid=__version__,
        lora_rank=asked.lora_rank,
        skipped_steps=newest.state["skipped"],
        held_out=held_out,
        psnr=psnr,
    )
    card.write_card(asked.out, facts)
    curve.draw(curve.read_metrics(asked.metrics), asked.out.name, asked.out / card.CURVE)
    return Written(asked.out, best.step, held_out, psnr)


def write_model(asked: Asked, trainee: Trainee | CodecTrainee, average: Mapping[str, Tensor]) -> None:
    """The averaged weights: the model's folder, or a LoRA alone."""
    if asked.lora_rank is None:
        trainee.save(asked.out, average)
    elif asked.merge:
        trainee.save(asked.out, lora.merged(trainee.network, average))
    else:
        lora.save(asked.out, trainee.network, average)


def codec_psnr(asked: Asked, film: Film, runtime: Runtime) -> tuple[float, float] | None:
    """PSNR in dB on what is held out, of the codec before and of the one that was written; None where nothing
    is held out."""
    held_out = footage.load(asked.prepared).held_out
    if not held_out.frames:
        return None
    written = plugins.backend(os.path.join(asked.out.absolute(), ""))
    after = written.for_film(FilmSpec(asked.size, asked.fps, asked.window, {}), runtime)
    before_db, after_db = (
        measure_psnr(each.codec(), held_out, written.geometry, runtime.device) for each in (film, after)
    )
    return before_db, after_db


def told(asked: Asked, material: Material) -> card.Data:
    """What the card tells of the data."""
    return card.Data(
        clips=material.clips,
        left_out=len(material.problems),
        sequences=len(material.items),
        held_out=sum(item.held_out for item in material.items),
        seconds=Fraction(material.seconds),
        size=asked.size,
        fps=asked.fps,
        dataset=asked.data if datasets.is_name(asked.data) else None,
    )


def parameters(network: nn.Module) -> int:
    """How many numbers it has, trained or not."""
    return sum(parameter.numel() for parameter in network.parameters())
