"""The figures of diorama's strength, each on numbers that can be counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from longvid.backends.diorama.captions import VALUES, Spec
from longvid.evaluation.band import band
from longvid.training import figures
from longvid.training.figures import EMPTY, Followed

NOTHING: Spec = dict.fromkeys(VALUES)


def followed(said: Spec, *clips: Spec, change: float = 1, world: float = 1) -> Followed:
    return Followed(NOTHING | said, [NOTHING | clip for clip in clips], change, world)


def test_psnr_of_a_known_error() -> None:
    """Off by 5 of 255 everywhere, by 51 in the upper left quarter."""
    true = np.full((2, 4, 4, 3), 100, np.uint8)
    shown = true + np.uint8(5)
    counted = np.zeros((2, 4, 4), bool)
    counted[:, :2, :2] = True
    assert figures.psnr(shown, true) == pytest.approx(20 * np.log10(255 / 5))
    shown[counted] = 151
    assert figures.psnr(shown, true, counted) == pytest.approx(20 * np.log10(5))
    assert figures.psnr(shown, true) == pytest.approx(-10 * np.log10((0.25 * 51**2 + 0.75 * 5**2) / 255**2))
    assert figures.psnr(true, true) == 100


def test_a_prompt_is_followed_by_the_clips_that_show_what_it_names() -> None:
    boat = {"scene": 0, "shape": 1, "color": 0}
    one = followed(boat, boat, boat | {"color": 3}, {"scene": 0}, {"scene": 2, "shape": 1, "color": 0})
    assert one.shares == {"scene": 0.75, "shape": 0.75, "color": 0.5}


def test_of_no_object_none_is_to_be_seen() -> None:
    one = followed({"scene": 1}, {"scene": 1}, {"scene": 1, "shape": 0}, {"scene": 2})
    assert one.shares == {"scene": pytest.approx(2 / 3), EMPTY: pytest.approx(2 / 3)}


def test_shares_of_all_prompts_and_of_films_ends() -> None:
    """Of six prompts for three worlds, in two films, those first fail in a half and all of their clips; one
    names no time."""
    right, half, wrong = {"scene": 0, "time": 2}, {"scene": 0, "time": 0}, {"scene": 1, "time": 0}
    boat = {"shape": 1}
    films = [
        [
            followed(right | boat, right | boat, half | boat),
            followed({"scene": 0} | boat, right | boat),
            followed(right, right),
        ],
        [
            followed(right, wrong),
            followed(right | boat, right | boat),
            followed(right | boat, right),
        ],
    ]
    found = figures.measure_following(films)
    scene, time, shape = (found["attributes"][name] for name in ("scene", "time", "shape"))
    assert (scene["share"], scene["prompts"]) == (pytest.approx(5 / 6), 6)
    assert (scene["first"], scene["last"]) == (0.5, 1)
    assert (time["share"], time["prompts"]) == (pytest.approx(3.5 / 5), 5)
    assert (time["first"], time["last"]) == (0.25, 1)
    assert (shape["share"], shape["prompts"], shape["first"], shape["last"]) == (0.75, 4, 1, 0)
    assert (scene["low"], scene["high"]) == figures.interval(scene["share"], 3)
    assert (time["low"], time["high"]) == figures.interval(time["share"], 3)
    assert (shape["low"], shape["high"]) == figures.interval(0.75, 2)
    empty = found["attributes"][EMPTY]
    assert (empty["share"], empty["prompts"], empty["first"], empty["last"]) == (1, 2, 1, 1)
    assert (empty["low"], empty["high"]) == figures.interval(1, 1)
    assert found["attributes"]["camera"]["share"] is None
    # By the mean of what each names: first (1 + 1/2 + 1) / 3 and 1/3, last 1 and 2/3; one pair.
    over = found["last_over_first"]
    assert (over["mean"], over["films"]) == (pytest.approx((1 - 5 / 6 + 2 / 3 - 1 / 3) / 2), 1)


def test_films_ends_are_told_by_what_both_prompts_for_a_world_name() -> None:
    """One of the two names the count, and is not followed in it."""
    bare, counted = {"scene": 0}, {"scene": 0, "count": 1}
    films = [[followed(counted, bare), followed(bare, bare)], [followed(bare, bare), followed(bare, bare)]]
    found = figures.measure_following(films)
    count = found["attributes"]["count"]
    assert (count["share"], count["prompts"], count["first"], count["last"]) == (0, 1, None, None)
    assert (count["low"], count["high"]) == figures.interval(0, 1)
    assert found["last_over_first"]["mean"] == 0


def test_a_pair_of_films_is_one_value_of_the_band() -> None:
    """Rises of 1 and 0, 0 and 0: means of pairs 1/2 and 0."""
    up = [followed({"shape": 0}, {"shape": 1}), followed({"shape": 0}, {"shape": 0})]
    even = [up[1], up[1]]
    expected = band([0.5, 0.0])
    assert expected is not None
    over = figures.measure_following([up, even, even, even])["last_over_first"]
    assert over == {"mean": 0.25, "low": expected.low, "high": expected.high, "films": 2}


def test_wilson_s_interval() -> None:
    """Solutions of (share - p)^2 = z^2 p (1 - p) / n."""
    for share, trials in ((0.5, 4), (0.9, 30), (1.0, 36), (0.0, 5)):
        for end in figures.interval(share, trials):
            assert (share - end) ** 2 == pytest.approx(figures.CERTAIN**2 * end * (1 - end) / trials)
    assert figures.interval(1.0, 36) == (pytest.approx(36 / (36 + figures.CERTAIN**2)), 1)
    assert figures.interval(0.0, 5)[0] == 0


def test_motion_over_the_world_s() -> None:
    """Still rain beside a balloon that moves as the world's does: by film, and by weather."""
    clear, rain = ({"weather": list(VALUES["weather"]).index(name)} for name in ("clear", "rain"))
    films = [
        [followed(clear, change=2, world=2), followed(rain, change=1, world=4)],
        [followed(clear, change=1, world=1), followed(clear, change=4, world=5)],
    ]
    assert figures.measure_motion(films) == {
        "all": pytest.approx(8 / 12),
        "films": [0.5, pytest.approx(5 / 6)],
        "weather": {"clear": pytest.approx(7 / 8), "rain": 0.25},
    }


def test_of_a_world_that_stands_still_no_motion_is_told() -> None:
    still = [followed({"weather": 0}, change=2, world=0)]
    assert figures.measure_motion([still, still]) == {
        "all": None,
        "films": [None] * 2,
        "weather": {"clear": None},
    }


def test_drift_is_beyond_the_first_minute_s_spread() -> None:
    """Windows of two frames: the first minute's are 1 to 6, of mean 3.5 and deviation sqrt(3.5)."""
    first = np.repeat(np.arange(1.0, 7.0), 2)
    reach = 2 * np.sqrt(3.5)
    later = [np.full(12, 3.5 + away) for away in (0.99 * reach, -1.01 * reach, 1.01 * reach, 0)]
    values = np.concatenate([first, *later, [100.0] * 11])  # of a minute that is not whole
    found = figures.measure_drift({"luma": values}, 2)["luma"]
    assert found["reach"] == pytest.approx(reach)
    assert found["minutes"] == pytest.approx(
        [3.5, 3.5 + 0.99 * reach, 3.5 - 1.01 * reach, 3.5 + 1.01 * reach, 3.5]
    )
    assert found["beyond"] == [2, 3]


def test_a_still_film_may_be_away_by_a_hundredth() -> None:
    still, near, far = (np.full(6, value) for value in (100.0, 100.9, 98.9))
    still[0] = np.nan  # of the first frame no change is known
    found = figures.measure_drift(
        {"change": np.concatenate([still.repeat(2)[1:], [100.0], near.repeat(2), far.repeat(2)])}, 2
    )
    assert found["change"]["beyond"] == [2] and found["change"]["reach"] == pytest.approx(1)


def report() -> dict[str, Any]:
    """Of a model that fades, and follows all but motion."""
    attribute = {"share": 0.962, "low": 0.9, "high": 0.99, "prompts": 72, "first": 1.0, "last": 0.95}
    none = {"share": None, "low": None, "high": None, "prompts": 0, "first": None, "last": None}
    attributes: dict[str, Any] = dict.fromkeys(VALUES, attribute)
    attributes |= {"motion": attribute | {"share": 0.6}, "camera": none, EMPTY: attribute}
    attributes |= {"count": attribute | {"first": None, "last": None}}
    quality = {"mean": 33.126, "worst": 25, "objects": 28.5}
    statistic = {"minutes": [1.0, 2.0], "reach": 0.5, "beyond": []}
    return {
        "films": 12,
        "codec": {
            "clips": 48,
            "psnr": {"plain": quality, "eased": quality | {"mean": 31.99}},
            "seams": {"world": 1.0, "plain": 1.3, "eased": 0.62},
        },
        "seams": {"latents": 0.7, "chunks": 1.16},
        "following": {
            "attributes": attributes,
            "last_over_first": {"mean": -0.02, "low": -0.051, "high": 0.01, "films": 6},
        },
        "judge": dict.fromkeys(VALUES, 0.99),
        "motion": {"all": 0.9, "films": [0.7, 1.1], "weather": {"clear": 0.8, "fog": 1.0}},
        "switches": [[1.9, 0.7], [1.2]],
        "drift": [
            {"statistics": {"luma": statistic, "change": statistic | {"beyond": [at]}}} for at in (0, 1)
        ],
        "compute": {"seconds": 29.44, "threads": 2},
    }


def test_the_card_says_what_was_measured_and_whether_it_is_enough() -> None:
    lines = figures.card(report()).splitlines()
    psnr = "PSNR of 48 held-out clips, mean / worst / inside objects' boxes"
    for line in (
        f"| codec: {psnr} | 33.13 / 25.00 / 28.50 dB | 32 dB | yes |",
        f"| the same, eased as films are: {psnr} | 31.99 / 25.00 / 28.50 dB | 32 dB | no |",
        "| seam ratio between latents, world's own clips / given back / eased | 1.00 / 1.30 / 0.62 "
        "| at most 1.15 | yes |",
        "| seam ratio of films before encoding, between latents / between chunks | 0.70 / 1.16 "
        "| at most 1.15 | no |",
        "| change from frame to frame over the world's, all films / each | 0.90 / 0.70 to 1.10 "
        "| 0.75 to 1.25 | no |",
        "| the same by weather | clear 0.80, fog 1.00 | 0.75 to 1.25 | yes |",
        "| change at a new prompt over the film's median, median / largest | 1.20 / 1.90 |  |  |",
        "| 2 films of ten minutes: statistics beyond their first minute's spread, in any minute / in the "
        "last | 2 / 1 of 4 (change) "
        "| none | no |",
        "| the last prompt over the first, over what every prompt names | -2.0 points (-5.1 to +1.0) "
        "| -3 points | yes |",
        "| 60 s of film (threads: 2) | 29.4 s of compute | 60 s | yes |",
        "| scene | 96.2 % | 90.0 % to 99.0 % | 72 | 99.0 % | 100.0 % | 95.0 % | 95.0 % | yes |",
        "| motion | 60.0 % | 90.0 % to 99.0 % | 72 | 99.0 % | 100.0 % | 95.0 % | 70.0 % | no |",
        "| count | 96.2 % | 90.0 % to 99.0 % | 72 | 99.0 % | - | - |  |  |",
        "| no object | 96.2 % | 90.0 % to 99.0 % | 72 | - | 100.0 % | 95.0 % |  |  |",
    ):
        assert line in lines
    assert not any(line.startswith("| camera") for line in lines), "nobody named it"


def test_what_could_not_be_measured_is_not_met() -> None:
    """No clip with an object, one latent, films and a world that stand still."""
    told = report()
    for quality in told["codec"]["psnr"].values():
        quality["objects"] = None
    told["codec"]["seams"] = dict.fromkeys(("world", "plain", "eased"))
    told["seams"] = {"latents": 0.7, "chunks": None}
    told["motion"] = {"all": None, "films": [None, 1.0], "weather": {"clear": 1.0, "fog": None}}
    told["switches"] = [[None]]
    lines = figures.card(told).splitlines()
    psnr = "PSNR of 48 held-out clips, mean / worst / inside objects' boxes"
    for line in (
        f"| codec: {psnr} | 33.13 / 25.00 / - dB | 32 dB | yes |",
        "| seam ratio between latents, world's own clips / given back / eased | - / - / - "
        "| at most 1.15 | no |",
        "| seam ratio of films before encoding, between latents / between chunks | 0.70 / - "
        "| at most 1.15 | no |",
        "| change from frame to frame over the world's, all films / each | - / 1.00 to 1.00 "
        "| 0.75 to 1.25 | no |",
        "| the same by weather | clear 1.00, fog - | 0.75 to 1.25 | no |",
        "| change at a new prompt over the film's median, median / largest | - / - |  |  |",
    ):
        assert line in lines
