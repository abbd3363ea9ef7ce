import json
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longvid.document import parse
from longvid.errors import UserError
from longvid.spans import spans
from longvid.timeline import build
from tests.importing import BY_FRAME, manuscript, planned, shots


def schedule(*frames: int | str) -> str:
    lines = (f'"{frame}" :"scene {letter}"' for frame, letter in zip(frames, "abcdefghijk", strict=False))
    return ",\n".join(lines)


def workflow(text: str, **inputs: Any) -> str:
    node = {"class_type": "BatchPromptSchedule", "inputs": {"text": text, "clip": ["4", 1], **inputs}}
    return json.dumps({"3": {"class_type": "KSampler", "inputs": {"seed": 1}}, "7": node})


def test_the_frames_that_the_node_begins_with() -> None:
    """Every 12 frames to the 120th, of 120: what stands at 120 is what the film fades into."""
    made = planned(schedule(*range(0, 121, 12)), fps=12, seconds="120f")
    assert made.frames == 120
    assert [(shot.start_frame, shot.end_frame) for shot in made.shots] == [
        (0, 6),
        (6, 12),
        *((frame, frame + 12) for frame in range(12, 120, 12)),
    ]
    assert [shot.prompt[-1] for shot in made.shots] == list("abcdefghijk")
    # The first fade in half the time, the others over their whole shot: each is done at its keyframe.
    assert [shot.blend_units for shot in made.shots] == [0, 6, *[12] * 9]


def test_the_mix_is_the_node_s() -> None:
    """Between keyframes the node's weight rises in a straight line; a blend's steps stay on it."""
    keys = [0, 48, 96, 160]
    made = planned(
        schedule(*keys), fps=12, seconds="200f", backend=BY_FRAME.but(chunk_frames=8, first_chunk_frames=8)
    )
    for unit in made.units:
        middle = 8 * unit.index + 4
        at = max(index for index, key in enumerate(keys) if key <= middle)
        if not at:
            continue  # the first fade begins late: a prompt alone at frame 0 is no shot
        there = min(at + 1, len(keys) - 1)
        span = keys[there] - keys[at]
        weight = (middle - keys[at]) / span if span else 1.0
        mix = dict(unit.mix)
        assert mix.get(there, 0.0) == pytest.approx(weight, abs=0.06)
        assert sum(mix.values()) == pytest.approx(1)


def test_what_is_said_twice_holds() -> None:
    text = '"0" :"dawn",\n"24" :"dawn",\n"36" :"night",\n"72" :"night",\n"84" :"dawn",\n'
    made = planned(text, fps=12, seconds="120f")
    assert shots(made) == [(0, 24, "dawn"), (24, 72, "night"), (72, 120, "dawn")]
    assert [shot.blend_units for shot in made.shots] == [0, 12, 12]
    assert manuscript(text, fps=12, seconds="120f").text == (
        "# From FizzNodes: wonder.txt, by `longvid import`.\n"
        "# Differs from it:\n"
        "# - prompts fade from keyframe to keyframe: a shot begins where its fade does, and `blend_seconds`\n"
        "#   lasts to its keyframe\n"
        "\n"
        "fps: 12\n"
        "\n"
        "shots:\n"
        "  - at: 0\n"
        "    prompt: dawn\n"
        "\n"
        "  - at: 2                  # frame 24\n"
        "    prompt: night\n"
        "    blend_seconds: 1       # 12 frames\n"
        "\n"
        "  - at: 6                  # frame 72\n"
        "    prompt: dawn\n"
        "    blend_seconds: 1       # 12 frames\n"
        "    until: 10              # frame 120\n"
    )


def test_frames_without_a_rate_stay_frames() -> None:
    made = manuscript('"0" :"a boat",\n"24" :"a storm"', seconds="48f")
    assert "  - at: 12f\n    prompt: a storm\n    blend_seconds: 12f\n    until: 48f\n" in made.text
    assert made.notes[0] == "FizzNodes knows no rate: the frames count at the model's; --fps sets one"


def test_a_film_that_ends_within_a_fade() -> None:
    made = planned(schedule(0, 40, 60, 200), fps=12, seconds="140f")
    assert shots(made) == [(0, 20, "scene a"), (20, 40, "scene b"), (40, 60, "scene c"), (60, 140, "scene d")]
    assert [shot.blend_units for shot in made.shots] == [0, 20, 20, 80]
    assert shots(planned(schedule(0, 40, 60, 200), fps=12, seconds="130f"))[-1] == (40, 130, "scene c")
    assert shots(planned(schedule(0, 1000), fps=12, seconds="100f")) == [(0, 100, "scene a")]
    notes = manuscript(schedule(0, 40, 60, 200), fps=12, seconds="130f").notes
    assert "line 4: the film ends at frame 130, before this prompt is half there: left out" in notes


def test_a_fade_of_one_frame_is_a_switch() -> None:
    made = planned('"0" :"a", "47" :"a", "48" :"b"', fps=12, seconds="96f")
    assert shots(made) == [(0, 47, "a"), (47, 96, "b")]
    assert shots(planned('"0" :"a", "1" :"b"', fps=12, seconds="24f")) == [(0, 1, "a"), (1, 24, "b")]


def test_a_workflow_with_words_around_every_prompt() -> None:
    text = '"0" :"a boat",\n"max_f/2" :"a (storm:1.3) --neg calm",\n'
    saved = workflow(text, max_frames=120, pre_text="oil, --neg photo", app_text="4k")
    made = planned(saved, fps=12)
    assert shots(made) == [(0, 30, "a boat"), (30, 120, "a storm")]
    assert made.prompts == ("a boat, oil, 4k", "a storm, oil, 4k")
    assert made.negatives == ("photo", "calm, photo")
    # max_f is the number of frames here, 120.
    assert "line 2: the frame 'max_f/2' is 60 here: a timeline does not calculate" in manuscript(saved).notes


def test_inputs_that_come_from_other_nodes() -> None:
    saved = workflow('"0" :"a", "48" :"b"', max_frames=["5", 0], pre_text=["6", 0], app_text="")
    made = manuscript(saved, fps=12)
    assert "pre_text comes from another node: left out" in made.notes
    assert planned(saved, fps=12).frames == 96


def test_braces_and_weights() -> None:
    made = planned('{"0" :"a (((hare))) `t`",\n}', "fizznodes", fps=12)
    assert shots(made) == [(0, 60, "a hare")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"0" :"a boat"\n"24" :"a storm"', ":2: is not JSON: a comma is missing"),
        ('0 :"a boat",\n"24" :"a storm"', ":1: is not JSON: a key must stand in double quotes"),
        ("0:(0),\n12:(0.5)", ":1: is not JSON: a key must stand in double quotes"),
        ('"0" :"a boat",\n"24" :"",', ":2: frame 24 has no prompt; write what is seen from there on"),
        ('"0" :"a boat",\n"max_f/2" :"b"', ":2: 'max_f/2' counts from the film's length"),
        (workflow('"0" :"a"', app_text=3), ": node 7: app_text: 3 is not text"),
        (
            json.dumps(
                {key: {"class_type": "PromptSchedule", "inputs": {"text": '"0" :"a"'}} for key in "12"}
            ),
            ": holds several prompt schedules (nodes 1, 2); save the text of one",
        ),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        manuscript(text)
    error = str(caught.value)
    assert error[error.index("wonder.txt") + len("wonder.txt") :].startswith(message)


@settings(deadline=None)
@given(st.sets(st.integers(2, 5000), min_size=1, max_size=12), st.integers(1, 500))
def test_every_fade_ends_at_its_keyframe(frames: set[int], rest: int) -> None:
    keys = sorted(frames)
    text = ",".join(f'"{frame}" :"scene {frame}"' for frame in [0, *keys])
    film = build(*parse(manuscript(text, fps=12, seconds=f"{keys[-1] + rest}f").text))
    found = spans(film, Fraction(12))
    reached = [
        span.start_frame + (shot.blend_seconds.seconds(Fraction(12)) * 12 if shot.blend_seconds else 0)
        for span, shot in zip(found, film.shots, strict=True)
    ]
    assert reached == [0, *keys]
    assert [span.start_frame for span in found] == [0, keys[0] // 2, *keys[:-1]]
    assert found[-1].end_frame == keys[-1] + rest
