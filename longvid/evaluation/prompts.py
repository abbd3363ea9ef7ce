"""How well a shot shows its own prompt, by CLIP: how LongLive and MemFlow measure interactive films."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class PromptScore:
    """``score``: 100 cos(prompt, frame), mean over a shot. ``margin``: over that of the shot before's prompt,
    None for the first."""

    score: float
    margin: float | None


def prompt_score(
    pictures: NDArray[np.float32], prompt: NDArray[np.float32], before: NDArray[np.float32] | None
) -> PromptScore | None:
    """Of a shot's frames [m d] and the prompts [d], embeddings of length 1; None without a frame."""
    if not len(pictures):
        return None
    score = 100 * float((pictures @ prompt).mean())
    return PromptScore(score, None if before is None else score - 100 * float((pictures @ before).mean()))
