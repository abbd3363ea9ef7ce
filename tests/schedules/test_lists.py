import pytest

from longvid.errors import UserError
from tests.importing import manuscript, planned, shots

STORY = (
    "# a story\n\na fox in the snow\n  a whale at dusk  \r\n\n# the end\na city <lora:neon:1> in the rain\n"
)


def test_a_prompt_a_line() -> None:
    expected = [
        (0, 120, "a fox in the snow"),
        (120, 240, "a whale at dusk"),
        (240, 360, "a city in the rain"),
    ]
    assert shots(planned(STORY, fps=24)) == expected
    assert [end for _, end, _ in shots(planned(STORY, fps=24, seconds="1.5"))] == [36, 72, 108]
    assert [end for _, end, _ in shots(planned(STORY, fps=24, seconds="10f"))] == [10, 20, 30]


def test_what_is_written_and_said() -> None:
    made = manuscript(STORY, seconds=4)
    assert made.notes == ("line 7: LoRA tags such as <lora:name:1> are left out: longvid loads no LoRA",)
    assert made.text.endswith("  - prompt: a city in the rain\n    seconds: 4\n")
    assert manuscript("a fox").notes == ("each prompt lasts 5 s; --seconds says how long",)


@pytest.mark.parametrize("text", ["# nothing\n", "<lora:x:1>\n", "\ufeff# nothing"])
def test_a_list_of_nothing(text: str) -> None:
    with pytest.raises(UserError, match=r"wonder\.txt: holds no prompt; write one a line"):
        manuscript(text)


def test_a_prompt_that_is_too_long() -> None:
    with pytest.raises(
        UserError, match=r"wonder\.txt:2: shots\[1\]\.prompt: has 2001 characters; at most 2000"
    ):
        manuscript("a boat\n" + "b" * 2001)
