"""`longvid extend`: a film of longvid's grows from its latents."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from longvid import files, rendering, sampling
from longvid.denoise import WindowState, denoise
from longvid.extending import Longer, own_request
from longvid.files import read_sealed
from longvid.guidance import classifier_free
from longvid.keeping import read_request
from longvid.noise import per_unit
from longvid.processes import euler
from longvid.progress import Stepped
from longvid.request import Request
from longvid.starts import Handoff
from longvid.timeline import build
from longvid.video import reader
from tests.installed import install_tiny
from tests.looping import progressive
from tests.planning import longvid
from tests.tiny import RUNTIME, TinyBackend

BOAT = {"prompt": "a red boat", "seconds": 4}
SEA = {"prompt": "the sea", "seconds": "26f", "guidance": 3}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, where the tiny model is installed."""
    monkeypatch.syspath_prepend(str(install_tiny(tmp_path / "plugins")))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def render(*shots: Mapping[str, Any], backend: TinyBackend | None = None) -> Path:
    return go(Request(build({"model": "tiny", "seed": 7, "shots": list(shots)})), backend=backend)


def go(
    request: Request,
    output: str = "film.mp4",
    backend: TinyBackend | None = None,
    stop_at: int | None = None,
) -> Path:
    """Render in this process, to the end or to behind a step; the work directory."""
    backend = backend or TinyBackend()
    planned = request.plan(backend)
    options = {"device": "cpu", "dtype": "float32", "request": request}
    with closing(rendering.events(planned, backend, Path(output), **options)) as happening:
        for event in happening:
            if isinstance(event, Stepped) and event.step == stop_at:
                break
    return Path(output).with_suffix(".longvid")


def longer(film: str = "film.mp4", handoff: Handoff = "context") -> Request:
    return own_request(Path(film), Longer("3", None, None), handoff)


def checksums(work: Path, *folders: str) -> dict[str, str]:
    """Of latents and segments, and of the records without their timings."""
    found = {}
    for folder in folders or ("latents", "segments"):
        found |= {f"{folder}/{path.name}": files.checksum(path) for path in (work / folder).iterdir()}
    for path in (work / "chunks").iterdir():
        record = read_sealed(path)
        assert record is not None
        del record["seconds"]
        found[f"chunks/{path.name}"] = json.dumps(record, sort_keys=True)
    return found


def pixels(film: str) -> list[np.ndarray[Any, Any]]:
    return [frame for _, frame in reader.frames(Path(film))]


def test_a_film_grows_from_its_latents() -> None:
    """6.17 s, 74 frames in 10 chunks of which the last is trimmed by 6; and then 3 s more."""
    render(BOAT, SEA)
    before, shown = checksums(Path("film.longvid")), pixels("film.mp4")
    ran = longvid("extend", "film.mp4", "--seconds", "3", "--progress", "plain")
    assert (ran.code, ran.out) == (0, "film.mp4\n"), ran.err
    assert "keeps 10 of 14 chunks (0:06.667), renders 4, decodes 1 again" in ran.err
    assert "what is replaced is kept in film.longvid/takes/1" in ran.err
    after = checksums(Path("film.longvid"))
    same = [f"latents/{unit:06d}.safetensors" for unit in range(10)]
    same += [f"segments/{unit:06d}.mp4" for unit in range(9)]
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert checksums(Path("film.longvid/takes/1")) == before
    header = reader.header(Path("film.mp4"))
    assert header.frames == 74 + 36
    # What was trimmed is shown now: the picture goes on where it was, not where the chunk ended.
    now = pixels("film.mp4")
    assert all(np.array_equal(one, other) for one, other in zip(shown[:72], now[:72], strict=True))
    shots = json.loads(header.metadata["shots"])
    assert [shot["prompt"] for shot in shots] == ["a red boat", "the sea", "the sea"]
    assert shots[-1]["end_frame"] == 110
    ran = longvid("verify", "film.longvid", "-q")
    assert ran.code == 0, ran.out


@pytest.mark.parametrize("handoff", ["context", "noised"])
def test_the_new_chunks_are_what_the_loop_makes_of_the_old_ones(handoff: Handoff) -> None:
    render(BOAT, SEA)
    before = latents(10)
    request = longer(handoff=handoff)
    planned = request.plan(TinyBackend())
    assert planned.start is not None
    given = {"context": 10, "noised": 7}[handoff]
    assert (planned.start.given, planned.start.noised) == (given, 10 - given)
    go(request)
    film = TinyBackend().for_film(planned.spec, RUNTIME)
    text, _ = sampling.encode_prompts(film, planned)
    units = tuple(range(given - 1, 10))
    states = denoise(
        progressive(planned.runs, planned.steps, planned.window, given=given, noised=10 - given),
        WindowState(0, units, (0,) * len(units), torch.cat([before[unit] for unit in units], dim=2), None),
        predict=classifier_free(film.denoiser(), text, [unit.guidance for unit in planned.units]),
        schedule=film.schedule,
        process=film.process,
        solver=euler,
        total_levels=planned.steps,
        noise=per_unit([unit.seed for unit in planned.units], (3, 2, 4, 6)),
    )
    finished = [unit.latents for _, done in states for unit in done]
    after = latents(14)
    for unit in range(given):
        assert torch.equal(after[unit], before[unit])
    for found, wanted in zip(after[given:], finished, strict=True):
        assert torch.equal(found, wanted)


def latents(count: int) -> list[Tensor]:
    folder = Path("film.longvid/latents")
    return [load_file(folder / f"{unit:06d}.safetensors")["latents"] for unit in range(count)]


@pytest.mark.parametrize("handoff", ["context", "noised"])
@pytest.mark.parametrize("held_frames", [0, 3])
def test_stopped_anywhere_it_becomes_the_same(handoff: Handoff, held_frames: int) -> None:
    backend = TinyBackend(causal=True, held_frames=held_frames)
    render(BOAT, SEA, backend=backend)
    shutil.copytree("film.longvid", "whole.longvid")
    shutil.copy("film.mp4", "whole.mp4")
    whole = go(longer("whole.mp4", handoff), "whole.mp4", backend)
    request = longer(handoff=handoff)
    for stop_at in (1, 2, 5, 8, 9, 11, None):
        work = go(request, "film.mp4", backend, stop_at)
        for left in (work / "states").glob("stop.*") if stop_at in (5, 9) else ():
            left.unlink()  # as after a kill
        request = read_request(work)
    assert Path("film.mp4").read_bytes() == Path("whole.mp4").read_bytes()
    assert checksums(work) == checksums(whole)


def test_a_film_that_grew_grows_on_and_is_edited() -> None:
    render(BOAT, SEA)
    for prompt in ("a storm", "a calm sea"):
        ran = longvid("extend", "film.mp4", "--seconds", "2", "--prompt", prompt, "-q")
        assert ran.code == 0, ran.err
    header = reader.header(Path("film.mp4"))
    assert header.frames == 74 + 48
    shots = json.loads(header.metadata["shots"])
    assert [shot["prompt"] for shot in shots] == ["a red boat", "the sea", "a storm", "a calm sea"]
    ran = longvid("extend", "film.mp4", "--seconds", "2", "--handoff", "noised", "-q")
    assert ran.code == 0, ran.err
    assert reader.header(Path("film.mp4")).frames == 74 + 72
    assert longvid("verify", "film.longvid", "-q").code == 0


def test_shots_of_a_timeline_are_put_behind() -> None:
    render(BOAT)
    Path("more.yaml").write_text(
        "shots:\n"
        "  - {prompt: a storm, at: 0, until: 30f}\n"
        "  - {prompt: a city, at: 30f, seconds: 2, cut: true, seed: 3}\n"
    )
    ran = longvid("extend", "film.mp4", "--timeline", "more.yaml", "-q")
    assert ran.code == 0, ran.err
    header = reader.header(Path("film.mp4"))
    shots = json.loads(header.metadata["shots"])
    assert [(shot["prompt"], shot["start_frame"], shot["end_frame"], shot["cut"]) for shot in shots] == [
        ("a red boat", 0, 48, False),
        ("a storm", 48, 78, False),
        ("a city", 78, 102, True),
    ]


def test_another_output_leaves_the_film_as_it_was() -> None:
    work = render(BOAT)
    before, film = checksums(work), Path("film.mp4").read_bytes()
    ran = longvid("extend", "film.mp4", "--seconds", "2", "-o", "long.mp4", "-q")
    assert (ran.code, ran.out) == (0, "long.mp4\n"), ran.err
    assert (checksums(work), Path("film.mp4").read_bytes()) == (before, film)
    assert reader.header(Path("long.mp4")).frames == 72
    shared = [f"{unit:06d}.safetensors" for unit in range(5)]
    for name in shared:
        assert (work / "latents" / name).samefile(Path("long.longvid/latents") / name)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "extend takes --seconds, or a --timeline that says how long: one of the two"),
        (["--seconds", "0"], "--seconds 0: is no time to go on for; more than 0"),
        (["--seconds", "-3"], "--seconds: '-3' is not a time"),
        (["--seconds", "2", "--prompt", " "], '--prompt "": is empty'),
        (
            ["--seconds", "2", "--steps", "4"],
            "--steps: film.mp4 is a film of longvid's and goes on as",
        ),
        (["--seconds", "2", "--native"], "--native: film.mp4 is a film of longvid's and goes on as it was"),
        (["--seconds", "2", "-o", "film.mp4.txt"], "--output film.mp4.txt: a film is written as .mp4"),
        (["--seconds", "2", "-o", "other.mp4"], "--output other.mp4: is there, or its work directory"),
    ],
)
def test_wrong_input_costs_nothing(flags: list[str], message: str) -> None:
    work = render(BOAT)
    Path("other.mp4").write_bytes(b"other")
    before = checksums(work)
    ran = longvid("extend", "film.mp4", *flags)
    assert ran.code == 2
    assert message in ran.err.splitlines()[-1]
    assert checksums(work) == before
    assert sorted(path.name for path in Path().iterdir()) == ["film.longvid", "film.mp4", "other.mp4"]


def test_an_unfinished_film_is_finished_first() -> None:
    render(BOAT)
    go(longer(), stop_at=3)
    ran = longvid("extend", "film.mp4", "--seconds", "2")
    assert ran.code == 2
    assert "film.mp4: is not finished; `longvid resume film.longvid` goes on with it first" in ran.err
    assert longvid("resume", "film.longvid", "-q").code == 0
    assert reader.header(Path("film.mp4")).frames == 48 + 36
