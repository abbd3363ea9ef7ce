"""diorama's world: captions say what they say, pictures repeat as they should, draws are reproducible."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from longvid.backends.diorama import canvas, captions, sky, world


def spec(**values: int | None) -> captions.Spec:
    return {
        "scene": 0,
        "time": 0,
        "weather": 0,
        "count": None,
        "shape": None,
        "color": None,
        "motion": None,
        "camera": 0,
    } | values


def clip(
    *specs: captions.Spec, seed: int = 0, frames: int = 96, switch: int = 32, blend: int = 24
) -> world.Clip:
    return world.render(world.Story(specs, switch, blend), frames, np.random.default_rng(seed))


def test_a_seed_draws_the_same_clip_and_another_a_different_one() -> None:
    one, same, other = (world.draw_clip(np.random.default_rng(seed), 3, 0.5) for seed in (3, 3, 4))
    assert np.array_equal(one.frames, same.frames)
    assert one.specs == same.specs
    assert not np.array_equal(one.frames, other.frames)
    assert one.frames.shape == (48, 128, 192, 3)
    assert one.frames.dtype == np.uint8


@pytest.mark.parametrize(("weather", "period"), [(1, 4), (2, 32)])
def test_rain_and_snow_repeat(weather: int, period: int) -> None:
    grey = np.full((1, canvas.HEIGHT_PX, canvas.WIDTH_PX, 3), 0.5, np.float32)
    frame = np.arange(2 * period, dtype=np.float32)
    fall, none = np.ones_like(frame), np.zeros_like(frame)
    light = np.ones((len(frame), 3), np.float32)
    falling = (fall, none) if weather == 1 else (none, fall)
    pictures = sky.draw_weather(grey, frame, *falling, light)
    np.testing.assert_allclose(pictures[:period], pictures[period:], atol=1e-4)
    assert not np.allclose(pictures[0], pictures[period // 4 + 1], atol=1e-2)


@pytest.mark.parametrize(
    ("count", "shape", "motion"),
    [(1, shape, 2) for shape in range(6)] + [(motion % 2, 0, motion) for motion in (0, 1, 3)],
)
def test_the_boxes_hold_the_objects(count: int, shape: int, motion: int) -> None:
    shown, empty = (
        clip(spec(count=count, shape=shape, color=1, motion=motion), frames=32),
        clip(spec(), frames=32),
    )
    differs = np.abs(shown.frames.astype(int) - empty.frames).max(-1) > 0
    covered = np.zeros_like(differs)
    for box in shown.boxes.swapaxes(0, 1):
        left, top, right, bottom = box.T[:, :, None, None]
        tail = (
            (bottom - top) * (0.3 / 3.1) if shape == 3 else 0
        )  # the box leaves out the tip of a kite's tail
        inside = (left - 1 <= canvas.COLUMN) & (right + 1 >= canvas.COLUMN)
        inside &= (top - 1 <= canvas.ROW) & (bottom + tail + 1 >= canvas.ROW) & (left < right)
        covered |= inside
    assert differs.any()
    assert not (differs & ~covered).any()
    assert (covered & differs).sum() > 0.12 * covered.sum()
    there = (shown.boxes[:, :, 2] > shown.boxes[:, :, 0]).any(0)
    assert there.tolist() == [count == 1, True]


def test_motion_goes_where_the_caption_says() -> None:
    def travel(motion: int) -> tuple[float, float]:
        box = clip(spec(count=0, shape=0, color=0, motion=motion), seed=1).boxes[:, 1]
        step = np.diff(box[:, 0])
        return float(np.median(step)), float(np.ptp(box[:, 1]))

    assert travel(0) == pytest.approx((-world.SPEED / 12, 0), abs=1e-4)
    assert travel(1) == pytest.approx((world.SPEED / 12, 0), abs=1e-4)
    sideways, height = travel(2)
    assert sideways == 0
    assert height == pytest.approx(24, abs=0.5)
    assert travel(3) == (0, 0)


def test_two_objects_stay_apart_and_bounce_in_opposite_phase() -> None:
    for motion in range(4):
        boxes = clip(spec(count=1, shape=4, color=0, motion=motion), seed=2, frames=200).boxes
        middles = (boxes[:, :, 0] + boxes[:, :, 2]) / 2
        apart = (middles[:, 0] - middles[:, 1]) % (canvas.WIDTH + 30)
        assert apart == pytest.approx(apart[0], abs=1e-3)
        assert min(apart[0], canvas.WIDTH + 30 - apart[0]) == pytest.approx(world.APART, abs=1e-3)
        rows = (boxes[:, :, 1] + boxes[:, :, 3]) / 2
        assert (rows - rows.mean(0)).sum(1) == pytest.approx(0, abs=1)
        if motion >= world.BOUNCING:
            assert (middles > 4).all() and (middles < canvas.WIDTH - 4).all(), "both are to be seen"


def test_two_that_shall_rest_do_so_within_a_second_and_a_half_wherever_they_are() -> None:
    """The way to where both are seen is short, also from the middle of the picture."""
    resting = spec(count=1, shape=0, color=0, motion=3)
    for start in np.arange(24, 72, 0.5):
        path = world._path((resting,), np.zeros(96, np.float32), float(start), 1 if start < 48 else -1)
        assert np.ptp(path) < 18 and np.ptp(path[30:]) == 0, start


def test_an_object_has_all_that_objects_have_or_nothing_of_it() -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000):
        before = world.draw_spec(rng)
        after = world.change_spec(before, rng)
        for each in (before, after):
            has = {each[name] is None for name in ("count", "shape", "color", "motion")}
            assert len(has) == 1, each


def test_a_camera_pans_and_what_is_far_goes_half_as_fast() -> None:
    """In four frames by three units, six pixels; far mountains by half of it."""
    ahead, sea = 4, spec(scene=4)
    for camera, way in ((1, 1), (2, -1)):
        shown = clip(sea | {"camera": camera}, frames=ahead + 1).frames.astype(int)
        for rows, pixels in ((slice(112, 126), 6), (slice(62, 72), 3)):
            moved, wrong, unmoved = (
                np.roll(shown[0, rows], -way * by, 1)[:, 8:-8] for by in (pixels, 9 - pixels, 0)
            )
            there = shown[ahead, rows, 8:-8]
            missed = np.abs(moved - there).mean()
            assert 3 * missed < min(np.abs(wrong - there).mean(), np.abs(unmoved - there).mean())
    still = clip(sea, frames=ahead + 1).frames[:, 57:]
    assert (still == still[0]).all()


def test_where_time_passes_it_goes_through_all_of_a_day() -> None:
    """From noon on, at one rate, and round again; a transition stops the clock where the new spec says."""
    around = world.ROUND_SECONDS * world.FPS

    def shown(*times: int, frames: int = 1, switch: int = 0, blend: int = 1) -> NDArray[np.int64]:
        specs = [spec(scene=2, time=time) for time in times]
        pictures = clip(*specs, frames=frames, switch=switch, blend=blend).frames
        return pictures[:, 60:, :40].astype(int)  # where no cloud is

    passing = shown(0, world.PASSING, frames=around + 24)
    for time in range(4):
        at = around * time // 4
        assert np.abs(passing[at or around] - shown(time)[0]).max() <= 1
    assert np.abs(passing[1:24] - passing[around + 1 :]).max() <= 1
    assert np.array_equal(shown(world.PASSING, 0, frames=64, switch=16, blend=24)[-1], shown(0)[0])


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
