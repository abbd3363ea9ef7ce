# ruff: noqa: E501 (a table of examples reads by the line)
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longvid.document import parse
from longvid.errors import UserError
from longvid.spans import spans
from longvid.timeline import build
from tests.importing import manuscript, planned, shots


@pytest.mark.parametrize(
    ("text", "seconds", "expected"),
    [
        ("[0s: waves] [2s: jumps] [4s: spins]", 6, [(0, 60, "waves"), (60, 120, "jumps"), (120, 180, "spins")]),
        ("[0s: lifts both arms] [2s: claps]", 5, [(0, 60, "lifts both arms"), (60, 150, "claps")]),
        ("[0s: nods] [1.1s: winks] [2.2s: frowns]", 3.3, [(0, 33, "nods"), (33, 66, "winks"), (66, 99, "frowns")]),
        ("[0s: looks] [1.1s: stands] [2.2s-3.3s: sits]", None, [(0, 33, "looks"), (33, 66, "stands"), (66, 99, "sits")]),
        ("[0s-2s: waves] [2s-4s: jumps] [4s: spins]", 6, [(0, 60, "waves"), (60, 120, "jumps"), (120, 180, "spins")]),
        ("[0s-2.5s: lifts] [2.5s: claps]", 5, [(0, 75, "lifts"), (75, 150, "claps")]),
        ("[0s-2s: dances] [2s-5s: spins]", None, [(0, 60, "dances"), (60, 150, "spins")]),
        ("[0s-2s: claps]\n[2s-: spins]", 6, [(0, 60, "claps"), (60, 180, "spins")]),
        # Without a prompt at 0 the first one holds from there.
        ("[1s: waves] [3s: jumps] [5s: dances]", 6, [(0, 90, "waves"), (90, 150, "jumps"), (150, 180, "dances")]),
        # Words outside stand before the first section.
        ("a girl stands [2s: she claps] [4s: she spins]", 6, [(0, 60, "a girl stands"), (60, 120, "she claps"), (120, 180, "she spins")]),
        ("[0s-2s: a] [3s-4s: b]", None, [(0, 90, "a"), (90, 120, "b")]),
        ("[0s: a] [2s: b]", None, [(0, 60, "a"), (60, 210, "b")]),
        ("[0s: a] [2s: b] [8s: c]", 6, [(0, 60, "a"), (60, 180, "b")]),
    ],
)  # fmt: skip
def test_what_stands_in_its_documentation(
    text: str, seconds: float | None, expected: list[tuple[int, int, str]]
) -> None:
    """At FramePack's 30 frames a second."""
    assert shots(planned(text, fps=30, seconds=seconds)) == expected


def test_what_is_written_and_said() -> None:
    made = manuscript("oil painting [0s-2s: a <lora:x:1> boat]\n[3s-4s: a storm]")
    assert made.text == (
        "# From FramePack-Studio: wonder.txt, by `longvid import`.\n"
        "# Differs from it:\n"
        "# - line 1: LoRA tags such as <lora:name:1> are left out: longvid loads no LoRA\n"
        "# - text outside of the brackets, 'oil painting', is left out: a prompt begins at 0 s; `style` of a\n"
        "#   film adds words to every prompt\n"
        "# - the times are as written: FramePack-Studio moves them to its sections of 1.1 s\n"
        "# - line 2: nothing stands between 2 s and 3 s: the prompt before holds on\n"
        "# - how long prompts blend is no part of the text: `blend_seconds` of a shot says it\n"
        "\n"
        "shots:\n"
        "  - at: 0\n"
        "    prompt: a boat\n"
        "\n"
        "  - at: 3\n"
        "    prompt: a storm\n"
        "    until: 4\n"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[0s: a]\n[2: b]", ":2: '[2: b]' is no timed prompt; write [2s: text] or [0s-2s: text]"),
        ("[0s: a]\n[2-3s: b]", ":2: '[2-3s: b]' is no timed prompt"),
        ("[0-2: a]", ":1: '[0-2: a]' is no timed prompt"),
        ("[0s: a]\n[2s: ]", ":2: '[2s: ]' has no prompt; write what is seen from there on"),
        (
            "[0s: a]\n[4s: b]\n[2s: c]",
            ":3: starts at 2 s, the prompt before it at 4 s; put them in order of time",
        ),
        ("[0s: a]\n[0s: b]", ":2: starts at 0 s, the prompt before it at 0 s"),
        (
            "[0s-3s: a]\n[2s: b]",
            ":2: starts at 2 s, before the prompt before it ends at 3 s; let it end there",
        ),
        ("[2s-1s: a]", ":1: ends at 1 s, not after its start at 2 s"),
        ("[0s: a", ":1: '[0s: a' is no timed prompt"),
        ("[0s: a] [99999s: b]", ":1: shots[0]: ends at 27:46:39; a film lasts at most a day"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        manuscript(text)
    error = str(caught.value)
    assert error[error.index("wonder.txt") + len("wonder.txt") :].startswith(message)


def test_without_a_timed_prompt() -> None:
    with pytest.raises(UserError, match=r"holds no timed prompt; one reads \[2s: text\] or \[0s-2s: text\]"):
        manuscript("a boat", "framepack")


@settings(deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=12))
def test_any_times_come_back(tenths: list[int]) -> None:
    times = [sum(tenths[:index]) for index in range(len(tenths) + 1)]
    text = " ".join(f"[{start / 10}s-{end / 10}s: scene {start}]" for start, end in pairwise(times))
    film = build(*parse(manuscript(text, fps=10).text))
    assert [(span.start_frame, span.end_frame) for span in spans(film, film.fps)] == list(pairwise(times))
