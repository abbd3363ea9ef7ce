"""Making diorama's weights from nothing: `longvid finetune diorama --model diorama --train all -o OUT`.

A recipe and no loop of its own: the text encoder's training here, then three commands of `longvid finetune`
on the dataset `diorama`, each of which begins with the folder that the one before has written.

    OUT/stages/asked.json  the world's version, seed and amounts, which stay the same
    OUT/stages/untrained   every weight as it is drawn
    OUT/stages/text        the text encoder names what captions say; it is frozen from here on
    OUT/stages/codec       encoder and decoder
    OUT/stages/decoder     the decoder once more, under the encoder that stays
    OUT/stages/denoiser    on its latents
    OUT                    the same in half precision: what ships

A stage whose folder is there is left out, and one that was stopped goes on from its last checkpoint.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

import torch
import typer
from safetensors.torch import load_file

from longvid.backends.diorama import FILES, NAME, canvas, codec, text
from longvid.backends.diorama.codec import Codec
from longvid.backends.diorama.dataset import VERSION
from longvid.backends.diorama.denoiser import Denoiser, DenoiserSize
from longvid.backends.diorama.folder import save
from longvid.backends.diorama.text import AttributeEncoder
from longvid.errors import RenderError, UserError
from longvid.evaluation.processes import COMMAND, environment, threads_each
from longvid.files import read_sealed, write_backend, write_sealed, write_tensors
from longvid.locks import refused
from longvid.plugins import FOLDER_FILE
from longvid.training import checkpoints
from longvid.training.distributed import accelerator
from longvid.training.naming import Naming
from longvid.training.recipe import Recipe
from longvid.training.trainer import Stepped, train

SIZE = DenoiserSize(
    latent_channels=codec.CHANNELS,
    latent_height=canvas.HEIGHT_PX // codec.PIXEL_STRIDE,
    latent_width=canvas.WIDTH_PX // codec.PIXEL_STRIDE,
    conv=96,
    width=192,
    depth=6,
    heads=3,
    text_width=text.WIDTH,
)
BATCH = 8
"""Samples a step of codec, decoder and denoiser."""
ASKED = "asked.json"
"""In the stages' folder: what all of them come of."""


@dataclass(frozen=True)
class Amounts:
    """How much of what: ``clips`` of 8 s that the denoiser learns from, and those of them that the codec and
    decoder do; training steps of each part; how many of the denoiser's, at first, are on short windows, and
    over which share of them, at last, its rate falls."""

    clips: int = 4800
    codec_clips: int = 700
    text_steps: int = 1000
    codec_steps: int = 2800
    decoder_steps: int = 6200
    steps: int = 28000
    short_steps: int = 2000
    cooldown: float = 0.4


@dataclass(frozen=True)
class Stage:
    """A `longvid finetune`: what of the model ``base`` it trains, and the options that are its own."""

    name: str
    base: str
    options: tuple[str, ...]

    def arguments(self, out: Path, seed: int, processes: int) -> list[str]:
        """Behind `longvid`."""
        common = [
            f"--model={(out / self.base).absolute()}",
            f"--output={out / self.name}",
            f"--cache={out / 'cache'}",
            f"--seed={seed}",
            f"--batch={BATCH}",
            f"--micro-batch={max(1, BATCH // processes)}",
            "--optimizer=muon",
            "--device=cpu",
            f"--workers={processes}",
        ]
        return ["finetune", NAME, *common, *self.options]


def stages(amounts: Amounts) -> tuple[Stage, ...]:
    """Those behind the text encoder, in order."""
    few = (f"--clips={amounts.codec_clips}", "--warmup=30", "--every=300")
    first = (*few, f"--steps={amounts.codec_steps}", "--lr=2e-3", "--cooldown=0.6")
    again = (*few, f"--steps={amounts.decoder_steps}", "--lr=1e-3")
    levels = (
        f"--clips={amounts.clips}",
        f"--steps={amounts.steps}",
        "--lr=3e-3",
        "--warmup=100",
        f"--short-steps={amounts.short_steps}",
        f"--cooldown={amounts.cooldown}",
        "--every=500",
        "--sample-every=0",
    )
    return (
        Stage("codec", "text", ("--train=codec", *first)),
        Stage("decoder", "codec", ("--train=decoder", *again)),
        Stage("denoiser", "decoder", ("--train=denoiser", *levels)),
    )


def write_untrained(folder: Path, seed: int) -> None:
    """A model of which nothing is trained, drawn from the seed. Raises RenderError where the disk refuses."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = (Codec(), AttributeEncoder(), Denoiser(SIZE))
    for name, network in zip(FILES, networks, strict=True):
        metadata = network.size.to_metadata() if isinstance(network, Denoiser) else None
        write_tensors(folder / name, network.state_dict(), metadata)
    write_backend(folder, NAME)


def train_text(base: Path, out: Path, steps: int, seed: int) -> None:
    """The text encoder, by the loop that all others have; in one process, as it takes half a minute."""
    network = AttributeEncoder()
    network.load_state_dict(load_file(base / "text.safetensors"))
    recipe = Recipe(
        steps=steps,
        batch=256,
        micro_batch=256,
        lr=3e-3,
        average=0.99,
        weight_decay=0.2,
        seed=seed,
        held_out_samples=1024,
    )
    folder = out / "training" / "checkpoints"
    accelerated = accelerator(device="cpu")
    for event in train(Naming(network, accelerated.device), recipe, accelerated, folder):
        if isinstance(event, Stepped) and event.held_out:
            fresh = event.held_out["captions"]
            say(f"text: step {event.step} of {steps}, loss on fresh captions {fresh:.4f}")
    last, _ = checkpoints.newest(folder)  # not the best by phrasings that the model is measured by later
    if last is None:
        raise RenderError(f"{folder}: has no whole checkpoint")
    save(base, out, {"text.safetensors": last.tensors("average")})


def launch(arguments: Sequence[str], processes: int) -> None:
    """Run `longvid` with these arguments, in so many processes that share a training. Ctrl-C is theirs too,
    and SIGTERM is passed on: they stop behind a checkpoint.

    Raises typer.Exit with the code that it ended with, unless that is 0; where a signal told it to stop, with
    128 and the signal's number.
    """
    command = [*COMMAND]
    if processes > 1:
        torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
        command[1:1] = torchrun
    told: list[int] = []
    started: list[subprocess.Popen[bytes]] = []

    def receive(number: int, frame: FrameType | None) -> None:
        told.append(number)
        if number == signal.SIGTERM:
            for run in started:
                run.terminate()

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with subprocess.Popen([*command, *arguments], env=environment(threads_each(processes))) as run:
            started.append(run)
            if told:  # before it was there to be told
                run.terminate()
            code = run.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if told:
        raise typer.Exit(128 + told[0])
    if code:
        raise typer.Exit(code if code > 0 else 128 - code)  # below 0: minus the signal that ended it


def package(source: Path, folder: Path) -> None:
    """A model's folder in half precision, as the package ships it."""
    halves = {name: {key: value.half() for key, value in load_file(source / name).items()} for name in FILES}
    save(source, folder, halves)
    say(f"{folder}: {sum((folder / name).stat().st_size for name in FILES) / 1e6:.1f} MB")


def say(line: str) -> None:
    typer.echo(line, err=True)


def make(out: Path, seed: int = 0, amounts: Amounts | None = None, processes: int | None = None) -> None:
    """Draw the world, train text encoder, codec, decoder and denoiser, and write the weights as longvid ships
    them; on the CPU, in so many processes that share the steps (None: two, of two cores or more). About
    9 GB. Raises UserError where ``out`` was begun with something else or cannot be written, RenderError where
    the disk refuses later, and typer.Exit where a stage was stopped or failed."""
    amounts = amounts or Amounts()
    processes = processes or min(2, threads_each(1))
    folder = out / "stages"
    begin(folder, seed, amounts)
    if not is_there(folder / "untrained"):
        write_untrained(folder / "untrained", seed)
    if not is_there(folder / "text"):
        train_text(folder / "untrained", folder / "text", amounts.text_steps, seed)
    for stage in stages(amounts):
        if not is_there(folder / stage.name):
            say(f"{stage.name}: begins, or goes on")
            launch(stage.arguments(folder, seed, processes), processes)
    package(folder / "denoiser", out)


def begin(folder: Path, seed: int, amounts: Amounts) -> None:
    """Write down what all stages in the folder come of. Raises UserError where that is something else."""
    asked = {"world": VERSION, "seed": seed, **asdict(amounts)}
    was = read_sealed(folder / ASKED)
    if was is None:
        with refused(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_sealed(folder / ASKED, asked)
        return
    for key in (key for key in asked if asked[key] != was.get(key)):
        raise UserError(
            f"{folder / ASKED}: was begun with {key} {was.get(key)}, this run has {asked[key]}; "
            "give the same, or another folder"
        )


def is_there(folder: Path) -> bool:
    """Whether a stage has come to its end: what makes its folder a model's is written last."""
    return (folder / FOLDER_FILE).is_file()
