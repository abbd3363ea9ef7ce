"""A judge for diorama's films: what of the world's attributes is to be seen, and whether the prompt asked it.

The world knows what it draws, so a small network (trained by `longvid.training.judging`) can learn to name
it. What it is worth, its accuracy on held-out clips, goes with every score.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import torch
from einops import rearrange, reduce
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from longvid.backends.diorama import world
from longvid.backends.diorama.captions import VALUES, Spec, stated
from longvid.backends.diorama.text import SIZES
from longvid.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHTS = Path(__file__).parent / "judging" / "judge.safetensors"
CLIP_FRAMES = 2 * world.FPS
"""A judgement is of two seconds."""
STRIDE_FRAMES = 4
"""Every so many frames one is looked at: in a third of a second all that moves goes some pixels."""
SAMPLES = CLIP_FRAMES // STRIDE_FRAMES
SETTLING_FRAMES = CLIP_FRAMES
"""What a new prompt asks for is on its way: not held against it."""
WIDTHS = (32, 64, 96, 128)
"""Channels of the convolutions."""
HIDDEN = 192
SHIFTS_PX = [(0, across) for across in range(-6, 7)] + [(down, 0) for down in (-6, -4, -2, 2, 4, 6)]
"""By which pictures are compared, (down, across): as far as things go from one sample to the next."""


class JudgeNetwork(nn.Module):
    """2D convolutions over each sampled picture, and over how well it fits the next one if all went this way
    or that; pooled over place and time."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter, eighth, last = WIDTHS
        self.look = nn.Sequential(
            nn.Conv2d(3 * 4 + len(SHIFTS_PX), half, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(half, quarter, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(quarter, eighth, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(eighth, last, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(last, last, 3, padding=1),
            nn.ReLU(),
        )
        self.name = nn.Sequential(nn.Linear(2 * last, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, sum(SIZES)))

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits [b v] of clips, uint8 [b s h w 3]: of each attribute's values in turn, and of its being
        none of them (an object's colour where there is no object)."""
        x = rearrange(pictures, "b s h w c -> b s c h w").float() / 127.5 - 1
        shown = F.pixel_unshuffle(rearrange(x[:, :-1], "b s c h w -> (b s) c h w"), 2)
        seen = self.look(torch.cat([shown, misfits(x)], 1).contiguous(memory_format=torch.channels_last))
        seen = rearrange(seen.float(), "(b s) c h w -> b c (s h w)", b=len(x))
        logits: Tensor = self.name(torch.cat([seen.mean(2), seen.amax(2)], 1))
        return logits


def misfits(pictures: Tensor) -> Tensor:
    """How far each picture of [b s c h w], moved by each of SHIFTS_PX, is from the next, at half the size
    [(b s-1) d h/2 w/2]; by its root, since scenery is faint."""
    grey = pictures.mean(2)
    apart = [(grey[:, 1:] - grey[:, :-1].roll(shift, (2, 3))).abs() for shift in SHIFTS_PX]
    return F.avg_pool2d(rearrange(torch.stack(apart, 2), "b s d h w -> (b s) d h w"), 2).sqrt()


def named(logits: Tensor) -> list[Spec]:
    """The likeliest value of each attribute, None for none, of logits [b v]."""
    columns = torch.stack([part.argmax(1) for part in logits.split(SIZES, 1)], 1).tolist()
    return [
        {
            name: value if value < len(known) else None
            for (name, known), value in zip(VALUES.items(), row, strict=True)
        }
        for row in columns
    ]


@dataclass(frozen=True)
class Accuracy:
    """The share of held-out clips of two seconds that the judge names right, by attribute: ``drawn``, as the
    world draws them, and ``decoded``, as diorama's codec gives them back from noisy latents."""

    clips: int
    drawn: Mapping[str, float]
    decoded: Mapping[str, float]


def accuracy(weights: Path = WEIGHTS) -> Accuracy:
    """What a judge's file says of it, by its header alone."""
    with safe_open(weights, "pt") as file:
        return Accuracy(**json.loads(file.metadata()["accuracy"]))


@dataclass(frozen=True)
class Judged:
    """How far a shot shows what its prompt states.

    ``score``: of the attributes that the prompt states, the share that is shown, 0 to 1, mean over the clips
    of two seconds behind the shot's settling. ``attributes``: the same of each alone, None for what is not
    stated. ``clips``: the share by clip from the shot's start, settling or not. ``reason``: why there is no
    score, where it is None.
    """

    score: float | None
    attributes: Mapping[str, float | None]
    clips: tuple[float, ...]
    accuracy: Accuracy
    reason: str | None = None


@dataclass(frozen=True)
class Judge:
    network: JudgeNetwork
    accuracy: Accuracy

    @staticmethod
    def load(weights: Path = WEIGHTS) -> Judge:
        """The judge that comes with longvid, or another file of its layout. Raises UserError."""
        network = JudgeNetwork()
        try:
            told = accuracy(weights)
            network.load_state_dict({name: tensor.float() for name, tensor in load_file(weights).items()})
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{weights}: no judge's weights; leave it out for those of longvid") from error
        return Judge(network.eval(), told)

    def score(
        self, frames: Iterable[NDArray[np.uint8]], prompt: str, fps: Fraction, blend_frames: int = 0
    ) -> Judged:
        """Of a shot's frames [h w 3], each of which is taken once, so that a film's shots may follow each
        other in one stream; ``blend_frames``: at its start, in which the prompt before it still counts."""
        wanted = {name: value for name, value in stated(prompt).items() if value is not None}
        stream = iter(frames)
        first = next(stream, None)
        reason = None if first is None else unknown(first.shape[1], first.shape[0], fps)
        if not wanted:
            reason = "the prompt names nothing that the judge knows"
        seen = [] if first is None or reason else list(self.look(chain([first], stream)))
        deque(stream, maxlen=0)
        shown = [{name: float(clip[name] == value) for name, value in wanted.items()} for clip in seen]
        clips = tuple(fmean(clip.values()) for clip in shown)
        settled = shown[-(-(SETTLING_FRAMES + blend_frames) // CLIP_FRAMES) :]
        if not settled:
            over = "the shot is over before two seconds of it have settled"
            return Judged(None, dict.fromkeys(VALUES), clips, self.accuracy, reason or over)
        attributes = {
            name: fmean(clip[name] for clip in settled) if name in wanted else None for name in VALUES
        }
        return Judged(fmean(fmean(clip.values()) for clip in settled), attributes, clips, self.accuracy)

    @torch.inference_mode()
    def look(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[Spec]:
        """What each whole clip of two seconds shows, of frames [h w 3] that it knows (`unknown`); a clip is
        held at a time."""
        stream = iter(frames)
        while len(clip := list(islice(stream, CLIP_FRAMES))) == CLIP_FRAMES:
            pictures = np.stack([small(frame) for frame in clip[::STRIDE_FRAMES]])
            yield from named(self.network(torch.from_numpy(pictures)[None]))


def unknown(width_px: int, height_px: int, fps: Fraction) -> str | None:
    """Why the judge cannot tell films of this size and rate, or None if it can: diorama's own, enlarged by
    whole factors."""
    scale, rest = divmod(width_px, world.WIDTH_PX)
    if fps == world.FPS and scale and not rest and height_px == scale * world.HEIGHT_PX:
        return None
    return (
        f"the judge knows diorama's films, {world.WIDTH_PX}x{world.HEIGHT_PX} or a whole multiple at "
        f"{world.FPS} frames a second; this is {width_px}x{height_px} at {float(fps):g}"
    )


def small(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame [h w 3] in the world's size, by the mean of what each pixel was enlarged to."""
    scale = frame.shape[0] // world.HEIGHT_PX
    if scale == 1:
        return frame
    means = reduce(frame.astype(np.float32), "(h y) (w x) c -> h w c", "mean", y=scale, x=scale)
    return (means + np.float32(0.5)).astype(np.uint8)
