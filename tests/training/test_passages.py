"""Which passages of clips are trained on, by frames and chunks; nothing is decoded."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from longvid.backends.opensora import backend as opensora
from longvid.errors import UserError
from longvid.training.captions import Problem
from longvid.training.corpus import Corpus, Example
from longvid.training.material import Format, describe, distinct_captions
from longvid.training.passages import Selection, select
from tests.tiny import TinyBackend
from tests.training.footage import example

TINY = Format(TinyBackend().geometry, (24, 16), Fraction(12), chunks=3)
"""Chunks of 8 frames."""


def chosen(*examples: Example, format: Format = TINY, held_out: Fraction = Fraction(0)) -> Selection:
    problem = Problem(Path("data/torn.mp4"), "is damaged")
    return select(Corpus(Path("data"), examples, (problem,), cut=True), format, held_out)


def begins(selection: Selection) -> list[tuple[Fraction, int]]:
    return [(passage.begin, passage.chunks) for passage in selection.passages]


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (8, [(0, 1)]),
        (9, [(0, 1)]),
        (11, [(0, 1), (3, 1)]),
        (12, [(0, 1), (4, 1)]),
        (15, [(0, 1), (4, 1), (7, 1)]),
        (16, [(0, 2)]),
        (24, [(0, 3)]),
        (29, [(2, 3)]),
        (30, [(0, 3), (6, 3)]),
        (48, [(0, 3), (12, 3), (24, 3)]),
        (50, [(0, 3), (13, 3), (26, 3)]),
    ],
)
def test_a_scene_gives_as_many_chunks_as_it_has_and_a_long_one_several_passages(
    frames: int, expected: list[tuple[int, int]]
) -> None:
    assert begins(chosen(example(frames))) == expected


def test_a_stride_of_a_whole_passage_lets_none_overlap() -> None:
    assert begins(chosen(example(72), format=replace(TINY, stride=Fraction(1)))) == [(0, 3), (24, 3), (48, 3)]


def test_a_causal_codecs_first_chunk_is_shorter() -> None:
    causal = replace(TINY, geometry=TinyBackend(causal=True).geometry)
    assert begins(chosen(example(21), format=causal)) == [(0, 3)]
    assert begins(chosen(example(13), format=causal)) == [(0, 2)]
    assert begins(chosen(example(5), format=causal)) == [(0, 1)]


def test_no_passage_crosses_a_cut() -> None:
    clip = example(40, scenes=[(0, 10), (10, 17), (17, 40)])
    selection = chosen(clip)
    assert [(one.scene, one.begin, one.chunks) for one in selection.passages] == [
        ((0, 10), 0, 1),
        ((0, 10), 2, 1),
        ((17, 40), 17, 2),
        ((17, 40), 24, 2),
    ]
    for passage in selection.passages:
        numbers = list(selection.numbers(passage))
        assert passage.scene[0] <= numbers[0] and numbers[-1] < passage.scene[1]


@pytest.mark.parametrize(
    ("fps", "frames", "numbers"),
    [
        (Fraction(24), 16, [0, 2, 4, 6, 8, 10, 12, 14]),
        (Fraction(6), 4, [0, 0, 1, 1, 2, 2, 3, 3]),
        (Fraction(30), 20, [0, 2, 5, 7, 10, 12, 15, 17]),
        (Fraction(30000, 1001), 18, [0, 2, 4, 7, 9, 12, 14, 17]),
        (Fraction(12), 8, [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_frames_are_those_that_are_shown_at_the_models_rate(
    fps: Fraction, frames: int, numbers: list[int]
) -> None:
    selection = chosen(example(frames, fps=fps))
    (passage,) = selection.passages
    assert list(selection.numbers(passage)) == numbers


def test_every_passage_stays_inside_its_scene_at_any_rate() -> None:
    for fps in (Fraction(24000, 1001), Fraction(25), Fraction(7), Fraction(120)):
        for frames in range(1, 90, 7):
            clip = example(frames + 5, fps=fps, scenes=[(5, 5 + frames)])
            if frames * 12 <= 7 * fps:
                with pytest.raises(UserError, match="no scene is as long as a chunk"):
                    chosen(clip)
                continue
            selection = chosen(clip)
            for passage in selection.passages:
                numbers = list(selection.numbers(passage))
                assert len(numbers) == 8 * passage.chunks
                assert numbers[0] >= 5 and numbers[-1] < 5 + frames


def test_scenes_are_held_out_by_content_and_whole() -> None:
    clips = [example(96, scenes=[(0, 48), (48, 96)], name=name) for name in "abcdefghij"]
    selection = chosen(*clips, held_out=Fraction(1, 4))
    held = {(one.example, one.scene) for one in selection.passages if one.held_out}
    assert 2 <= len(held) <= 8
    assert all(one.held_out == ((one.example, one.scene) in held) for one in selection.passages)
    names = {(clips[index].sha256, scene) for index, scene in held}

    more = [example(96, scenes=[(0, 48), (48, 96)], name=name) for name in "jihgfedcbaklm"]
    selection = chosen(*more, held_out=Fraction(1, 4))
    later = {(more[one.example].sha256, one.scene) for one in selection.passages if one.held_out}
    assert {name for name in later if name[0] in "abcdefghij"} == names


def test_a_clip_under_two_captions_is_held_out_under_both() -> None:
    selection = chosen(
        *(example(24, caption=c) for c in "ab"), example(24, name="sea"), held_out=Fraction(1, 20)
    )
    assert selection.passages[0].held_out == selection.passages[1].held_out != selection.passages[2].held_out
    assert distinct_captions(selection.items) == ("a", "b", "a red boat")


@pytest.mark.parametrize(
    ("scenes", "share", "held"), [(1, 1, 0), (2, 0, 0), (2, Fraction(1, 10**9), 1), (2, 1, 1)]
)
def test_of_two_scenes_one_is_held_out_and_never_all(scenes: int, share: Fraction, held: int) -> None:
    selection = chosen(*(example(24, name=str(index)) for index in range(scenes)), held_out=Fraction(share))
    assert sum(passage.held_out for passage in selection.passages) == held


def test_too_short_for_a_chunk() -> None:
    selection = chosen(example(7, name="short"), example(24))
    assert str(selection.problems[1]) == "short.mp4: is 0.583 s, without a scene as long as a chunk, 0.667 s"
    assert [one.example for one in selection.passages] == [1]
    with pytest.raises(UserError) as raised:
        chosen(example(7, name="short"), example(6))
    assert str(raised.value) == (
        "data: no scene is as long as a chunk, 0.667 s; the longest one is 0.583 s, of short.mp4"
    )


def test_what_a_person_is_told() -> None:
    clips = [
        example(96, scenes=[(0, 48), (48, 96)]),
        example(300, fps=Fraction(25), size=(1280, 240), name="wide", caption="the zzoo sea"),
        example(12, fps=Fraction(6), size=(16, 12), name="small"),
        example(4, name="short"),
    ]
    assert describe(chosen(*clips, held_out=Fraction(1, 20)), TinyBackend()) == [
        "4 clips, 22.333 s in all, 0.333 s to 12 s each, with 2 captions",
        "5 scenes of 0.333 s to 12 s",
        "18 passages of 3 chunks at 24x16 and 12 frames a second: 15 to train on, 3 held out",
        "about 1 MB of latents to cache",
        "tiny does not know, and will not hear: zzoo",
        "wide.mp4: only the middle is seen, less than half of the picture",
        "small.mp4: enlarged",
        "small.mp4: slower than the model, so that frames come twice",
        "left out, 2:",
        "  data/torn.mp4: is damaged",
        "  short.mp4: is 0.333 s, without a scene as long as a chunk, 0.667 s",
    ]


def test_a_person_is_told_of_ten_problems_and_how_many_more() -> None:
    problems = tuple(Problem(Path(f"{index}.mp4"), "is damaged") for index in range(14))
    lines = describe(select(Corpus(Path("data"), (example(8),), problems, cut=False), TINY), TinyBackend())
    assert lines[1] == "not split at cuts: pip install 'longvid[scenes]' lets them be found"
    assert "1 passage of 1 chunk at 24x16" in lines[2]
    assert lines[4] == "nothing is held out: it may be learnt by heart, and no loss tells"
    assert lines[5:7] == ["left out, 14:", "  0.mp4: is damaged"]
    assert lines[-2:] == ["  9.mp4: is damaged", "  and 4 more"]


def test_open_soras_windows() -> None:
    """A clean chunk and six noisy ones: 7 x 17 frames."""
    format = Format(opensora(None).geometry, (426, 240), Fraction(24), chunks=7)
    assert begins(chosen(example(300, fps=Fraction(24)), format=format)) == [
        (0, 7),
        (60, 7),
        (121, 7),
        (181, 7),
    ]
    assert format.latent_bytes(7) == 4 * 35 * 53 * 30 * 2
