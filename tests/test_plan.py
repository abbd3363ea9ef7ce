import json
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longvid.document import Source, parse
from longvid.errors import UserError
from longvid.plan import Overrides, RenderPlan, plan
from longvid.timeline import build
from tests.planning import PlanBackend
from tests.walking import enter_steps

PLANNED = PlanBackend()


def planned(shots: list[dict[str, Any]], backend: PlanBackend = PLANNED, **film: Any) -> RenderPlan:
    shots = [{"prompt": "abcdefghij"[index], **shot} for index, shot in enumerate(shots)]
    return plan(build({**film, "shots": shots}), backend)


def test_a_file_name_that_is_no_text_gives_a_title_that_is() -> None:
    film = build({"shots": [{"prompt": "a", "seconds": 2}]}, Source(name="folder/bad\udcff.yaml"))
    assert plan(film, PLANNED).title == "bad?"


def test_a_whole_plan() -> None:
    """20.5 s at 12 fps: a switch at 96, a border; a cut at 200; so a second run, of 46 frames."""
    made = planned(
        [
            {"seconds": 8},
            {"until": "200f", "blend_seconds": 4},
            {"seconds": "46f", "cut": True, "title": "End"},
        ],
        seed=7,
        title="Three",
    )
    assert (made.title, made.model, made.size, made.fps) == ("Three", "planned", (96, 64), 12)
    assert (made.seed, made.steps, made.window, made.method, made.solver) == (
        7,
        16,
        4,
        "progressive",
        "euler",
    )
    assert (made.scale, made.crf) == (4, 18)
    assert made.prompts == ("a", "b", "c")
    assert made.negatives == ("", "", "")
    assert made.runs == (13, 3)
    assert made.frames == 246
    assert [(s.first_unit, s.units, s.run, s.cut, s.blend_units) for s in made.shots] == [
        (0, 6, 0, False, 0),
        (6, 7, 0, False, 3),
        (13, 3, 1, True, 0),
    ]
    frames = [
        (s.requested_start_frame, s.start_frame, s.requested_end_frame, s.end_frame) for s in made.shots
    ]
    assert frames == [(0, 0, 96, 96), (96, 96, 200, 200), (200, 200, 246, 246)]
    assert [unit.frames for unit in made.units] == [16] * 12 + [8, 16, 16, 14]
    assert {unit.decoded_frames for unit in made.units} == {16}
    assert [unit.chunk for unit in made.units] == [*range(13), 0, 1, 2]
    assert [unit.index for unit in made.units] == list(range(16))
    assert [unit.mix for unit in made.units[5:10]] == [
        ((0, 1.0),),
        ((0, 0.75), (1, 0.25)),
        ((0, 0.5), (1, 0.5)),
        ((0, 0.25), (1, 0.75)),
        ((1, 1.0),),
    ]
    # enter(15) + S: the first run's 13 units and its drain, then three units and theirs.
    assert made.evaluations == 12 * 4 + 16 + 2 * 4 + 16 == 88
    assert made.evaluations == enter_steps("progressive", made.runs, 16, 4)[-1] + 16
    assert [shot.evaluations for shot in made.shots] == [24, 40, 24]
    assert made.network_calls == 176
    # Windows of n units are n latent chunks of 4, with a clean one in front once a unit is finished.
    # First run: 4 steps each of 1, 2, 3, 4 units; 36 of 4 behind a clean one; 4 each of 3, 2, 1 behind one.
    # Second run: 4, 4 and 8 steps of 1, 2, 3 units; 4 each of 2, 1 behind a clean one. All twice: guidance.
    assert made.calls_by_latents == ((4, 16), (8, 32), (12, 40), (16, 16), (20, 72))


def test_switches_snap_and_the_end_is_exact() -> None:
    made = planned([{"until": 10}, {"until": 20}, {"until": "250f"}])
    assert [shot.units for shot in made.shots] == [7, 8, 1]
    assert [(shot.start_frame, shot.end_frame) for shot in made.shots] == [(0, 112), (112, 240), (240, 250)]
    assert [shot.requested_end_frame for shot in made.shots] == [120, 240, 250]
    assert made.units[-1].frames == 10


def test_a_run_counts_its_borders_from_its_cut() -> None:
    made = planned([{"until": "20f"}, {"until": "60f", "cut": True}, {"until": "84f"}])
    assert made.runs == (2, 4)
    assert [(shot.start_frame, shot.end_frame) for shot in made.shots] == [(0, 20), (20, 52), (52, 84)]
    assert [unit.frames for unit in made.units] == [16, 4, 16, 16, 16, 16]


def test_a_first_chunk_may_be_shorter() -> None:
    made = planned(
        [{"seconds": 1}, {"seconds": 1, "cut": True}], PLANNED.but(first_chunk_frames=5, chunk_frames=8)
    )
    assert [unit.decoded_frames for unit in made.units] == [5, 8, 5, 8]
    assert [unit.frames for unit in made.units] == [5, 7, 5, 7]


def test_a_cut_on_the_first_shot_changes_nothing() -> None:
    assert planned([{"seconds": 2, "cut": True}]) == planned([{"seconds": 2}])


def test_seeds_are_the_shots_then_the_flags_then_the_films() -> None:
    film = build(
        {"seed": 3, "shots": [{"prompt": "a", "seconds": 2}, {"prompt": "b", "seconds": 2, "seed": 11}]}
    )
    assert [unit.seed for unit in plan(film, PLANNED).units] == [3, 11, 11]
    assert [unit.seed for unit in plan(film, PLANNED, Overrides(seed=5)).units] == [5, 11, 11]
    assert plan(film, PLANNED, Overrides(seed=0)).seed == 0
    assert planned([{"seconds": 2}]).seed == 0


def test_style_and_negatives_and_shared_prompts() -> None:
    made = planned(
        [
            {"prompt": "a boat", "seconds": 2},
            {"prompt": "a boat", "seconds": 2, "negative": "rain"},
            {"prompt": "a boat", "seconds": 2, "negative": ""},
            {"prompt": "a boat", "seconds": 2, "blend_seconds": 1},
        ],
        style="soft light",
        negative="blur",
    )
    assert made.prompts == ("a boat, soft light",) * 3
    assert made.negatives == ("", "blur", "rain")
    assert {shot.prompt for shot in made.shots} == {"a boat"}
    # From "" to "blur" over one chunk.
    assert made.units[made.shots[3].first_unit].mix == ((0, 0.5), (1, 0.5))


def test_a_blend_between_equal_prompts_is_one_prompt() -> None:
    made = planned(
        [{"prompt": "a", "seconds": 4}, {"prompt": "a", "seconds": 4, "blend_seconds": 4, "guidance": 8}]
    )
    assert {unit.mix for unit in made.units} == {((0, 1.0),)}
    assert [unit.guidance for unit in made.units] == [2, 2, 2, 3.5, 5, 6.5]


def test_guidance_is_the_flags_then_the_shots_then_the_films_then_the_models() -> None:
    shots = [{"prompt": "a", "seconds": 2}, {"prompt": "b", "seconds": 2, "guidance": 6}]
    film = build({"guidance": 3, "shots": shots})
    assert [shot.guidance for shot in plan(film, PLANNED).shots] == [3, 6]
    assert [shot.guidance for shot in plan(film, PLANNED, Overrides(guidance=1)).shots] == [1, 1]
    assert [shot.guidance for shot in plan(build({"shots": shots}), PLANNED).shots] == [2, 6]


def test_guidance_one_costs_one_call() -> None:
    assert planned([{"seconds": 8}], guidance=1).network_calls == planned([{"seconds": 8}]).network_calls // 2
    # A window with any other unit in it, the clean one in front included, costs two calls.
    made = planned([{"seconds": "64f", "guidance": 1}, {"seconds": "16f", "guidance": 6}])
    assert made.runs == (5,)
    assert made.evaluations == 32
    assert made.network_calls == 32 + 16


def test_overrides_go_before_the_timeline() -> None:
    film = build({"steps": 8, "method": "progressive", "shots": [{"prompt": "a", "seconds": 2}]})
    assert plan(film, PLANNED).steps == 8
    assert plan(film, PLANNED, Overrides(steps=32, solver="ab2")).steps == 32
    assert plan(film, PLANNED, Overrides(solver="ab2")).solver == "ab2"
    assert plan(film, PLANNED, Overrides(draft=True)).steps == 4


@pytest.mark.parametrize(
    ("steps", "window", "draft"), [(16, 4, 8), (20, 4, 8), (4, 4, 4), (30, 5, 15), (7, 7, 7)]
)
def test_a_draft_takes_half_the_steps(steps: int, window: int, draft: int) -> None:
    film = build({"steps": steps, "window": window, "shots": [{"prompt": "a", "seconds": 2}]})
    assert plan(film, PLANNED, Overrides(draft=True)).steps == draft


def test_the_films_picture() -> None:
    assert planned([{"seconds": 2}], size=[192, 128]).scale == 2
    assert planned([{"seconds": 2}], size=[192, 128], output={"scale": 3}).scale == 3
    assert planned([{"seconds": 2}], PLANNED.but(output_width_px=90)).scale == 1
    assert planned([{"seconds": 2}], PLANNED.but(output_width_px=97)).scale == 2
    assert planned([{"seconds": 2}], PLANNED.but(any_size=True), size=[104, 8]).size == (104, 8)


def test_unknown_words_are_named_once() -> None:
    made = planned([{"prompt": "a zzcat, zzdog, zzcat", "seconds": 2, "negative": "zzfog"}], style="zzoil")
    assert made.shots[0].unknown_words == ("zzcat", "zzdog", "zzoil", "zzfog")


def test_effective_values_and_their_hash() -> None:
    made = planned([{"seconds": 2}], fps="30000/2001", model_options={"gain": 2})
    values = made.effective()
    assert json.loads(json.dumps(values)) == values
    assert (values["fps"], values["model_options"]) == ("10000/667", {"gain": 2})
    assert len(values["sha256"]) == 64
    again = planned([{"seconds": 2}], fps="10000/667", model_options={"gain": 2})
    assert again.effective() == values
    assert replace(made, seed=1).effective()["sha256"] != values["sha256"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fps: 30", "f.yaml:1: fps: planned does not run at 30 frames a second; nearest: 24"),
        ("fps: 5.99", "f.yaml:1: fps: planned does not run at 5.99 frames a second; nearest: 6"),
        ("size: [100, 60]", "f.yaml:1: size: planned has no size [100, 60]; nearest: [96, 64]"),
        ("output: {scale: 16}\nsize: [192, 128]", None),
        (
            "steps: 15",
            "f.yaml:1: steps: 15 steps are no multiple of the window's 4 chunks; nearest: 12 or 16",
        ),
        ("steps: 3", "f.yaml:1: steps: 3 steps are no multiple of the window's 4 chunks; nearest: 4"),
        (
            "window: 5",
            "f.yaml:1: window: 16 steps are no multiple of the window's 5 chunks; nearest: 15 or 20",
        ),
        ("method: progresive", "f.yaml:1: method: no method 'progresive'; did you mean progressive?"),
        (
            "method: magic",
            "f.yaml:1: method: no method 'magic'; "
            "there is: progressive, replace, replace-noised, fifo, chained",
        ),
        ("model_options: {gian: 2}", "f.yaml:1: model_options.gian: unknown; known: gain"),
        ("model_options:\n  gain: 2\n  gian: 2", "f.yaml:3: model_options.gian: unknown; known: gain"),
    ],
)
def test_what_the_model_cannot_do(text: str, message: str | None) -> None:
    film = build(*parse(f"{text}\nshots: [{{prompt: a, seconds: 2}}]", "f.yaml"))
    if message is None:
        assert plan(film, PLANNED).scale == 16
        return
    with pytest.raises(UserError) as error:
        plan(film, PLANNED)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("changes", "film", "message"),
    [
        (
            {"any_size": True},
            {"size": [100, 61]},
            "size: sides must be multiples of 8 pixels; nearest: [104, 64]",
        ),
        (
            {"any_size": True},
            {"size": [3, 64]},
            "size: sides must be multiples of 8 pixels; nearest: [8, 64]",
        ),
        (
            {"any_size": True},
            {"size": [4096, 64], "output": {"scale": 3}},
            "output.scale: makes 12288x192 pixels, at most 8192; nearest scale: 2",
        ),
        (
            {"sizes": ((97, 65),)},
            {"size": [97, 65], "output": {"scale": 3}},
            "output.scale: makes 291x195 pixels, H.264 needs even sides; nearest scale: 4",
        ),
        (
            {"sizes": ((401, 65),)},
            {},
            "size: makes 401x65 pixels, H.264 needs even sides; nearest scale: 2",
        ),
        (
            {"sizes": ((8191, 64),)},
            {},
            "size: makes 8191x64 pixels, H.264 needs even sides; choose another `size`",
        ),
    ],
)
def test_sizes_that_cannot_be(changes: dict[str, Any], film: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        planned([{"seconds": 2}], PLANNED.but(**changes), **film)
    assert str(error.value) == f"timeline: {message}"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (Overrides(seed=-1), "--seed: -1 is out of range; 0 to 9223372036854775807"),
        (Overrides(steps=0), "--steps: 0 is out of range; 1 to 1000"),
        (
            Overrides(steps=15),
            "--steps: 15 steps are no multiple of the window's 4 chunks; nearest: 12 or 16",
        ),
        (Overrides(guidance=float("nan")), "--guidance: nan is out of range; 0 to 100"),
        (Overrides(guidance=float("inf")), "--guidance: inf is out of range; 0 to 100"),
        (Overrides(guidance=-1), "--guidance: -1 is out of range; 0 to 100"),
        (Overrides(method="progressiv"), "--method: no method 'progressiv'; did you mean progressive?"),
        (Overrides(draft=True, steps=8), "--draft: chooses the steps itself; leave out --draft or --steps"),
    ],
)
def test_flags_that_cannot_be(overrides: Overrides, message: str) -> None:
    with pytest.raises(UserError) as error:
        plan(build({"shots": [{"prompt": "a", "seconds": 2}]}), PLANNED, overrides)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("shots", "message"),
    [
        (
            [{"seconds": 4}, {"seconds": 2, "blend_seconds": 9}],
            "shots[1].blend_seconds: 9 s is longer than the shot (2 s); at most 2 s",
        ),
        (
            [{"seconds": 4}, {"seconds": "20f", "blend_seconds": 9}],
            "shots[1].blend_seconds: 9 s is longer than the shot (1.667 s); at most 1.666 s",
        ),
        (
            [{"seconds": 4, "blend_seconds": 1}],
            "shots[0].blend_seconds: the first shot has nothing to blend from; leave it out",
        ),
        (
            [{"seconds": 4}, {"seconds": 4, "cut": True, "blend_seconds": 1}],
            "shots[1].blend_seconds: a cut does not blend; leave out `blend_seconds` or `cut`",
        ),
        (
            [{"seconds": 4}, {"seconds": 0.5}, {"seconds": 4}],
            "shots[1].seconds: 0.5 s is too short to hold one of the model's chunks; at least 16f (1.333 s)",
        ),
        (
            [{"seconds": "47f"}, {"until": 4}],
            "shots[1].until: 0.083 s is too short to hold one of the model's chunks; at least 16f (1.333 s)",
        ),
    ],
)
def test_shots_that_cannot_be(shots: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UserError) as error:
        planned(shots)
    assert str(error.value) == f"timeline: {message}"


def test_a_blend_as_long_as_its_shot_fits_into_the_chunks_it_gets() -> None:
    """2 s are 1.5 chunks: the blend rounds to two, the shot snaps to one."""
    made = planned([{"until": "30f"}, {"until": "54f", "blend_seconds": 2}, {"until": "80f"}])
    assert [(shot.units, shot.blend_units) for shot in made.shots] == [(2, 0), (1, 1), (2, 0)]
    assert [unit.mix for unit in made.units] == [((0, 1.0),)] * 2 + [((0, 0.5), (1, 0.5))] + [((2, 1.0),)] * 2


@pytest.mark.parametrize(
    ("blend", "units"), [(0, 0), ("1f", 1), ("16f", 1), ("23f", 1), ("24f", 2), ("40f", 3)]
)
def test_a_blend_covers_whole_chunks(blend: object, units: int) -> None:
    assert planned([{"seconds": 4}, {"seconds": 8, "blend_seconds": blend}]).shots[1].blend_units == units


def test_no_blend_is_no_blend_anywhere() -> None:
    made = planned([{"seconds": 4, "blend_seconds": 0}, {"seconds": 4, "cut": True, "blend_seconds": 0}])
    assert [shot.blend_units for shot in made.shots] == [0, 0]


shots = st.lists(
    st.fixed_dictionaries(
        {
            "seconds": st.fractions(min_value=Fraction(4, 3), max_value=9, max_denominator=1000),
            "cut": st.booleans(),
        },
        optional={"guidance": st.sampled_from([1, 4]), "seed": st.integers(0, 3)},
    ),
    min_size=1,
    max_size=8,
)


@settings(deadline=None)
@given(shots, st.sampled_from([1, 2, 4]), st.booleans())
def test_a_plan_tiles_its_film(drawn: list[dict[str, Any]], window: int, blend: bool) -> None:
    if blend:
        drawn = [
            shot if shot["cut"] or index == 0 else {**shot, "blend_seconds": 1}
            for index, shot in enumerate(drawn)
        ]
    made = planned(drawn, window=window)
    assert sum(unit.frames for unit in made.units) == made.frames == made.shots[-1].end_frame
    assert sum(made.runs) == len(made.units)
    borders = list(accumulate((unit.frames for unit in made.units), initial=0))
    for shot in made.shots:
        assert shot.units >= 1
        assert shot.start_frame == borders[shot.first_unit]
        assert shot.end_frame == borders[shot.first_unit + shot.units]
        assert shot.blend_units <= shot.units
        exact = shot.index == 0 or shot.cut
        assert abs(shot.start_frame - shot.requested_start_frame) <= (0 if exact else 8)
    for unit in made.units:
        assert sum(weight for _, weight in unit.mix) == 1
        last_of_run = unit.index + 1 == len(made.units) or made.units[unit.index + 1].chunk == 0
        assert 0 < unit.frames <= unit.decoded_frames
        assert last_of_run or unit.frames == unit.decoded_frames
    assert made.evaluations == enter_steps("progressive", made.runs, made.steps, window)[-1] + made.steps
    assert sum(shot.evaluations for shot in made.shots) == made.evaluations
    assert made.evaluations <= made.network_calls <= 2 * made.evaluations
