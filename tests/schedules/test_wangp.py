# ruff: noqa: E501 (a table of examples reads by the line)
import pytest

from longvid.errors import UserError
from tests.importing import manuscript, planned, shots


@pytest.mark.parametrize(
    ("text", "seconds", "expected"),
    [
        # Relay: shares, times and frames; frames count from 1, and the last one is shown.
        ("[0%:25%] a [25%:50%] b\n[50%:75%] c [75%:] d", 8, [(0, 48, "a"), (48, 96, "b"), (96, 144, "c"), (144, 192, "d")]),
        ("[0%:30%] a [30%:100%] b", "101f", [(0, 30, "a"), (30, 101, "b")]),
        ("[0s:2s] a\n[2s:5s] b", None, [(0, 48, "a"), (48, 120, "b")]),
        ("[0 sec:2 seconds] a\n[2s:] b", 5, [(0, 48, "a"), (48, 120, "b")]),
        ("[0:00:0:02.5] a\n[0:02.5:] b", 5, [(0, 60, "a"), (60, 120, "b")]),
        ("[1:24] a\n[25:60] b\n[61:] c", "96f", [(0, 24, "a"), (24, 60, "b"), (60, 96, "c")]),
        ("[1:24] a, see [image 1]\n[25:60] at 16:9, [16:9]", None, [(0, 24, "a, see [image 1]"), (24, 60, "at 16:9, [16:9]")]),
        # Windows: frames, seconds and shares, one after another.
        ("[/duration=48] a\n[/duration=5s] b\n[/duration=25%] c", 8, [(0, 48, "a"), (48, 168, "b"), (168, 216, "c")]),
        ("[/duration=5s] a\n\n[/new_shot,/duration=4s] b", None, [(0, 120, "a"), (120, 216, "b")]),
        ("[/duration=5s] a\nb\n\n[/duration=4s] c", None, [(0, 120, "a b"), (120, 216, "c")]),
        ("[/duration=2s] a\nb\nc", 8, [(0, 48, "a"), (48, 120, "b"), (120, 192, "c")]),
        ("[/new_shot] a\n# a comment\n[/overlap=0] b", None, [(0, 120, "a"), (120, 240, "b")]),
        # Beats: each to the next.
        ("(at 0 seconds: stands)\n(at 1 second: opens the fridge)\n(at 2 seconds: drinks)", 5, [(0, 24, "stands"), (24, 48, "opens the fridge"), (48, 120, "drinks")]),
        ("(At 0 seconds: wide). (At 2.5 seconds: close (very))", 4, [(0, 60, "wide"), (60, 96, "close (very)")]),
    ],
)  # fmt: skip
def test_what_stands_in_its_documentation(
    text: str, seconds: object, expected: list[tuple[int, int, str]]
) -> None:
    assert shots(planned(text, fps=24, seconds=seconds)) == expected


def test_a_text_for_the_whole_film_is_its_style() -> None:
    text = "a fox in a snowy wood\n[0%:50%] it sleeps [50%:] it runs"
    made = planned(text, fps=24, seconds=10)
    assert made.prompts == ("it runs, a fox in a snowy wood", "it sleeps, a fox in a snowy wood")
    assert manuscript(text, seconds=10).notes == (
        "the text in front became `style`: it goes behind every prompt, not in front",
    )


def test_where_nothing_stands_the_whole_film_s_text_is_alone() -> None:
    made = planned("a fox\n[2s:4s] it runs\n[6s:8s] it sleeps", fps=24)
    assert shots(made) == [
        (0, 48, "a fox"),
        (48, 96, "a fox, it runs"),
        (96, 144, "a fox"),
        (144, 192, "a fox, it sleeps"),
    ]


def test_windows_that_begin_anew_are_cuts() -> None:
    text = (
        "[/duration=25%] dawn\n\n[/duration=5s,/overlap=17] a step\n\n"
        "[/new_shot,/duration=4s] a sharp cut\n\n[/duration=30%,/overlap=9,/loras_mult=1;3] a knight"
    )
    made = planned(text, fps=24, seconds=20)
    assert [(shot.start_frame, shot.cut) for shot in made.shots] == [
        (0, False),
        (120, False),
        (240, True),
        (336, False),
    ]
    assert made.frames == 336 + 144
    assert manuscript(text, seconds=20).notes == (
        "lines 3, 7: the windows' overlap is left out: longvid's windows have their own",
        "line 7: the command '/loras_mult' is left out",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n[0%:25%] b", ":2: 25% of what; give the film's length with --seconds"),
        ("[0s:2s] a\n[1s:4s] b", ":2: starts at 1 s, before the prompt before it ends at 2 s"),
        ("[1:24] a\n[24:48] b", ":2: starts at frame 23, before the prompt before it ends at frame 24"),
        ("[0s:1s] a\n[4s:2s] b", ":2: ends at 2 s, not after its start at 4 s"),
        ("[0s:2s] a\n[49:96] b", ":2: frames here, seconds before; write one of the two throughout"),
        ("[0s:2s] a\n[2s:4s]", ":2: [2s:4s] has no prompt; write what is seen then"),
        ("[2s:4s] a", ":1: there is no prompt at 0; begin with one at 0, or with one for all"),
        ("(at 2 seconds: a)", ":1: there is no prompt at 0; begin with (at 0 seconds: ...)"),
        ("(at 0 seconds: )", ":1: '(at 0 seconds: )' has no prompt"),
        ("[/duration=5s] a\n[/duration=x] b", ":2: /duration=x is no length; write frames, as 121, seconds, as 5s"),
        ("[/duration=5s]\n[/duration=5s] b", ":1: a window without a prompt"),
        ("! {who}=a,b\n[/duration=5s] {who}", ":1: a macro of WanGP, which is not read; write its prompts out"),
    ],
)  # fmt: skip
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        manuscript(text)
    error = str(caught.value)
    assert error[error.index("wonder.txt") + len("wonder.txt") :].startswith(message)


def test_lengths_that_do_not_fit() -> None:
    with pytest.raises(
        UserError, match="the durations leave nothing of --seconds for the windows without one"
    ):
        manuscript("[/duration=5s] a\nb", seconds=5)
    with pytest.raises(UserError, match="holds no timed prompt of WanGP"):
        manuscript("a boat", "wangp")
    with pytest.raises(
        UserError, match=r"--seconds: .* counts in seconds; give --fps as well, or the length in"
    ):
        manuscript("[0s:2s] a [2s:] b", seconds="96f")
