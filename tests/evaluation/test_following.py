"""Films of the world itself, whose prompts are known to be followed, or not."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from longvid.backends.diorama import captions, world
from longvid.evaluation.following import can_judge, following
from longvid.evaluation.judge import Judge
from longvid.evaluation.provenance import Shot

FPS = Fraction(world.FPS)
FRAMES = 6 * world.CHUNK_FRAMES


def shot(prompt: str, start: int, blend: int = 0) -> Shot:
    return Shot(prompt, start, start, start + FRAMES, cut=start > 0, blend_frames=blend)


def test_each_shot_is_held_to_its_own_prompt() -> None:
    """Two clips of the world in turn: the first under its caption, the second under the first's."""
    clips = [world.draw_clip(np.random.default_rng((17, number)), 6, 0) for number in (1, 2)]
    said, stated = captions.compose(clips[0].specs[0], np.random.default_rng(3))
    other = clips[1].specs[0]
    frames = iter(np.concatenate([clip.frames for clip in clips]))
    judge = Judge.load()
    found = following(frames, [shot(said, 0), shot(said, FRAMES)], FPS, judge)
    first, second = found["by_shot"]
    assert first["score"] == 1.0
    same = [name for name, value in stated.items() if value is not None and other[name] == value]
    named = [name for name, value in stated.items() if value is not None]
    assert 0 < len(same) < len(named)
    assert second["score"] == pytest.approx(len(same) / len(named))
    assert {name for name in named if second[name] == 1.0} == set(same)
    assert found["score"] == pytest.approx((1 + second["score"]) / 2)
    assert found["accuracy"] == dict(judge.accuracy.decoded)
    assert next(frames, None) is None, "each frame is taken once"


def test_what_no_shot_states_is_null() -> None:
    clip = world.draw_clip(np.random.default_rng((17, 1)), 6, 0)
    found = following(iter(clip.frames), [shot("something", 0)], FPS, Judge.load())
    assert found["score"] is None and found["scene"] is None
    assert found["by_shot"][0]["reason"] == "the prompt names nothing that the judge knows"


def test_the_judge_knows_diorama_s_films_alone() -> None:
    shots = [shot("a red boat", 0)]
    assert can_judge("diorama", (384, 256), FPS, shots)
    assert not can_judge("opensora-v1.2", (384, 256), FPS, shots)
    assert can_judge("diorama", (192, 128), FPS, shots)
    assert not can_judge("diorama", (424, 240), FPS, shots)
    assert not can_judge("diorama", (384, 256), Fraction(24), shots)
    assert not can_judge("diorama", (384, 256), FPS, [shot("", 0)])
