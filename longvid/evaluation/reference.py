"""Clips that films should look like, and how far from them the films are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from longvid.errors import UserError
from longvid.evaluation.features import clip_features
from longvid.evaluation.frechet import COMPONENTS, Distance, distance
from longvid.evaluation.measuring import Means, Measured, Progress, film
from longvid.evaluation.signals import Signals, observe
from longvid.video import source

if TYPE_CHECKING:
    from numpy.typing import NDArray

VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"}


def references(folder: Path, films: Sequence[source.Source]) -> list[source.Source]:
    """The clips of a folder. Raises UserError where there is none, or one is not like the films."""
    if not folder.is_dir():
        raise UserError(f"--against {folder}: there is no such folder; it is one of clips")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    if not paths:
        raise UserError(f"--against {folder}: there are no clips in it; MP4s of two seconds or more")
    found = [film(path) for path in paths]
    for one in (*films[1:], *found):
        if (one.size, one.fps) != (films[0].size, films[0].fps):
            raise UserError(
                f"{one.path}: is {_shape(one)}, and {films[0].path} {_shape(films[0])}; "
                "a distance would tell of that: bring them all to one size and rate"
            )
    return found


def _shape(found: source.Source) -> str:
    return f"{found.size[0]}x{found.size[1]} at {float(found.fps):g} frames a second"


@dataclass(frozen=True)
class Apart:
    """How far films' clips are from a reference's; None where what it takes is not here."""

    fd_effnet: Distance | None
    fvd: Distance | None


def apart(
    films: Sequence[Measured], against: Sequence[source.Source], by: Means, progress: Progress
) -> Apart:
    """Fréchet distances of the films' clips from the reference's: FD-EffNet, and FVD by VideoMAE's features.

    Raises UserError for too few clips.
    """
    own = [film.signals for film in films]
    seen = []
    for clip in against:
        progress(f"{clip.path}: features")
        shown = source.frames(clip)
        seen.append(observe(shown, clip.fps, cuts=False, flow=False, embed=by.embed, videomae=by.videomae))

    def effnet(signals: Signals) -> NDArray[np.float32] | None:
        return None if signals.features is None else clip_features(signals.features)

    return Apart(
        fd_effnet=_distance([effnet(film) for film in own], [effnet(clip) for clip in seen], COMPONENTS),
        # All of its dimensions, as FVD is defined: also those in which the reference never varies.
        fvd=_distance([film.clips for film in own], [clip.clips for clip in seen], None),
    )


def _distance(
    own: Sequence[NDArray[np.float32] | None],
    reference: Sequence[NDArray[np.float32] | None],
    components: int | None,
) -> Distance | None:
    mine, theirs = ([part for part in whole if part is not None] for whole in (own, reference))
    if not mine or not theirs:
        return None
    features, wanted = np.concatenate(mine), np.concatenate(theirs)
    if min(len(features), len(wanted)) < 2:
        raise UserError("--against: a distance takes two clips of two seconds or more of films and of DIR")
    return distance(features, wanted, components)
