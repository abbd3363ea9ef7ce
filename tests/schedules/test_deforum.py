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
from tests.importing import manuscript, planned, shots


def schedule(*frames: int | str) -> dict[str, str]:
    return {str(frame): f"scene {letter}" for frame, letter in zip(frames, "abcdefghij", strict=False)}


def saved(prompts: dict[str, str], **settings: Any) -> str:
    return json.dumps({"W": 512, "H": 512, "prompts": prompts, **settings}, indent=4)


def test_the_settings_that_deforum_begins_with() -> None:
    """Four prompts 30 frames apart, 120 frames at 15 a second, negatives of the third and of all."""
    prompts = schedule(0, 30, 60, 90)
    prompts["60"] += " --neg photo, lifelike"
    text = saved(
        prompts,
        seed=1,
        animation_prompts_positive="",
        animation_prompts_negative="naked",
        animation_mode="2D",
        max_frames=120,
        fps=15,
    )
    made = planned(text)
    assert shots(made) == [
        (0, 30, "scene a"),
        (30, 60, "scene b"),
        (60, 90, "scene c"),
        (90, 120, "scene d"),
    ]
    assert (made.frames, made.fps, made.size, made.seed) == (120, 15, (512, 512), 1)
    assert made.prompts == ("scene a", "scene b", "scene c", "scene d")
    assert made.negatives == ("naked", "naked", "photo, lifelike, naked", "naked")
    assert [unit.mix for unit in made.units[29:31]] == [((0, 1.0),), ((1, 1.0),)]
    assert manuscript(text).text == (
        "# From Deforum: wonder.txt, by `longvid import`.\n"
        "\n"
        "size: [512, 512]\n"
        "seed: 1\n"
        "fps: 15\n"
        "negative: naked\n"
        "\n"
        "shots:\n"
        "  - at: 0\n"
        "    prompt: scene a\n"
        "\n"
        "  - at: 2                  # frame 30\n"
        "    prompt: scene b\n"
        "\n"
        "  - at: 4                  # frame 60\n"
        "    prompt: scene c\n"
        "    negative: photo, lifelike, naked\n"
        "\n"
        "  - at: 6                  # frame 90\n"
        "    prompt: scene d\n"
        "    until: 8               # frame 120\n"
    )


def test_frames_that_count_from_the_end() -> None:
    """max_f is the last frame, 119; a fraction is cut off: 24.75, 49.5, 74.25 and 99."""
    prompts = schedule(0, "max_f/4-5", "max_f/2-10", "3*max_f/4-15", "max_f-20")
    made = planned(saved(prompts, max_frames=120, fps=24))
    assert [start for start, _, _ in shots(made)] == [0, 24, 49, 74, 99]
    assert made.frames == 120
    note = "line 7: the frame 'max_f/2-10' is 49 here: a timeline does not calculate"
    assert note in manuscript(saved(prompts, max_frames=120, fps=24)).notes


def test_prompts_alone() -> None:
    text = '{"0": "a boat", "48": "a storm"}'
    assert shots(planned(text, fps=24, seconds=6)) == [(0, 48, "a boat"), (48, 144, "a storm")]
    assert shots(planned(text, seconds="100f")) == [(0, 48, "a boat"), (48, 100, "a storm")]
    assert "at: 48f\n" in manuscript(text).text
    assert manuscript(text).notes == (
        "the file says no rate: its frames count at the model's; --fps sets one",
        "the file does not say where the film ends: the last prompt lasts as long as the one before it; "
        "--seconds says it",
    )
    assert shots(planned(text))[-1] == (48, 96, "a storm")
    assert planned('{"0": "a boat"}', fps=24).frames == 120


def test_a_film_that_ends_before_its_prompts() -> None:
    text = saved(schedule(0, 30, 60, 90), max_frames=10, fps=20)
    assert shots(planned(text)) == [(0, 10, "scene a")]
    note = "lines 6, 7, 8: the film ends at frame 10, before this prompt: left out"
    assert note in manuscript(text).notes


def test_the_first_prompt_holds_from_0() -> None:
    text = '{"24": "a boat",\n "48": "a storm"}'
    assert shots(planned(text, fps=24, seconds=3)) == [(0, 48, "a boat"), (48, 72, "a storm")]
    assert "line 1: nothing stands at frame 0; the prompt of frame 24 holds from there" in (
        manuscript(text, fps=24, seconds=3).notes
    )


def test_frames_out_of_order_are_sorted_and_prompts_that_stay_are_one_shot() -> None:
    text = '{"0": "a", "60": "b", "30": "a", "90": "b", "99": "a"}'
    assert shots(planned(text, seconds="120f")) == [(0, 60, "a"), (60, 99, "b"), (99, 120, "a")]
    assert "the frames are not in order; they are sorted, as the tool does it" in manuscript(text).notes


def test_interpolation_fades() -> None:
    text = saved(schedule(0, 60, 120), animation_mode="Interpolation", max_frames=180, fps=12)
    made = planned(text)
    assert shots(made) == [(0, 30, "scene a"), (30, 60, "scene b"), (60, 180, "scene c")]
    assert [shot.blend_units for shot in made.shots] == [0, 30, 60]


def test_words_around_every_prompt() -> None:
    text = saved(
        {"0": "a boat", "24": "a storm --neg calm"},
        animation_prompts_positive="oil painting,",
        animation_prompts_negative="--neg blurry",
        max_frames=48,
        fps=12,
    )
    made = planned(text)
    assert made.prompts == ("a boat, oil painting", "a storm, oil painting")
    assert made.negatives == ("blurry", "calm, blurry")


def test_prompts_in_a_text_of_their_own() -> None:
    text = json.dumps({"animation_prompts": '{"0": "a", "12": "b"}', "max_frames": "24", "fps": 12.0})
    assert shots(planned(text)) == [(0, 12, "a"), (12, 24, "b")]


def test_what_is_not_carried_over() -> None:
    text = saved(
        {"0": "a <lora:ink:0.7> (hare:`where(cos(6.28*t/10)>0, 1.8, 0.1)`), (((snow))) AND frost:0.5"},
        max_frames=24,
        fps=12,
        seed=-1,
        zoom="0: (1.0025+0.002*sin(t))",
        angle="0:(0)",
        translation_z="0: (0), 12: (5)",
        steps=25,
        sampler="Euler a",
        use_init=True,
        init_image="start.png",
        add_soundtrack="File",
        soundtrack_path="song.mp3",
        parseq_manifest="{}",
    )
    made = manuscript(text)
    assert planned(text).shots[0].prompt == "a hare, snow, frost"
    assert "seed" not in made.text
    assert made.notes == (
        "line 5: LoRA tags such as <lora:name:1> are left out: longvid loads no LoRA",
        "line 5: expressions between backticks are left out: a prompt does not change from frame to frame",
        "line 5: AND between prompts became a comma: longvid does not compose prompts",
        "line 5: weights such as (word:1.2) or ((word)) are left out: the words stay",
        "the camera's schedules are left out (zoom, translation_z): say the movement in the prompts",
        "settings of Stable Diffusion's sampling are left out (steps, sampler)",
        "init_image 'start.png' is left out: `image` of a shot starts from one",
        "parseq_manifest is left out, with any prompts in it",
        "the soundtrack 'song.mp3' is left out: `output.music` adds one",
    )
    for note in made.notes:
        assert note.split(": ")[-1][:20] in made.text


def test_a_rate_that_is_no_whole_number() -> None:
    made = planned('{"prompts": {"0": "a", "100": "b"}, "fps": 23.976, "max_frames": 250}')
    assert (made.fps, made.frames, made.shots[1].start_frame) == (Fraction(23976, 1000), 250, 100)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"0": "a boat",\n "48": "a storm"',
            ":2: is not JSON: it ends too early; a quote or a brace is missing",
        ),
        ('{"0": "a boat",}', ":1: is not JSON: a comma before the last }; remove it"),
        ('{0: "a boat"}', ':1: is not JSON: a key must stand in double quotes, as in "48"'),
        ('{"0": "a boat",\n "48" "a storm"}', ":2: is not JSON: a colon is missing between a frame and its"),
        ('{"0": "a "big" boat"}', ":1: is not JSON: a comma is missing, or a quote inside a prompt"),
        ('{"0": "a boat"} {', ":1: is not JSON: something stands behind the last brace; remove it"),
        ('{"0": NaN}', ": is not JSON: NaN is no JSON number"),
        ('{"0": ' + "[" * 100_000, ": is not JSON of a schedule: it is nested too deeply"),
        ('{"0": "a",\n "0": "b"}', ":2: '0' is given twice; keep one"),
        ('{"0": "a",\n "00": "b"}', ":2: frame 0 is given twice, as '00' too; keep one"),
        (
            '{"0": "a",\n "noon": "b"}',
            ":2: 'noon' is no frame; write a number, as \"48\", or arithmetic with",
        ),
        ('{"0": "a",\n "-4": "b"}', ":2: frame -4 is out of range; 0 to 20736000"),
        ('{"0": "a",\n "1/0": "b"}', ":2: '1/0' is no frame"),
        ('{"0": "a",\n "2**99": "b"}', ":2: '2**99' is no frame"),
        ('{"0": "a",\n "open(1)": "b"}', ":2: 'open(1)' is no frame"),
        ('{"0": "a",\n "1e999": "b"}', ":2: '1e999' is no frame"),
        ('{"0": "a",\n "max_f/2": "b"}', ":2: 'max_f/2' counts from the film's length, which the file does"),
        ('{"0": "a",\n "48": 3}', ":2: the prompt of frame 48, 3, is not text"),
        ('{"0": "a",\n "48": " "}', ":2: frame 48 has no prompt; write what is seen from there on"),
        ('{"0": "a",\n "48": "--neg b"}', ":2: frame 48 has no prompt"),
        ('{"0": "a",\n "48": "b\\u0007"}', ":2: '48' holds the control character U+0007"),
        ('{"0": "a",\n "48": "b\\ud83d"}', ":2: '48' holds the control character U+D83D"),
        (
            '{"0": "a",\n "48": "' + "b" * 2001 + '"}',
            ":2: shots[1].prompt: has 2001 characters; at most 2000",
        ),
        ("{}", ': holds no prompt; a schedule reads {"0": "a boat", "48": "a storm"}'),
        ('{"prompts": ["a"]}', ": prompts: ['a'] is no schedule"),
        ('{"max_frames": 20}', ": is a settings file without `prompts`; add them, keyed by frame"),
        (
            '{"prompts": {"0": "a"}, "max_frames": -1}',
            ": max_frames: -1 is no number of frames; give --seconds",
        ),
        ('{"prompts": {"0": "a"}, "fps": 0}', ": fps: 0 is out of range; 1 to 240 frames a second"),
        ('{"prompts": {"0": "a"}, "fps": "x"}', ": fps: 'x' is not a number of frames a second"),
        ('{"prompts": {"0": "a"}, "W": 0, "H": 64}', ": size[0]: 0 is too small; at least 1"),
        ('["a boat", "a storm"]', ": is a JSON list, which has no frames; a schedule reads"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        manuscript(text)
    error = str(caught.value)
    assert error[error.index("wonder.txt") + len("wonder.txt") :].startswith(message)
    assert "\n" not in error


def test_a_length_in_seconds_needs_a_rate() -> None:
    with pytest.raises(
        UserError, match=r"--seconds: .*wonder\.txt counts frames at no known rate; give --fps as"
    ):
        manuscript('{"0": "a", "48": "b"}', seconds=6)


@settings(deadline=None)
@given(
    st.sets(st.integers(1, 100_000), max_size=12),
    st.integers(1, 500),
    st.sampled_from([None, 1, 7, 12, 24, 25, 30, 60]),
)
def test_any_frames_come_back(frames: set[int], rest: int, fps: int | None) -> None:
    starts = [0, *sorted(frames)]
    ends = [*starts[1:], starts[-1] + rest]
    if ends[-1] > 86_400 * (fps or 24):
        return
    text = json.dumps({str(frame): f"scene {frame}" for frame in starts})
    film = build(*parse(manuscript(text, fps=fps, seconds=f"{ends[-1]}f").text))
    assert [shot.prompt for shot in film.shots] == [f"scene {frame}" for frame in starts]
    found = [(span.start_frame, span.end_frame) for span in spans(film, film.fps or Fraction(24))]
    assert found == list(zip(starts, ends, strict=True))
