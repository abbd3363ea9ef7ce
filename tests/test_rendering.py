import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import longvid
from longvid import files, finishing, rendering, sampling, state
from longvid.denoise import denoise
from longvid.errors import RenderError, UserError
from longvid.guidance import classifier_free
from longvid.noise import per_unit
from longvid.plan import RenderPlan, plan
from longvid.processes import SOLVERS
from longvid.progress import Began, ChunkSaved, Done, Event, PreviewWritten, Stepped
from longvid.timeline import Timeline, build
from longvid.video import post, reader, writer
from tests.installed import install_tiny
from tests.tiny import RUNTIME, SPEC, TinyBackend

SHOTS = [
    {"prompt": "a red boat", "seconds": 3, "title": "Boat"},
    {"prompt": "the sea in a storm", "seconds": 3, "blend_seconds": 1, "negative": "blurry"},
    {"prompt": "a city at night", "seconds": "29f", "cut": True, "guidance": 1},
]


@pytest.fixture(autouse=True)
def _disk_in_no_hurry(monkeypatch):
    """Renders here write thousands of small files, and no test takes the power away."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def film(*shots: dict[str, object], **keys: object) -> Timeline:
    return build({"seed": 7, **keys, "shots": list(shots or SHOTS)})


def events(planned: RenderPlan, output: Path, backend: TinyBackend | None = None) -> Iterator[Event]:
    return rendering.events(planned, backend or TinyBackend(), output, device="cpu", dtype="float32")


def rendered(output: Path, timeline: Timeline | None = None, backend: TinyBackend | None = None) -> Path:
    backend = backend or TinyBackend()
    *_, last = events(plan(timeline or film(), backend), output, backend)
    assert isinstance(last, Done)
    return output


def pictures(path: Path) -> list[str]:
    """A hash of each decoded frame; their times are checked to be exact."""
    found = list(reader.frames(path))
    fps = reader.header(path).fps
    assert [time for time, _ in found] == [i / fps for i in range(len(found))]
    return [hashlib.sha256(pixels.tobytes()).hexdigest() for _, pixels in found]


def whole(work: Path) -> list[int]:
    """The finished chunks of a work directory, every checksum checked."""
    finished = []
    for path in sorted((work / "chunks").iterdir()):
        record = files.read_sealed(path)
        assert record is not None, path
        for name, checksum in record["files"].items():
            assert files.checksum(work / name) == checksum, name
        finished.append(record["chunk"])
    assert not list(work.rglob(".*")), "no temporary file is left"
    return finished


# Frames


@pytest.mark.parametrize(
    "backend",
    [
        TinyBackend(),
        TinyBackend(causal=True),
        TinyBackend(held_frames=3),
        TinyBackend(causal=True, held_frames=5),
    ],
    ids=["plain", "causal", "held", "causal and held"],
)
@pytest.mark.parametrize(
    "lengths", [["1s"], ["8f"], ["9f"], ["7s"], ["31f", "2s", "17f"]], ids=lambda lengths: "+".join(lengths)
)
def test_a_film_has_exactly_its_frames(tmp_path, backend, lengths):
    shots = [{"prompt": f"shot {i}", "seconds": length, "cut": i > 0} for i, length in enumerate(lengths)]
    path = rendered(tmp_path / "film.mp4", film(*shots), backend)
    frames = sum(int(length[:-1]) * (12 if length.endswith("s") else 1) for length in lengths)
    assert len(pictures(path)) == reader.header(path).frames == frames
    assert len(pictures(tmp_path / "film.longvid" / "preview.mp4")) == frames


def test_the_film_is_what_the_loop_and_the_codec_give(tmp_path):
    """The pixels of a chunk, put together by hand from its saved latents."""
    rendered(tmp_path / "film.mp4", film(output={"scale": 2}))
    work, codec = (
        tmp_path / "film.longvid",
        TinyBackend().for_film(SPEC, RUNTIME).codec(),
    )
    carry = {}
    for chunk in range(9):
        latents = load_file(work / "latents" / f"{chunk:06d}.safetensors")["latents"]
        frames, carry = codec.decode(latents, carry)
        pixels = post.finish(frames[0], 2)
        assert pixels.shape == (8, 32, 48, 3)
        expected = writer.encode(pixels, Fraction(12), 18)
        assert (work / "segments" / f"{chunk:06d}.mp4").read_bytes() == expected


def test_what_comes_before_a_cut_is_the_film_that_ends_there(tmp_path):
    both = pictures(rendered(tmp_path / "both.mp4"))
    first = pictures(rendered(tmp_path / "first.mp4", film(*SHOTS[:2])))
    assert len(both) == 72 + 29
    assert both[:72] == first


def test_chapters_and_metadata(tmp_path):
    path = rendered(tmp_path / "film.mp4", film(title="Three shots"))
    header = reader.header(path)
    assert [title for title, _, _ in header.chapters] == ["Boat", "the sea in a storm", "a city at night"]
    planned = plan(film(title="Three shots"), TinyBackend())
    for (_, start, end), shot in zip(header.chapters, planned.shots, strict=True):
        assert start == pytest.approx(Fraction(shot.start_frame, 12), abs=1e-3)
        assert end == pytest.approx(Fraction(shot.end_frame, 12), abs=1e-3)
    told = header.metadata
    shots = json.loads(told["shots"])
    assert [shot["prompt"] for shot in shots] == [shot["prompt"] for shot in SHOTS]
    assert [(shot["start_frame"], shot["end_frame"], shot["cut"]) for shot in shots] == [
        (shot.start_frame, shot.end_frame, shot.cut) for shot in planned.shots
    ]
    assert told["title"] == "Three shots"
    assert (told["seed"], told["model"], told["longvid"]) == ("7", "tiny", longvid.__version__)
    assert told["plan"] == planned.effective()["sha256"]


# Bits


def test_the_same_seed_gives_the_same_bytes_and_another_differs(tmp_path):
    one, two = rendered(tmp_path / "one.mp4"), rendered(tmp_path / "two.mp4")
    assert one.read_bytes() == two.read_bytes()
    other = rendered(tmp_path / "other.mp4", film(seed=8))
    assert not set(pictures(one)) & set(pictures(other))


def test_the_film_names_no_date_host_or_path(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "my-very-own-host")
    content = rendered(tmp_path / "film.mp4").read_bytes()
    assert not (tmp_path / "film.longvid" / "lock").read_bytes(), "who held the lock is gone with the lock"
    for secret in (str(tmp_path), "my-very-own-host", "film.mp4", "film.longvid"):
        assert secret.encode() not in content
    assert not re.search(rb"20\d\d-\d\d-\d\d", content)


@pytest.mark.parametrize("solver", ["euler", "ab2"])
@pytest.mark.parametrize("chunk", [0, 4, 8, 9, 12])
def test_a_saved_state_is_all_it_takes_to_go_on(tmp_path, chunk, solver):
    """From the state behind any chunk the loop and the codec give the rest of the film, bit for bit."""
    backend = TinyBackend(causal=True, held_frames=3)
    planned = replace(plan(film(), backend), solver=solver)
    for _ in events(planned, tmp_path / "film.mp4", backend):
        pass
    work = tmp_path / "film.longvid"
    device = torch.device("cpu")
    start, carry = state.load_state(work / "states" / f"{chunk:06d}.safetensors", device)
    loaded = backend.for_film(planned.spec, RUNTIME)
    text, _ = sampling.encode_prompts(loaded, planned)
    codec = loaded.codec()
    rest = denoise(
        planned.walk.steps_in_order(),
        start,
        predict=classifier_free(loaded.denoiser(), text, [unit.guidance for unit in planned.units]),
        schedule=loaded.schedule,
        process=loaded.process,
        solver=SOLVERS[solver],
        total_levels=planned.steps,
        noise=per_unit([unit.seed for unit in planned.units], (3, 2, 4, 6)),
    )
    seen = []
    for _, finished in rest:
        for clean in finished:
            unit = planned.units[clean.unit]
            name = f"{unit.index:06d}"
            assert torch.equal(clean.latents, load_file(work / "latents" / f"{name}.safetensors")["latents"])
            ends = unit.chunk == planned.runs[unit.run] - 1
            frames, carry = finishing.decode(codec, clean.latents, carry if unit.chunk else {}, ends)
            written = files.read_sealed(work / "chunks" / f"{name}.json")["frames"]
            segment = writer.encode(post.finish(frames[:, :written]), planned.fps, planned.crf)
            assert (work / "segments" / f"{name}.mp4").read_bytes() == segment
            seen.append(unit.index)
    assert seen == list(range(chunk + 1, len(planned.units)))


# Stopping, failing


def test_events_come_in_order_and_everything_they_speak_of_is_there(tmp_path):
    planned = plan(film(), TinyBackend())
    steps = chunks = frames = 0
    kinds = []
    for event in events(planned, tmp_path / "film.mp4"):
        kinds.append(type(event))
        match event:
            case ChunkSaved():
                assert event.chunk == chunks
                chunks += 1
                frames += planned.units[event.chunk].frames
                assert event.frames_done == frames
                assert whole(tmp_path / "film.longvid") == list(range(chunks))
            case Stepped():
                steps += 1
                assert event.step == steps
                assert event.shot == planned.units[min(chunks, len(planned.units) - 1)].shot
            case PreviewWritten():
                assert len(pictures(Path(event.path))) == event.frames == frames
            case Done():
                assert event.bytes == (tmp_path / "film.mp4").stat().st_size
    assert (steps, chunks, frames) == (planned.evaluations, len(planned.units), planned.frames)
    assert kinds[2] is Began
    assert kinds[-1] is Done
    assert kinds.count(PreviewWritten) == 1, "a film of a second rebuilds its preview only at its end"


def test_a_stopped_render_keeps_what_is_finished_and_its_preview_plays(tmp_path):
    whole_film = pictures(rendered(tmp_path / "whole.mp4"))
    planned = plan(film(), TinyBackend())
    happening = events(planned, tmp_path / "film.mp4")
    for event in happening:
        if isinstance(event, ChunkSaved) and event.chunk == 4:
            break
    happening.close()
    work = tmp_path / "film.longvid"
    assert whole(work) == [0, 1, 2, 3, 4]
    assert pictures(work / "preview.mp4") == whole_film[:40]
    assert not (tmp_path / "film.mp4").exists()
    assert rendered(tmp_path / "film.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_stopping_before_anything_is_finished_leaves_the_way_free(tmp_path):
    happening = events(plan(film(), TinyBackend()), tmp_path / "film.mp4")
    assert len(list(islice(happening, 5))) == 5
    happening.close()
    rendered(tmp_path / "film.mp4")


@pytest.mark.parametrize("nth", [0, 1, 2, 3, 4, 5, 6, 7, 23, 54, 55, 56])
def test_a_disk_that_fills_up_at_any_write_loses_nothing(tmp_path, monkeypatch, nth):
    """The nth file cannot be renamed into place; 13 chunks and what is beside them are 57."""
    count, rename = 0, os.replace

    def replace_until_full(source: Path, target: Path) -> None:
        nonlocal count
        count += 1
        if count > nth:
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace_until_full)
    output = tmp_path / "film.mp4"
    with pytest.raises(RenderError, match="cannot be written: No space left on device"):
        rendered(output)
    assert not output.exists()
    finished = whole(tmp_path / "film.longvid")
    assert finished == list(range(len(finished)))
    monkeypatch.undo()
    again = list(
        rendering.events(plan(film(), TinyBackend()), TinyBackend(), output, fresh=True, device="cpu")
    )
    assert isinstance(again[-1], Done)


def test_the_timeline_is_no_film(tmp_path):
    timeline = tmp_path / "film.mp4"
    timeline.write_text('{"shots": [{"prompt": "a red boat", "seconds": 2}]}')
    with pytest.raises(UserError, match=r"film\.mp4: is the timeline itself; name another file"):
        longvid.render(timeline, timeline, overwrite=True)
    assert os.listdir(tmp_path) == ["film.mp4"]


def test_weights_that_cannot_be_loaded_leave_nothing_behind(tmp_path, monkeypatch):
    def missing(*args: object) -> None:
        raise UserError("weights: no denoiser.safetensors there")

    monkeypatch.setattr(TinyBackend, "for_film", missing)
    with pytest.raises(UserError, match=r"no denoiser\.safetensors there"):
        rendered(tmp_path / "film.mp4")
    assert not os.listdir(tmp_path)


def test_a_codec_that_gives_too_few_frames_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.tiny.TinyCodec.flush", lambda self, carry: None)
    with pytest.raises(RenderError, match="codec of tiny gave 3 frames less than its geometry"):
        rendered(tmp_path / "film.mp4", film({"prompt": "x", "seconds": 2}), TinyBackend(held_frames=3))


# The Python API


def test_one_call_renders_a_file_a_mapping_or_a_timeline(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(install_tiny(tmp_path / "plugins")))
    monkeypatch.chdir(tmp_path)
    content = {"model": "tiny", "seed": 3, "shots": [{"prompt": "a red boat", "seconds": 2}]}
    (tmp_path / "boat.yaml").write_text(json.dumps(content))
    first = longvid.render("boat.yaml")
    assert first == Path("boat.mp4")
    assert len(pictures(first)) == 24
    seen: list[Event] = []
    second = longvid.render(content, tmp_path / "second.mp4", show=seen.append)
    third = longvid.render(build(content), tmp_path / "third.mp4", seed=4)
    assert isinstance(seen[-1], Done)
    assert pictures(first) == pictures(second)
    assert not set(pictures(second)) & set(pictures(third))
    with pytest.raises(UserError, match=r"nothing can be kept \(other steps.*--fresh"):
        longvid.render("boat.yaml", draft=True)
    draft = longvid.render("boat.yaml", fresh=True, draft=True)
    assert len(pictures(draft)) == 24
    assert not set(pictures(draft)) & set(pictures(second))


def test_importing_longvid_is_light_and_knows_its_names():
    assert longvid.render is rendering.render
    with pytest.raises(AttributeError, match="has no attribute 'rendre'"):
        longvid.rendre  # noqa: B018
