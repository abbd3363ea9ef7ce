"""Making the judge of diorama's films from nothing: `python -m longvid.training.judging OUT`.

    OUT/clips       clips of the world, some of them as diorama's codec gives them back; by the version of the
                    world, the seed and the codec
    OUT/training    checkpoints
    OUT/judge.safetensors, OUT/MODEL_CARD.md: what ships in longvid/evaluation/judging

Clips that are there are not drawn again, and a training that was stopped goes on from its last checkpoint.
With `--judge FILE` none is trained, and that one is measured anew: by clips through another codec.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from textwrap import fill
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from longvid import devices, digests
from longvid.backends import FilmSpec, Runtime, VideoCodec
from longvid.backends.diorama import FILES, GEOMETRY, captions, world
from longvid.backends.diorama import WEIGHTS as SHIPPED
from longvid.backends.diorama import backend as diorama
from longvid.backends.diorama.dataset import SWITCH_SHARE, VERSION
from longvid.backends.diorama.text import SIZES
from longvid.errors import RenderError, UserError
from longvid.evaluation.judge import (
    CLIP_FRAMES,
    HEIGHT_PX,
    SAMPLES,
    STRIDE_FRAMES,
    WIDTH_PX,
    Accuracy,
    Judge,
    JudgeNetwork,
    header,
    small,
)
from longvid.exits import reported
from longvid.files import write, write_tensors
from longvid.locks import refused
from longvid.training import checkpoints
from longvid.training.distributed import Precision, accelerator
from longvid.training.recipe import Recipe
from longvid.training.reconstruction import MAX_SAMPLED_NOISE, as_video
from longvid.training.trainer import Stepped, train
from longvid.video import post

CHUNKS = 6
"""Of a clip: 8 s, in which sea and snow pass through all their phases."""
BLOCK = 50
"""Clips in a file."""
STAYING = tuple(list(captions.VALUES["motion"]).index(name) for name in ("bouncing", "still"))
AT_REST = 0.1
"""Units by which an object that has come to rest may still move in a frame."""
DRAWN, DECODED, HELD_OUT = 0, 1, 3
"""What a generator draws clips for; 2 were those by which the network was designed."""
BATCH = 32
DECODED_PART = 3
"""One in so many clips goes through the codec: that takes three times as long as drawing it."""
OPTIONS = ("clips", "held_out", "steps", "seed")
"""That weights and card depend on, the codec apart."""
WEIGHTS, CARD = "judge.safetensors", "MODEL_CARD.md"
CARD_WIDTH = 118


@dataclass(frozen=True)
class Excerpts:
    """Stretches of clips as the judge looks at them: ``pixels``, every few frames of each clip, by block
    uint8 [n f h w 3]; ``labels`` [n f a], each attribute's value, the one behind its last for none;
    ``places`` [m 3]: block, clip and first frame of every stretch in which all is settled."""

    pixels: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places)

    def take(self, numbers: Sequence[int]) -> Batch:
        at = [tuple(map(int, self.places[number])) for number in numbers]
        shown = [self.pixels[block][clip, first : first + SAMPLES] for block, clip, first in at]
        labels = [self.labels[block][clip, first] for block, clip, first in at]
        return Batch(torch.stack(shown), torch.stack(labels).long())


@dataclass(frozen=True)
class Batch:
    """``pictures`` uint8 [b s h w 3], and what they show, ``labels`` [b a]."""

    pictures: Tensor
    labels: Tensor


def draw(
    folder: Path, clips: int, kind: tuple[int, int], codec: VideoCodec | None, apart: int = 1
) -> Excerpts:
    """Excerpts of so many clips of a ``kind`` (seed; DRAWN, DECODED or HELD_OUT), from ``folder`` or drawn
    into it, as the ``codec`` gives them back if there is one.

    ``apart``: how many of the frames that are looked at lie between the beginnings of two excerpts of a clip.
    Raises RenderError where the disk refuses, UserError where nothing is settled.
    """
    blocks = []
    for start in range(0, clips, BLOCK):
        stop = min(start + BLOCK, clips)
        path = folder / f"{start:06}-{stop:06}.safetensors"
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            drawn = [draw_clip((*kind, clip), codec) for clip in range(start, stop)]
            write_tensors(path, {name: torch.stack([clip[name] for clip in drawn]) for name in drawn[0]})
        blocks.append(load_file(path))
    places = [
        (number, clip, first)
        for number, block in enumerate(blocks)
        for clip, settled in enumerate(block["settled"])
        for first in range(0, len(settled) - SAMPLES + 1, apart)
        if settled[first : first + SAMPLES].all()
    ]
    if not places:
        raise UserError(f"{folder}: of {clips} clips none is settled for two seconds; take more of them")
    pixels, labels = (tuple(block[name] for block in blocks) for name in ("pixels", "labels"))
    return Excerpts(pixels, labels, np.array(places, np.int64))


def draw_clip(numbers: Sequence[int], codec: VideoCodec | None) -> dict[str, Tensor]:
    """A random clip, drawn from these numbers: every few frames of it, what they show, and where nothing is
    on its way."""
    rng = np.random.default_rng(numbers)
    drawn = world.draw_clip(rng, CHUNKS, SWITCH_SHARE)
    seen = slice(int(rng.integers(STRIDE_FRAMES)), None, STRIDE_FRAMES)
    frames = drawn.frames if codec is None else decoded(drawn.frames, codec, rng)
    labels = torch.tensor([label(spec) for spec in drawn.specs], dtype=torch.uint8)
    return {
        "pixels": torch.from_numpy(small(frames[seen])),
        "labels": labels[torch.from_numpy(drawn.spec_index[seen])],
        "settled": torch.from_numpy(settled(drawn)[seen]),
    }


def settled(clip: world.Clip) -> NDArray[np.bool_]:
    """Whether each frame [f] shows what its spec says: no transition is under way, and an object that is to
    stay in its place has reached it, since none comes to rest at the picture's edge."""
    across = clip.boxes[:, 1, ::2].mean(1)
    moves = np.abs(np.diff(across, prepend=across[:1])) > AT_REST
    stays = np.array([spec["motion"] in STAYING for spec in clip.specs])
    found: NDArray[np.bool_] = clip.settled & ~(moves & stays[clip.spec_index])
    return found


def label(spec: captions.Spec) -> list[int]:
    """Each attribute's value, the one behind its last for none."""
    return [len(known) if (value := spec[name]) is None else value for name, known in captions.VALUES.items()]


def decoded(frames: NDArray[np.uint8], codec: VideoCodec, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Frames [f h w 3] as a film would show them: from latents with some of a sampler's noise, eased."""
    latents = codec.encode(as_video(torch.from_numpy(frames))[None])
    noise = torch.from_numpy(rng.standard_normal(latents.shape, np.float32))
    shown, _ = codec.decode(latents + MAX_SAMPLED_NOISE * rng.random() * noise, {})
    return post.finish(shown[0])


@dataclass(frozen=True)
class Judging:
    """``training``: clips as they are drawn, and as they are decoded, learnt from by halves, their pictures
    moved aside by some pixels: what they show is the same. ``held_out``: others, by their check's name."""

    network: JudgeNetwork
    training: tuple[Excerpts, Excerpts]
    held_out: Mapping[str, Excerpts]
    device: torch.device
    blocks: tuple[nn.Module, ...] = ()

    def identity(self) -> dict[str, Any]:
        return {"excerpts": [len(excerpts) for excerpts in self.training]}

    @property
    def checks(self) -> dict[str, str]:
        return {name: name for name in self.held_out}

    def draw_task(self, seed: int, step: int) -> None:
        return None

    def multiple(self, task: str | None) -> int:
        return 1

    def draw(
        self, task: str | None, seed: int, step: int, samples: Sequence[int], held_out: bool = False
    ) -> Batch:
        batches = []
        for sample in samples:
            if task is None:
                rng = np.random.default_rng((seed, step, sample))
                excerpts = self.training[rng.integers(len(self.training))]
                batch = excerpts.take([int(rng.integers(len(excerpts)))])
                aside = int(rng.integers(WIDTH_PX))
                batches.append(Batch(batch.pictures.roll(aside, 3), batch.labels))
            else:
                excerpts = self.held_out[task]
                batches.append(excerpts.take([sample % len(excerpts)]))
        pictures, labels = (
            torch.cat([getattr(batch, part) for batch in batches]).to(self.device)
            for part in ("pictures", "labels")
        )
        return Batch(pictures, labels)

    def losses(self, network: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy [b], the sum over the attributes."""
        parts = network(batch.pictures).float().split(SIZES, 1)
        each = [
            nn.functional.cross_entropy(logits, truth, reduction="none")
            for logits, truth in zip(parts, batch.labels.unbind(1), strict=True)
        ]
        return torch.stack(each).sum(0)


@torch.inference_mode()
def shares_right(network: JudgeNetwork, excerpts: Excerpts) -> dict[str, float]:
    """How many of the excerpts are named right, by attribute."""
    right = torch.zeros(len(SIZES))
    for first in range(0, len(excerpts), BATCH):
        batch = excerpts.take(range(first, min(first + BATCH, len(excerpts))))
        said = [logits.argmax(1) for logits in network(batch.pictures).split(SIZES, 1)]
        right += (torch.stack(said, 1) == batch.labels).sum(0)
    shares = (right / len(excerpts)).tolist()
    return {name: round(share, 4) for name, share in zip(captions.VALUES, shares, strict=True)}


def save(network: JudgeNetwork, accuracy: Accuracy, facts: Mapping[str, int | str], out: Path) -> None:
    """Weights in half precision, with what they are worth and made of, and their card. Raises RenderError."""
    halves = {name: tensor.half() for name, tensor in network.state_dict().items()}
    # One key: the format writes several in no fixed order, and equal weights shall be equal bytes.
    told = {"judge": json.dumps({"accuracy": asdict(accuracy), "made": facts})}
    write_tensors(out / WEIGHTS, halves, told)
    parameters = sum(tensor.numel() for tensor in halves.values())
    write(out / CARD, card(accuracy, facts, parameters).encode())


def card(accuracy: Accuracy, facts: Mapping[str, int | str], parameters: int) -> str:
    """What the judge is, how it was made, and what it is worth."""
    options = " ".join(f"--{name.replace('_', '-')} {facts[name]}" for name in OPTIONS)
    what = (
        f"`{WEIGHTS}` names what two seconds of a diorama film show: {', '.join(captions.VALUES)}. It sees "
        f"{SAMPLES} frames of {CLIP_FRAMES}, {world.FPS} a second, brought to {WIDTH_PX}x{HEIGHT_PX} px: 2D "
        "convolutions over each and over which way its parts go, pooled over place and time; "
        "beside them which way the picture's bands go and how their colours change. "
        f"{parameters:,} numbers in float16. Licence Apache-2.0."
    )
    worth = (
        f"How many of {accuracy.clips:,} held-out stretches of two seconds it names right: as diorama's "
        f"world draws them, and as diorama's codec (SHA-256 {accuracy.codec}...) gives them back from noisy "
        f"latents, as in films. They are of {facts['held_out']:,} clips, by which nothing was learnt and "
        "nothing chosen. There is no truth while one prompt's world turns into the next, nor until an object "
        "that is to stay has come to its place, so none of them lies there. To name no object, and so no "
        "colour and no motion, can be right as well."
    )
    limits = (
        "What a denoiser gets wrong looks like nothing in these clips: of an object that comes apart, or of "
        "a mixture of two scenes, it names what is likeliest. An object that goes round is out of the "
        "picture for less than a second: in any two seconds a quarter of it can be seen at least, so where "
        "none is named none was there."
    )
    made = (
        f"{facts['clips']:,} clips of 8 s of the procedural world (`longvid/backends/diorama/world.py`), "
        f"{SWITCH_SHARE:.0%} of them with a transition, as its version {facts['world']} draws them. One in "
        f"{DECODED_PART} went through diorama's codec (SHA-256 {facts['codec']}...), its latents with noise "
        f"of a deviation up to {MAX_SAMPLED_NOISE}. {facts['steps']:,} steps of {BATCH} stretches, half of "
        "them of decoded clips, Muon, average of the weights, on the CPU. No picture or text from elsewhere."
    )
    right = [(name, accuracy.drawn[name], accuracy.decoded[name]) for name in captions.VALUES]
    rows = (f"| {name} | {drawn:.3f} | {decoded:.3f} |" for name, drawn, decoded in right)
    table = "\n".join(("| attribute | drawn | decoded |", "|---|---|---|", *rows))
    parts = (
        "# A judge of diorama's films",
        fill(what, CARD_WIDTH),
        "## What it is worth",
        fill(worth, CARD_WIDTH),
        table,
        fill(limits, CARD_WIDTH),
        "## How it was made",
        f"    python -m longvid.training.judging OUT {options}",
        fill(made, CARD_WIDTH),
    )
    return "\n\n".join(parts) + "\n"


def say(line: str) -> None:
    typer.echo(line, err=True)


def learn(
    folder: Path,
    learnt: tuple[Excerpts, Excerpts],
    measured: Mapping[str, Excerpts],
    steps: int,
    seed: int,
    identity: Mapping[str, Any],
) -> JudgeNetwork:
    """A judge, with the numbers that ship; checkpoints in ``folder``, from the last of which it goes on.
    Raises UserError where they were begun with something else, RenderError where there is none."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = JudgeNetwork()
    recipe = Recipe(
        steps=steps,
        batch=BATCH,
        micro_batch=BATCH,
        lr=2e-3,
        optimizer="muon",
        warmup_steps=min(50, steps),
        weight_decay=0.01,
        average=0.99,
        seed=seed,
        checkpoint_steps=200,
        held_out_samples=len(measured["drawn"]),
    )
    precision: Precision = "bf16" if devices.choose_dtype() == torch.bfloat16 else "no"
    objective = Judging(network, learnt, measured, torch.device("cpu"))
    for event in train(objective, recipe, accelerator(precision, "cpu"), folder, identity=identity):
        if isinstance(event, Stepped) and event.held_out:
            losses = ", ".join(f"{name} {loss:.3f}" for name, loss in event.held_out.items())
            say(f"step {event.step} of {steps}: loss {event.loss:.3f}; held out: {losses}")
    last, _ = checkpoints.newest(folder)
    if last is None:
        raise RenderError(f"{folder}: has no whole checkpoint")
    # Another network, as Accelerate has bound bfloat16 to that one's forward.
    judge = JudgeNetwork().eval()
    judge.load_state_dict({name: tensor.half().float() for name, tensor in last.tensors("average").items()})
    return judge


def main(
    out: Annotated[Path, typer.Argument(help="Folder for clips (0.4 MB each), checkpoints and the weights.")],
    clips: Annotated[int, typer.Option(min=2, help="Clips of 8 s to learn from.")] = 3600,
    held_out: Annotated[int, typer.Option(min=1, help="Clips to measure by.")] = 300,
    steps: Annotated[int, typer.Option(min=1)] = 1600,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    model: Annotated[
        Path, typer.Option(help="Folder of diorama's weights, whose codec the clips go through.")
    ] = SHIPPED,
    judge: Annotated[
        Path | None, typer.Option(help="A judge that is there, to be measured anew; none is trained.")
    ] = None,
) -> None:
    """Draw the world's clips, train the judge on them, measure it on others; write weights and card. On the
    CPU."""
    with refused(out, "give another folder as OUT"):
        out.mkdir(parents=True, exist_ok=True)
    devices.keep_memory()
    runtime = Runtime(torch.device("cpu"), devices.choose_dtype())
    spec = FilmSpec(GEOMETRY.sizes[0], Fraction(world.FPS), GEOMETRY.window_units, {})
    codec = diorama(model).for_film(spec, runtime).codec()
    digest = digests.sha256(model / FILES[0])[:12]
    folder, through = out / "clips" / f"world-{VERSION}" / str(seed), f"decoded-{digest}"
    say(f"clips: {clips if judge is None else 0} to learn from, {held_out} to measure by")
    measured = {
        "drawn": draw(folder / "held-out-drawn", held_out, (seed, HELD_OUT), None, SAMPLES),
        "decoded": draw(folder / f"held-out-{through}", held_out, (seed, HELD_OUT), codec, SAMPLES),
    }
    if judge is None:
        some = max(1, clips // DECODED_PART)
        learnt = (
            draw(folder / "drawn", clips - some, (seed, DRAWN), None),
            draw(folder / through, some, (seed, DECODED), codec),
        )
        identity: dict[str, int | str] = {"codec": digest, "world": VERSION}
        facts: Mapping[str, int | str] = {
            "clips": clips,
            "held_out": held_out,
            "steps": steps,
            "seed": seed,
            **identity,
        }
        network = learn(out / "training", learnt, measured, steps, seed, identity)
    else:
        network, facts = Judge.load(judge).network, header(judge)["made"] | {"held_out": held_out}
    accuracy = Accuracy(
        len(measured["drawn"]),
        shares_right(network, measured["drawn"]),
        shares_right(network, measured["decoded"]),
        digest,
    )
    save(network, accuracy, facts, out)
    say(
        f"{out / WEIGHTS}: right on {accuracy.clips} stretches: {accuracy.drawn}; decoded: {accuracy.decoded}"
    )


if __name__ == "__main__":
    with reported():
        typer.run(main)
