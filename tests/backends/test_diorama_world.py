"""diorama's world: captions say what they say, pictures repeat as they should, draws are reproducible."""

from __future__ import annotations

import numpy as np
import pytest

from longvid.backends.diorama import captions, world


def spec(**values: int | None) -> captions.Spec:
    return {
        "scene": 0,
        "time": 0,
        "weather": 0,
        "shape": None,
        "color": None,
        "motion": None,
        "camera": 0,
    } | values


def clip(
    *specs: captions.Spec, seed: int = 0, frames: int = 96, switch: int = 32, blend: int = 24
) -> world.Clip:
    return world.render(specs, switch, blend, frames, np.random.default_rng(seed))


def test_a_seed_draws_the_same_clip_and_another_a_different_one() -> None:
    one, same, other = (world.draw_clip(np.random.default_rng(seed), 3, 0.5) for seed in (3, 3, 4))
    assert np.array_equal(one.frames, same.frames)
    assert one.specs == same.specs
    assert not np.array_equal(one.frames, other.frames)
    assert one.frames.shape == (48, 64, 96, 3)
    assert one.frames.dtype == np.uint8


@pytest.mark.parametrize(("weather", "period"), [(1, 4), (2, 32)])
def test_rain_and_snow_repeat(weather: int, period: int) -> None:
    grey = np.full((1, world.HEIGHT_PX, world.WIDTH_PX, 3), 0.5, np.float32)
    frame = np.arange(2 * period, dtype=np.float32)
    fall, none = np.ones_like(frame), np.zeros_like(frame)
    light = np.ones((len(frame), 3), np.float32)
    falling = (fall, none) if weather == 1 else (none, fall)
    pictures = world._weather(grey, frame, *falling, light)
    np.testing.assert_allclose(pictures[:period], pictures[period:], atol=1e-4)
    assert not np.allclose(pictures[0], pictures[period // 4 + 1], atol=1e-2)


@pytest.mark.parametrize("shape", range(4))
@pytest.mark.parametrize("motion", range(4))
def test_the_box_holds_the_object(shape: int, motion: int) -> None:
    shown, empty = clip(spec(shape=shape, color=1, motion=motion)), clip(spec())
    differs = np.abs(shown.frames.astype(int) - empty.frames).max(-1) > 0
    left, top, right, bottom = np.moveaxis(shown.box, 1, 0)[:, :, None, None]
    tail = (bottom - top) * (0.3 / 3.1) if shape == 3 else 0  # the box leaves out the tip of a kite's tail
    inside = (left - 1 <= world.COLUMN) & (right + 1 >= world.COLUMN)
    inside &= (top - 1 <= world.ROW) & (bottom + tail + 1 >= world.ROW)
    assert differs.any()
    assert not (differs & ~inside).any()
    assert (inside & differs).sum() > 0.12 * inside.sum()


def test_motion_goes_where_the_caption_says() -> None:
    def travel(motion: int) -> tuple[float, float]:
        box = clip(spec(shape=0, color=0, motion=motion), seed=1).box
        step = np.diff(box[:, 0])
        return float(np.median(step)), float(np.ptp(box[:, 1]))

    assert travel(0) == pytest.approx((-world.SPEED_PX / 12, 0), abs=1e-4)
    assert travel(1) == pytest.approx((world.SPEED_PX / 12, 0), abs=1e-4)
    sideways, height = travel(2)
    assert sideways == 0
    assert height == pytest.approx(24, abs=0.5)
    assert travel(3) == (0, 0)


def test_a_transition_begins_where_the_new_caption_does() -> None:
    day, night = spec(), spec(time=2)
    changing = clip(day, night)
    alone = clip(day)
    assert np.array_equal(changing.frames[:33], alone.frames[:33])
    assert not np.array_equal(changing.frames[36], alone.frames[36])
    assert changing.spec_index.tolist() == [0] * 32 + [1] * 64
    assert changing.settled.tolist() == [True] * 32 + [False] * 24 + [True] * 40
    luma = changing.frames.astype(np.float64).mean((1, 2, 3))
    assert (np.diff(luma[32:57]) < 0.2).all()
    assert np.abs(np.diff(luma)).max() < 0.2 * (luma[0] - luma[-1])


def test_what_a_caption_says_is_what_the_spec_holds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        drawn = world.draw_spec(rng)
        text, said = captions.compose(drawn, rng)
        assert captions.unknown_words(text) == []
        for name, value in said.items():
            assert value in (None, drawn[name])
            if value is not None:
                phrases = tuple(captions.VALUES[name].values())[value]
                assert any(" ".join(phrase.split()) in text for phrase in phrases)
        if drawn["shape"] is None:
            assert said["shape"] is None and said["color"] is None and said["motion"] is None


def test_unknown_words_are_named_once_in_order() -> None:
    assert captions.unknown_words("A red zeppelin, over the SEA; a zeppelin at warp") == ["zeppelin", "warp"]
    assert captions.unknown_words("") == []
    assert captions.unknown_words("2 red boats “at sea” — 日本, Straße… 🦄!") == [
        "2",
        "boats",
        "日本",
        "straße",
        "🦄",
    ]


def test_a_prompt_is_read_as_it_was_composed() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        for text, said in (captions.compose(world.draw_spec(rng), rng), captions.fragment(rng)):
            assert captions.stated(text) == said, text


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("", {}),
        ("A RED boat, on the Sea!", {"shape": "boat", "color": "red", "scene": "sea"}),
        ("boat over blue waves", {"shape": "boat", "scene": "sea"}),
        ("a blue boat over the waves", {"shape": "boat", "color": "blue", "scene": "sea"}),
        ("a kite not moving", {"shape": "kite", "motion": "still"}),
        ("a moving kite, hand-painted, soft light", {"shape": "kite"}),
        ("a city, dark rainy night", {"scene": "city", "time": "night"}),
        ("a boat and a kite, both red", {"color": "red"}),
        ("the sea by day, or at night", {"scene": "sea"}),
    ],
)
def test_a_prompt_of_a_persons_own_states_what_its_words_mean_alone(
    prompt: str, said: dict[str, str]
) -> None:
    values = {name: list(known).index(said[name]) for name, known in captions.VALUES.items() if name in said}
    assert captions.stated(prompt) == dict.fromkeys(captions.VALUES) | values
