"""diorama's world as a dataset: the world's own clips, told without a pixel."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from longvid import datasets
from longvid.backends.diorama import GEOMETRY, backend, world
from longvid.backends.diorama.dataset import SWITCH_SHARE, dataset, object_weights
from longvid.datasets import DatasetSpec
from longvid.errors import UserError
from longvid.training.dataset import select
from longvid.training.material import Format, describe

SPEC = DatasetSpec((192, 128), Fraction(12), 16, 16, chunks=3, clips=6, seed=3)
"""Clips of four chunks."""
FIRSTS = slice(None, None, 16)


def test_a_clip_is_the_draw_of_its_seed_and_number() -> None:
    drawn = dataset(SPEC)
    assert len(drawn) == 6
    for index in range(6):
        expected = world.draw_clip(np.random.default_rng((3, index)), 4, SWITCH_SHARE)
        said = drawn.captions(index)
        assert drawn.captions(index) == said and len(said) == 4
        # A new caption from the chunk on where the new spec is in force; two specs may have the same words.
        changes = expected.spec_index[FIRSTS]
        assert all(said[k] == said[0] for k in range(4) if not changes[k])
        assert all(said[k] == said[-1] for k in range(4) if changes[k])
        assert drawn.begins(index) == expected.settled[FIRSTS].tolist()
    clip = drawn.clip(0)
    datasets.check(clip, SPEC, 4)
    expected = world.draw_clip(np.random.default_rng((3, 0)), 4, SWITCH_SHARE)
    assert np.array_equal(clip.pixels, expected.frames)
    assert clip.weights is not None and np.array_equal(clip.weights, object_weights(expected.boxes))


def test_captions_and_begins_change_with_the_spec() -> None:
    drawn = dataset(replace(SPEC, clips=200))
    changing = [index for index in range(200) if len(set(drawn.captions(index))) == 2]
    assert 60 < len(changing) < 110, "45 % of the clips, but for those that say the same"
    for index in changing:
        said, begins = drawn.captions(index), drawn.begins(index)
        first = said.index(said[-1])
        assert first >= 1 and begins[:first] == [True] * first and not begins[first]
    assert dataset(replace(SPEC, seed=4)).captions(0) != drawn.captions(0)
    assert dataset(replace(SPEC, seed=4)).fingerprint != drawn.fingerprint


def test_the_objects_boxes_count_more() -> None:
    first = [[10.0, 20.5, 11.0, 21.5], [-9.0, -9.0, 0.25, 0.5], [0, 0, 0, 0]]
    second = [[0, 0, 0, 0], [40.0, 30.0, 40.5, 30.5], [0, 0, 0, 0]]
    boxes = np.array([second, first], np.float32).swapaxes(0, 1)
    weights = object_weights(boxes)
    assert weights.shape == (3, 128, 192) and weights.dtype == np.uint8
    # A unit is two pixels; the second pixel of a row or column begins at 0.
    assert [np.argwhere(frame > 1).tolist() for frame in weights] == [
        [[row, column] for row in (42, 43) for column in (21, 22)],
        [[0, 0], [0, 1], [1, 0], [1, 1], [61, 81]],
        [],
    ]
    assert set(weights.flatten().tolist()) == {1, 4}


def test_it_is_known_by_its_name_and_its_words_are_the_models() -> None:
    format = Format(GEOMETRY, (192, 128), Fraction(12), chunks=5)
    selection = select("diorama", format, clips=40)
    lines = describe(selection, backend(None))
    assert lines[0].startswith("dataset diorama: 40 clips, 320 s in all, 8 s each, with ")
    assert lines[1].startswith("40 passages of 6 chunks at 192x128 and 12 frames a second: ")
    assert len(lines) == 3, "all its words are known"
    assert len(datasets.load("diorama", replace(selection.spec, clips=None))) == 3200


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (replace(SPEC, size=(24, 16)), "24x16 at 12 frames a second in chunks of 16 and 16"),
        (replace(SPEC, fps=Fraction(24)), "192x128 at 24 frames a second in chunks of 16 and 16"),
        (replace(SPEC, first_chunk_frames=13), "192x128 at 12 frames a second in chunks of 13 and 16"),
    ],
)
def test_any_other_size_or_rate(spec: DatasetSpec, told: str) -> None:
    with pytest.raises(UserError) as error:
        dataset(spec)
    assert str(error.value) == (
        "diorama: the dataset is 192x128 at 12 frames a second in chunks of 16 and 16, "
        f"not {told}; train the model diorama on it, or name another dataset or a folder of clips"
    )
