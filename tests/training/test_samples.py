"""Sample films: what their prompts say, and the measure of how they flow."""

from __future__ import annotations

import numpy as np

from longvid.backends.diorama import captions
from longvid.training import samples


def test_prompts_name_what_is_counted() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        prompt = samples.draw_prompt(rng)
        assert captions.unknown_words(prompt) == []
        for name in samples.COUNTED:
            assert any(phrase in prompt for group in captions.VALUES[name].values() for phrase in group)


def test_flow_is_the_switch_over_the_median() -> None:
    """Frames differ by 2; by 5 at the first switch, by 3 at the second, by 8 a second later."""
    steps = np.full(3 * 80 - 1, 2)
    steps[[79, 159, 171]] = 5, 3, 8
    brightness = [np.full((4, 6, 3), 0, np.uint8)]
    for step in steps:  # bounce between dark and bright, so that no sum overflows
        last = int(brightness[-1][0, 0, 0])
        brightness.append(np.full((4, 6, 3), last + step if last < 100 else last - step, np.uint8))
    assert samples.flow(brightness) == {"at_switch": 2.5, "after_switch": 4.0, "median_difference": 2.0}
