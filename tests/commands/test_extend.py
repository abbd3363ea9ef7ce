"""`longvid extend`: a film of longvid's grows from its latents."""

from __future__ import annotations

import json
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

from longvid import clips, files, rendering, sampling, state, timeline
from longvid.denoise import WindowState, denoise
from longvid.errors import UserError
from longvid.extending import Longer, own_request
from longvid.files import read_sealed
from longvid.guidance import classifier_free
from longvid.keeping import read_request
from longvid.noise import per_unit
from longvid.processes import euler
from longvid.progress import Stepped
from longvid.request import Request
from longvid.settings import Overrides
from longvid.starts import Handoff
from longvid.state import WorkDirectory
from longvid.timeline import build
from longvid.video import reader
from tests.planning import longvid
from tests.tiny import RUNTIME, TinyBackend
from tests.walking import progressive

BOAT = {"prompt": "a red boat", "seconds": 4}
SEA = {"prompt": "the sea", "seconds": "26f", "guidance": 3}


pytestmark = pytest.mark.usefixtures("workplace")


def render(*shots: Mapping[str, Any], backend: TinyBackend | None = None) -> Path:
    film = build({"model": "tiny", "seed": 7, "shots": list(shots)})
    return go(Request(film, device="cpu", dtype="float32"), backend=backend)


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


def killed(*arguments: object) -> None:
    raise MemoryError  # as sudden as a kill


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


@pytest.mark.parametrize("handoff", ["context", "noised"])
def test_states_over_their_limit_go_and_it_becomes_the_same(
    handoff: Handoff, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the window begins with comes before states of the film as it was, and stays."""
    backend = TinyBackend(causal=True, held_frames=3)
    render(BOAT, SEA, backend=backend)
    shutil.copytree("film.longvid", "whole.longvid")
    shutil.copy("film.mp4", "whole.mp4")
    go(longer("whole.mp4", handoff), "whole.mp4", backend)
    monkeypatch.setattr(state, "STATE_BYTES", 1)
    request = longer(handoff=handoff)
    for stop_at in (1, 3, 5, 9, None):
        work = go(request, "film.mp4", backend, stop_at)
        request = read_request(work)
    assert Path("film.mp4").read_bytes() == Path("whole.mp4").read_bytes()
    assert len(list((work / "states").glob("[0-9]*.safetensors"))) == 1


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


def test_what_is_added_begins_where_the_last_chunk_ends() -> None:
    """74 frames in 10 chunks of 8: the six that were trimmed are the old shot's, and still count as added."""
    work = render(BOAT, SEA)
    ran = longvid("extend", "film.mp4", "--seconds", "2", "--prompt", "a storm", "-q")
    assert ran.code == 0, ran.err
    shots = json.loads(reader.header(Path("film.mp4")).metadata["shots"])
    spans = [(shot["prompt"], shot["start_frame"], shot["end_frame"]) for shot in shots]
    assert spans == [("a red boat", 0, 48), ("the sea", 48, 80), ("a storm", 80, 98)]
    plan = json.loads((work / "plan.json").read_text())
    assert [shot["first_unit"] for shot in plan["shots"]] == [0, 6, 10]


def test_so_little_that_the_last_chunk_has_it_costs_nothing() -> None:
    render(BOAT, SEA)
    ran = longvid("extend", "film.mp4", "--seconds", "3f", "--prompt", "a storm")
    assert ran.code == 2
    assert "the film's last chunk, under its own prompt, is 0.5 s longer than what is shown" in ran.err
    ran = longvid("extend", "film.mp4", "--seconds", "3f", "--progress", "plain")
    assert ran.code == 0, ran.err
    assert "keeps 10 of 10 chunks (0:06.417), renders 0, decodes 1 again" in ran.err
    assert reader.header(Path("film.mp4")).frames == 77


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
        (["--seconds", "0.01"], "--seconds 0.01: is less than a frame of film.mp4; at least 0.083 s"),
        (["--seconds", "2", "--dtype", "bfloat16"], "--dtype: film.mp4 is a film of longvid's"),
        (["--seconds", "2", "--device", "cuda:7"], "--device cuda:7: no such CUDA card"),
        (["--seconds", "2", "--prompt", " "], '--prompt "": is empty'),
        (
            ["--seconds", "2", "--steps", "4"],
            "--steps: film.mp4 is a film of longvid's and goes on as",
        ),
        (["--seconds", "2", "--fresh"], "--fresh: film.mp4 is a film of longvid's and goes on as it was"),
        (["--seconds", "2", "--native"], "--native: film.mp4 is a film of longvid's and goes on as it was"),
        (["--seconds", "2", "-o", "film.mp4.txt"], "--output film.mp4.txt: a film is written as .mp4"),
        (["--seconds", "2", "-o", "other.mp4"], "--output other.mp4: is there; name another"),
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


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("style: snow", "more.yaml:1: style: film.mp4 goes on as it was made; leave it out"),
        ("size: [24, 24]", "more.yaml:1: size: film.mp4 goes on as it was made; leave it out"),
        ("model: other", "more.yaml:1: model: film.mp4 goes on as it was made; leave it out"),
        ("output: {title: A}", "more.yaml:1: output: film.mp4 goes on as it was made; leave it out"),
        ("start_from: film.mp4", "more.yaml:1: start_from: film.mp4 goes on as it was made; leave it out"),
    ],
)
def test_what_a_timeline_says_of_another_film_is_not_passed_over(written: str, message: str) -> None:
    render(BOAT)
    Path("more.yaml").write_text(f"{written}\nshots:\n  - {{prompt: a storm, seconds: 2}}\n")
    ran = longvid("extend", "film.mp4", "--timeline", "more.yaml")
    assert (ran.code, ran.err.splitlines()[-1]) == (2, f"error: {message}")


def test_what_a_timeline_says_of_all_its_shots_goes_for_them() -> None:
    """And what it says of the film is right."""
    render(BOAT)
    Path("more.yaml").write_text(
        "model: tiny\nseed: 9\nnegative: rain\nguidance: 4\n"
        "shots:\n  - {prompt: a storm, seconds: 2}\n  - {prompt: a city, seconds: 2, seed: 5, negative: ''}\n"
    )
    longer = Longer(None, None, timeline.load(Path("more.yaml")))
    planned = own_request(Path("film.mp4"), longer, "context").plan(TinyBackend())
    assert [(shot.seed, shot.guidance) for shot in planned.shots[1:]] == [(9, 4), (5, 4)]
    assert dict(zip(planned.prompts, planned.negatives, strict=True)) == {
        "a red boat": "",
        "a storm": "rain",
        "a city": "",
    }


def test_a_first_picture_that_cannot_be_is_told_where_it_is_written() -> None:
    render(BOAT)
    Path("a.png").write_bytes(b"a picture")
    Path("more.yaml").write_text("shots:\n  - {prompt: a storm, seconds: 2, image: a.png}\n")
    ran = longvid("extend", "film.mp4", "--timeline", "more.yaml")
    assert ran.code == 2
    assert ran.err.splitlines()[-1] == (
        "error: more.yaml:2: shots[0].image: this shot flows on from film.mp4; "
        "add `cut: true` to begin anew from a picture"
    )


def test_another_output_that_was_only_begun_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the first of its files was written."""
    work = render(BOAT)
    before = checksums(work)
    with monkeypatch.context() as patch:
        patch.setattr(rendering, "_render", killed)
        with pytest.raises(MemoryError):
            longvid("extend", "film.mp4", "--seconds", "2", "-o", "long.mp4", "-q")
    ran = longvid("extend", "film.mp4", "--seconds", "2", "-o", "long.mp4")
    assert ran.code == 2
    assert "long.longvid is there; `longvid resume` goes on with it" in ran.err
    assert longvid("resume", "long.longvid", "-q").code == 0
    assert reader.header(Path("long.mp4")).frames == 72
    assert checksums(work) == before


def test_an_unfinished_film_is_finished_first() -> None:
    render(BOAT)
    go(longer(), stop_at=3)
    ran = longvid("extend", "film.mp4", "--seconds", "2")
    assert ran.code == 2
    assert "film.mp4: is not finished; `longvid resume film.longvid` goes on with it first" in ran.err
    assert longvid("resume", "film.longvid", "-q").code == 0
    assert reader.header(Path("film.mp4")).frames == 48 + 36


CUT = {"prompt": "a city", "seconds": "16f", "cut": True}


def test_no_more_is_noised_than_follows_the_last_cut() -> None:
    """Six chunks and, behind a cut, two: the first of those stands clean in front."""
    render(BOAT, CUT)
    start = longer(handoff="noised").start
    assert start is not None
    assert (start.given, start.noised) == (7, 1)


def test_where_nothing_can_be_noised_it_is_told() -> None:
    render(BOAT, {**CUT, "seconds": "8f"})
    Path("more.yaml").write_text("shots:\n  - {prompt: a storm, seconds: 2, cut: true}\n")
    for flags in (("--seconds", "2"), ("--timeline", "more.yaml")):
        ran = longvid("extend", "film.mp4", *flags, "--handoff", "noised")
        assert ran.code == 2
        assert "--handoff noised: takes two chunks at least" in ran.err.splitlines()[-1]
    render_again = longvid("extend", "film.mp4", "--timeline", "more.yaml", "-q")
    assert render_again.code == 0


def test_within_what_was_trimmed_nothing_is_rendered() -> None:
    """The film's last chunk had six frames more than it showed."""
    render(BOAT, SEA)
    shown = pixels("film.mp4")
    ran = longvid("extend", "film.mp4", "--seconds", "4f", "--progress", "plain")
    assert ran.code == 0, ran.err
    assert "keeps 10 of 10 chunks (0:06.5), renders 0, decodes 1 again" in ran.err
    now = pixels("film.mp4")
    assert len(now) == 74 + 4
    for one, other in zip(shown, now, strict=False):
        assert np.abs(one.astype(int) - other).max() <= 12, "what an encoder leaves"


def test_a_guidance_of_its_own_goes_before_the_flag_of_the_film() -> None:
    film = build({"model": "tiny", "seed": 7, "shots": [BOAT, SEA]})
    go(Request(film, overrides=Overrides(guidance=5)))
    backend = TinyBackend()
    for guidance, wanted in ((None, 5), (4, 4)):
        request = own_request(Path("film.mp4"), Longer("3", None, None, guidance=guidance), "noised")
        assert [shot.guidance for shot in request.plan(backend).shots] == [5, 5, wanted]


def test_the_seed_of_a_take_stays() -> None:
    film = build({"model": "tiny", "seed": 7, "shots": [BOAT, SEA]})
    go(Request(film, overrides=Overrides(branch_at="0:02", branch_seed=3)))
    with pytest.raises(UserError, match=r"--seed: film.mp4 has one of its own from 0:02 on; leave it out"):
        own_request(Path("film.mp4"), Longer("3", None, None, seed=4), "context")


def test_only_what_the_window_holds_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not grow with the film: ten chunks, of which four are read."""
    work = render(BOAT, SEA)
    read: list[str] = []

    def counted(path: Path, *arguments: Any) -> dict[str, Tensor]:
        read.append(Path(path).name)
        return load_file(path, *arguments)

    monkeypatch.setattr(clips, "load_file", counted)
    go(longer(handoff="noised"), stop_at=1)
    assert read == [f"{unit:06d}.safetensors" for unit in (6, 7, 8, 9)]
    assert work.is_dir()


def test_what_was_noised_is_found_in_the_take_that_has_it() -> None:
    """Made anew and then lost, with every state: it begins with the old chunks once more."""
    render(BOAT, SEA)
    work = go(longer(handoff="noised"))
    whole, before = Path("film.mp4").read_bytes(), checksums(work, "latents")
    for left in (work / "states").iterdir():
        left.unlink()
    (work / "latents" / "000008.safetensors").unlink()
    ran = longvid("resume", "film.longvid", "--progress", "plain")
    assert ran.code == 0, ran.err
    assert Path("film.mp4").read_bytes() == whole
    after = checksums(work, "latents")
    assert {name: after[name] for name in before if name.startswith("latents")} == {
        name: before[name] for name in before if name.startswith("latents")
    }


def test_chunks_of_another_size_are_no_start() -> None:
    """As where another model is the usual one by now."""
    work = render(BOAT)
    plan = read_sealed(work / "plan.json")
    assert plan is not None
    files.write_sealed(work / "plan.json", {**plan, "model": "other"})
    with pytest.raises(UserError, match=r"film.longvid: its chunks cannot be kept \(other model\)"):
        longer()


def test_a_film_whose_chunks_were_let_go_of_is_a_clip() -> None:
    render(BOAT)
    assert longvid("clean", "film.longvid", "--finished", "--older-than", "0", "--yes").code == 0
    ran = longvid("extend", "film.mp4", "--seconds", "2", "--model", "tiny", "-q")
    assert (ran.code, ran.out) == (0, "film-extended.mp4\n"), ran.err


@pytest.mark.parametrize(
    "place", ["save_entry", "take_aside", "forget", "write_run", "write_plan", "write_request"]
)
def test_killed_while_it_takes_its_chunks_over(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    render(BOAT, SEA)
    shutil.copytree("film.longvid", "whole.longvid")
    shutil.copy("film.mp4", "whole.mp4")
    go(longer("whole.mp4", "noised"), "whole.mp4")

    with monkeypatch.context() as patch:
        patch.setattr(WorkDirectory, place, killed)
        with pytest.raises(MemoryError):
            go(longer(handoff="noised"))
    assert longvid("resume", "film.longvid", "-q").code == 0
    if reader.header(Path("film.mp4")).frames == 74:  # it was not under way yet
        go(longer(handoff="noised"))
    assert Path("film.mp4").read_bytes() == Path("whole.mp4").read_bytes()
