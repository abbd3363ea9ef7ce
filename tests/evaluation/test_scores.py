from dataclasses import replace

import numpy as np
import pytest

from longvid.evaluation.provenance import Cost, Provenance, Shot
from longvid.evaluation.scores import as_json, score
from tests.evaluation.pictures import FPS, signals

ONE = Provenance((Shot("a boat", 0, 0, 240, cut=False),), tuple(range(16, 240, 16)), 16)
TWO = Provenance(
    (Shot("a boat", 0, 0, 120, cut=False), Shot("the sea", 118, 120, 240, cut=False, blend_frames=24))
)


def test_what_cannot_be_known_is_none() -> None:
    found = as_json(score(signals(240), Provenance((Shot("", 0, 0, 240, cut=False),))), FPS)
    unknown = {name for name, value in found.items() if value is None}
    assert unknown == {
        *("scenes", "cuts_seconds", "planned_cuts_found_seconds", "motion", "flicker_at_chunk_period"),
        *(
            "seam_ratio",
            "seam_ratio_compensated",
            "seam_ratio_latents",
            "switch_latency_seconds",
            "consistency",
        ),
        *("consistency_in_clip", "consistency_between_clips", "evaluations_per_second"),
        *("compute_seconds_per_second", "clip_score", "clip_margin", "clip_by_shot"),
    }
    assert found["flicker"] == pytest.approx(254 / 255)


def test_seams_and_flicker_leave_out_what_was_planned() -> None:
    change = np.r_[np.nan, np.full(239, 2.0)]
    change[list(ONE.borders or ())] = 3
    change[112] = 200
    shots = (Shot("a", 0, 0, 112, cut=False), Shot("b", 112, 112, 240, cut=False))
    made = Provenance(shots, ONE.borders, 16)
    found = score(signals(240, change=change, compensated_change=change / 2), made)
    assert (found.seam_ratio, found.seam_ratio_compensated) == (1.5, 1.5)
    assert found.flicker == pytest.approx((255 - (13 * 3 + 225 * 2) / 238) / 255, abs=1e-4)
    assert found.flicker_at_period is not None and found.flicker_at_period > 100


def test_a_codecs_own_period_is_no_seam() -> None:
    change = np.r_[np.nan, np.full(239, 3.0)]
    change[4::4] = 1.5
    made = replace(ONE, latent_frames=4)
    found = score(signals(240, change=change), made)
    assert (found.seam_ratio, found.seam_ratio_latents) == (0.5, 1)
    change[list(ONE.borders or ())] = 2.25
    found = score(signals(240, change=change), made)
    assert (found.seam_ratio, found.seam_ratio_latents) == (0.75, 1.5)
    assert score(signals(240, change=change), ONE).seam_ratio_latents is None


def test_drift_is_measured_inside_shots_behind_their_blends() -> None:
    luma = np.r_[np.full(120, 50.0), np.linspace(50, 200, 24), np.full(48, 200.0), np.full(48, 206.0)]
    found = score(signals(240, appearance={"luma": luma}), TWO)
    assert found.drift == {"luma": 3}, "0 in the first, 6 in the second"
    slope = found.drift_per_minute["luma"]
    assert slope is not None and slope > 0


def test_cuts_are_sorted_by_what_was_planned() -> None:
    shots = (Shot("a", 0, 0, 120, cut=False), Shot("b", 120, 120, 240, cut=True))
    found = as_json(score(signals(240, cuts=(60, 121)), Provenance(shots)), FPS)
    assert (found["scenes"], found["cuts_seconds"]) == (2, [5.0])
    assert found["planned_cuts_found_seconds"] == [121 / 12]
    assert found["curves"]["cuts"] == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert found["switches"] == [], "a cut is no switch that flows"


def test_a_switch_is_timed_from_when_it_was_asked_for() -> None:
    features = np.array([[1.0, 0]] * 22 + [[0.0, 1]] * 18, np.float32)
    found = as_json(score(signals(240, features=features), TWO), FPS)
    # The picture turns half way between the samples at 10.75 s and 11.25 s, shown for a frame each.
    assert found["switches"] == [
        {"at_seconds": pytest.approx(118 / 12), "latency_seconds": pytest.approx(11 + 1 / 24 - 118 / 12)}
    ]
    assert found["switch_latency_seconds"] == found["switches"][0]["latency_seconds"]


def test_consistency_is_of_clips_within_one_shot() -> None:
    # Samples of the first shot alternate between two vectors of cosine 0.6; those of the second are equal.
    first = [[1.0, 0, 0], [0.6, 0.8, 0]] * 10
    found = score(signals(240, features=np.array(first + [[0.0, 0, 1]] * 20, np.float32)), TWO)
    # Five clips in the first, four behind the blend in the second.
    assert found.consistency_in_clip == pytest.approx((5 * 0.6 + 4 * 1) / 9)
    assert found.consistency_between_clips == pytest.approx(1)
    assert found.consistency == pytest.approx((found.consistency_in_clip or 0) / 2 + 0.5)
    assert found.curves["consistency"] == pytest.approx([0.6] * 5 + [1] * 5)


def test_curves_have_a_value_for_each_clip() -> None:
    change = np.r_[np.nan, np.repeat([1.0, 3.0], 120)[1:]]
    change[list(ONE.borders or ())] *= 2
    motion = np.r_[np.nan, np.arange(1, 240) / 240]
    found = score(signals(240, change=change, motion=motion), ONE)
    assert {name: len(curve) for name, curve in found.curves.items()} == {
        name: 10 for name in ("flicker", "motion", "luma", "seam_ratio")
    }
    assert found.curves["seam_ratio"][1:] == [2] * 9
    assert found.curves["motion"][1] == pytest.approx(np.arange(24, 48).mean() / 240)
    assert found.motion == pytest.approx(np.nanmean(motion), abs=0.003)


def test_a_film_that_ends_before_its_plan() -> None:
    found = score(signals(200), TWO)
    assert found.drift == {"luma": 0}


def test_cost_is_passed_on() -> None:
    made = Provenance(ONE.shots, cost=Cost(3.5, 0.25))
    found = as_json(score(signals(240), made), FPS)
    assert (found["evaluations_per_second"], found["compute_seconds_per_second"]) == (3.5, 0.25)
