"""A judge for diorama's films: what of the world's attributes is to be seen, and whether the prompt asked it.

The world knows what it draws, so a small network (trained by `longvid.training.judging`) can learn to name
it. What it is worth, its accuracy on held-out clips, goes with every score.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import rearrange, reduce
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from longvid.backends.diorama import canvas, world
from longvid.backends.diorama.captions import VALUES, Spec, stated
from longvid.backends.diorama.codec import around
from longvid.backends.diorama.text import SIZES
from longvid.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHTS = Path(__file__).parent / "judging" / "judge.safetensors"
HEIGHT_PX, WIDTH_PX = canvas.HEIGHT, canvas.WIDTH
"""At which films are looked at: a pixel for each of the world's units."""
CLIP_FRAMES = 2 * world.FPS
"""A judgement is of two seconds."""
STRIDE_FRAMES = 4
"""Every so many frames one is looked at: in a third of a second all that moves goes some pixels."""
SAMPLES = CLIP_FRAMES // STRIDE_FRAMES
SETTLING_FRAMES = CLIP_FRAMES
"""What a new prompt asks for is on its way: not held against it."""
WIDTHS = (32, 64, 96, 112)
"""Channels of the convolutions."""
HIDDEN = 160
ROW_PX = 2
"""Pictures are compared in rows of so many pixels: flakes and drops count less."""
SHIFTS = [(0, across) for across in range(-6, 7)] + [(down, 0) for down in (-3, -2, -1, 1, 2, 3)]
"""By which one is compared with the next, rows down and pixels across: as far as objects go meanwhile."""
LATER, LATER_SHIFTS = 3, [(0, across) for across in range(-9, 10)]
"""And with the one so many further on, by columns of two pixels: as far as scenery goes in a second."""
BAND_ROWS = 4
"""Height of the bands in which a picture is compared as a whole."""
BANDS = HEIGHT_PX // (BAND_ROWS * ROW_PX)
FAINT = 0.01
"""Pictures that differ by less hardly tell which way anything goes."""


class JudgeNetwork(nn.Module):
    """2D convolutions over each sampled picture, half way joined by how well its parts fit the one before if
    they came this way or that; pooled over place and time. Beside them, for what is large and slow, the
    colours of the picture's bands, how they change as time passes, and how they fit if they move as scenery
    does before a camera that pans."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter, eighth, last = WIDTHS
        self.look = nn.Sequential(
            nn.Conv2d(3 * 4 + 1, half, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(half, quarter, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(quarter, eighth, 3, 2, 1),
            nn.ReLU(),
        )
        self.follow = nn.Sequential(
            nn.Conv2d(eighth + len(SHIFTS), last, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(last, last, 3, padding=1),
            nn.ReLU(),
        )
        known = 3 * last + BANDS * (len(SHIFTS) + len(LATER_SHIFTS) + 2 * 3)
        self.name = nn.Sequential(nn.Linear(known, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, sum(SIZES)))

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits [b v] of clips, uint8 [b s h w 3]: of each attribute's values in turn, and of its being
        none of them (an object's colour where there is no object)."""
        x = rearrange(pictures, "b s h w c -> b s c h w").float() / 127.5 - 1
        sharp = contrast(reduce(x, "b s c (h y) (w x) -> (b s) 1 h w", "mean", y=ROW_PX, x=2))
        rows = reduce(x, "b s c (h y) w -> b s c h w", "mean", y=ROW_PX)
        later = misfits(rearrange(sharp, "(b s) c h w -> b s c h w", b=len(x)), LATER, LATER_SHIFTS)
        apart = misfits(rows, 1, SHIFTS)
        shown = F.pixel_unshuffle(rearrange(x, "b s c h w -> (b s) c h w"), 2)
        seen = self.look(torch.cat([shown, sharp], 1).contiguous(memory_format=torch.channels_last))
        came = parts(torch.cat([apart[:, :1], apart], 1))  # the first picture as the second
        seen = self.follow(torch.cat([seen, came.to(seen.dtype)], 1))
        seen = rearrange(seen.float(), "(b s) c h w -> b s c (h w)", b=len(x))
        most, means = seen.amax((1, 3)), seen.mean(3)
        known = [most, means.amax(1), means.mean(1), bands(apart), bands(later), colours(x)]
        logits: Tensor = self.name(torch.cat(known, 1))
        return logits


def contrast(grey: Tensor) -> Tensor:
    """Pictures [n 1 h w] without what is smooth, over its deviation thereabouts: the same by day and by night
    and in fog."""
    sharp = grey - around(grey, 2)
    return sharp / (around(sharp.square(), 4).sqrt() + 0.02)


def misfits(pictures: Tensor, ahead: int, shifts: Sequence[tuple[int, int]]) -> Tensor:
    """How far each picture of [b s c h w], moved by each shift, is from the one so many ``ahead``
    [b s-ahead d h w]."""
    before, behind = pictures[:, :-ahead], pictures[:, ahead:]
    return torch.stack([(behind - before.roll(by, (3, 4))).abs().mean(2) for by in shifts], 2)


def parts(apart: Tensor) -> Tensor:
    """How well each shift fits, of misfits [b s d h w], in squares of 16 pixels: [(b s) d h/4 w/8]."""
    rows, columns = BAND_ROWS, BAND_ROWS * ROW_PX
    places = rearrange(apart, "b s d h w -> (b s) d h w")
    squares = F.avg_pool2d(
        places, (2 * rows, 2 * columns), (rows, columns), (rows // 2, columns // 2), count_include_pad=False
    )
    return fits(squares)


def bands(apart: Tensor) -> Tensor:
    """How well each shift fits, of misfits [b s d h w], in bands as wide as the picture: [b d]."""
    rows = reduce(apart, "b s d (h y) w -> (b s) d h", "mean", y=BAND_ROWS)
    return reduce(fits(rows), "(b s) d h -> b (d h)", "mean", b=len(apart))


def fits(apart: Tensor) -> Tensor:
    """By how much each shift is less off [n d ...] than their mean, as a share of it, so that faint things
    count as much as strong ones; 4 at most."""
    mean = apart.mean(1, keepdim=True)
    return 4 * (mean - apart) / (mean + FAINT)


def colours(pictures: Tensor) -> Tensor:
    """The colours [b d] of the bands of [b s c h w], and ten times their change from the clip's first half to
    its second. They are medians (of some columns), which an object that goes through a band hardly moves."""
    columns = rearrange(pictures[..., ::4], "b s c (h y) w -> b s (c h) (y w)", h=BANDS)
    first, second = (half.mean(1) for half in columns.median(3).values.chunk(2, 1))
    return torch.cat([(first + second) / 2, 10 * (second - first)], 1)


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
    world draws them, and ``decoded``, as diorama's codec gives them back from noisy latents; ``codec``: how
    the SHA-256 of that one's weights begins."""

    clips: int
    drawn: Mapping[str, float]
    decoded: Mapping[str, float]
    codec: str


def accuracy(weights: Path = WEIGHTS) -> Accuracy:
    """What a judge's file says of it, by its header alone."""
    return Accuracy(**header(weights)["accuracy"])


def header(weights: Path) -> dict[str, Any]:
    """Of a judge's file: its ``accuracy``, and what it was ``made`` of."""
    with safe_open(weights, "pt") as file:
        found: dict[str, Any] = json.loads(file.metadata()["judge"])
    return found


@dataclass(frozen=True)
class Judged:
    """How far a shot shows what its prompt states.

    ``score``: of the attributes that the prompt states, the share that is shown, 0 to 1, mean over the clips
    of two seconds behind the shot's settling. Only what the prompt says counts (`captions.stated`): that "a
    boat" is one, and that no object was asked for, goes unsaid. In the world some of each object is seen in
    any two seconds, so a clip without one lacks it. ``attributes``: the same of each alone, None for what is
    not stated. ``clips``: the share by clip from the shot's start, settling or not. ``reason``: why there is
    no score, where it is None.
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
        if "shape" not in wanted:
            wanted.pop("color", None)  # what is green in "a green forest" is no object
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
    """Why the judge cannot tell films of this size and rate, or None if it can: its own size, enlarged by
    whole factors, as diorama's are."""
    scale, rest = divmod(width_px, WIDTH_PX)
    if fps == world.FPS and scale and not rest and height_px == scale * HEIGHT_PX:
        return None
    return (
        f"the judge knows diorama's films, {WIDTH_PX}x{HEIGHT_PX} or a whole multiple at {world.FPS} frames "
        f"a second; this is {width_px}x{height_px} at {float(fps):g}"
    )


def small(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames [... h w 3] in the size in which they are looked at, by the mean of the pixels that one stands
    for."""
    scale = frames.shape[-3] // HEIGHT_PX
    if scale == 1:
        return frames
    means = reduce(frames.astype(np.float32), "... (h y) (w x) c -> ... h w c", "mean", y=scale, x=scale)
    return (means + np.float32(0.5)).astype(np.uint8)
