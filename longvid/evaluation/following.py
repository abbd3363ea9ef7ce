"""How far a film of diorama shows what its prompts state, by the judge that comes with longvid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice
from statistics import fmean
from typing import TYPE_CHECKING, Any

from longvid.backends.diorama import NAME
from longvid.backends.diorama.captions import VALUES
from longvid.evaluation.judge import Judge, unknown
from longvid.evaluation.provenance import Shot

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def can_judge(model: str | None, size: tuple[int, int], fps: Fraction, shots: Sequence[Shot]) -> bool:
    """Whether a film's pictures are of the world that the judge knows, and its prompts are known."""
    return model == NAME and unknown(*size, fps) is None and any(shot.prompt for shot in shots)


def following(
    shown: Iterator[NDArray[np.uint8]], shots: Sequence[Shot], fps: Fraction, judge: Judge
) -> dict[str, Any]:
    """Plain data: of what the prompts state the share that is shown, ``score``, that of each attribute, and
    the same of each shot; means over shots, null where none states it. ``accuracy``: of the judge itself,
    on held-out clips of the world as films show them.

    ``shown``: the film's frames [h w 3] in order, each of which is taken once.
    """
    judged = []
    frame = 0
    for shot in shots:
        for _ in islice(shown, shot.start_frame - frame):
            pass
        own = islice(shown, shot.end_frame - shot.start_frame)
        judged.append(judge.score(own, shot.prompt, fps, shot.blend_frames))
        frame = shot.end_frame

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return fmean(known) if known else None

    return {
        "score": mean([one.score for one in judged]),
        **{name: mean([one.attributes[name] for one in judged]) for name in VALUES},
        "by_shot": [
            {"score": one.score, **one.attributes, "clips": one.clips, "reason": one.reason} for one in judged
        ],
        "accuracy": dict(judge.accuracy.decoded),
    }
