import pytest

from longvid.schedules.imports import Asked, Notes, plain_weighted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a boat", "a boat"),
        ("a  red\nboat , at dawn.", "a red boat, at dawn."),
        ("a (red:1.2) boat", "a red boat"),
        ("a (red boat:0.8), (((sea)))", "a red boat, sea"),
        ("((a boat) at sea:1.3)", "a boat at sea"),
        ("a [dull] boat", "a dull boat"),
        (r"a boat \(1910\)", "a boat (1910)"),
        ("a [red:blue:0.5] boat", "a [red:blue:0.5] boat"),
        ("apple:`cos(t)`, pear:`sin(t)`, snow", "apple, pear, snow"),
        ("<lora:ink:0.7>, a boat, <lyco:x:1>", "a boat"),
        ("a cat :0.7 AND a dog :0.3", "a cat, a dog"),
        ("at 12:30 in ROTTERDAM AND HAVRE", "at 12:30 in ROTTERDAM, HAVRE"),
        ("`t`", ""),
    ],
)
def test_words_alone(text: str, words: str) -> None:
    assert plain_weighted(text, Asked("wonder.txt"), Notes(), 1) == words


def test_notes_name_their_lines() -> None:
    notes = Notes()
    for line in (7, 3, 7, *range(20, 30)):
        notes.add("gone", line)
    notes.add("once", 4)
    notes.add("of the file")
    assert notes.told() == [
        "lines 3, 7, 20, 21, 22, 23, 24, 25 and 4 more: gone",
        "line 4: once",
        "of the file",
    ]
