"""Memory that runs out in the middle of a film: one rung down, and on from the last step."""

import threading
import weakref
from collections.abc import Callable
from functools import partial
from itertools import count

import pytest
import torch

from longvid import files, rendering
from longvid.backends import RESIDENT, Rung
from longvid.errors import RenderError
from longvid.finishing import Finishing
from longvid.plan import plan
from longvid.progress import ChunkSaved, Done, Noted, Stepped
from tests.test_rendering import events, film, pictures, rendered, whole
from tests.tiny import TinyBackend, TinyCodec, TinyDenoiser, TinyFilm

LADDER = (
    Rung(RESIDENT, 30, "all of it stays"),
    Rung("half", 20, "half of it stays", decodes_beside=False),
    Rung("none", 10, "nothing stays"),
)
SHOTS = (
    {"prompt": "a red boat", "seconds": 3},
    {"prompt": "a city at night", "seconds": "29f", "cut": True, "guidance": 1},
)


@pytest.fixture(params=[False, True], ids=["at once", "in a thread"])
def beside(request, monkeypatch) -> bool:
    monkeypatch.setattr(rendering, "Finishing", partial(Finishing, beside=request.param))
    return request.param


@pytest.fixture(autouse=True)
def _disk_in_no_hurry(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def runs_out(monkeypatch, owner: type, name: str, when: Callable[[int], bool]) -> None:
    """Memory runs out at those calls of a method, counted from 0, that are asked for."""
    calls, method = count(), getattr(owner, name)

    def limited(*args: object) -> object:
        if when(next(calls)):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return method(*args)

    monkeypatch.setattr(owner, name, limited)


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (TinyFilm, "text_encoder", 0),
        (TinyFilm, "denoiser", 0),
        (TinyFilm, "codec", 0),
        *((TinyDenoiser, "__call__", call) for call in (0, 1, 17, 18, 19, 40)),
        *((TinyCodec, "decode", call) for call in (0, 3, 4, 8)),
    ],
)
@pytest.mark.usefixtures("beside")
def test_the_film_is_that_of_enough_memory(tmp_path, monkeypatch, owner, name, call):
    backend = TinyBackend(causal=True, held_frames=3, ladder=LADDER)
    undisturbed = rendered(tmp_path / "undisturbed.mp4", film(*SHOTS), backend)
    assert files.read_sealed(tmp_path / "undisturbed.longvid" / "run.json")["rung"] == RESIDENT
    runs_out(monkeypatch, owner, name, lambda n: n == call)
    planned = plan(film(*SHOTS), backend)
    told = list(events(planned, tmp_path / "film.mp4", backend))
    assert [event for event in told if isinstance(event, Noted)] == [
        Noted("memory ran out; goes on from the last step: half of it stays", warning=True)
    ]
    steps = [event.step for event in told if isinstance(event, Stepped)]
    assert steps == sorted(set(steps)), "no step is taken twice"
    assert len(steps) >= planned.evaluations - 1, "one may go untold: that whose chunk did not get finished"
    assert [event.chunk for event in told if isinstance(event, ChunkSaved)] == list(range(len(planned.units)))
    assert isinstance(told[-1], Done)
    assert (tmp_path / "film.mp4").read_bytes() == undisturbed.read_bytes()
    run = files.read_sealed(tmp_path / "film.longvid" / "run.json")
    assert (run["rung"], run["status"]) == ("half", "finished")
    for kind in ("latents", "segments"):
        for path in (tmp_path / "film.longvid" / kind).iterdir():
            assert path.read_bytes() == (tmp_path / "undisturbed.longvid" / kind / path.name).read_bytes()


@pytest.mark.usefixtures("beside")
def test_every_rung_is_tried(tmp_path, monkeypatch):
    backend = TinyBackend(ladder=LADDER)
    undisturbed = rendered(tmp_path / "undisturbed.mp4", film(*SHOTS), backend)
    runs_out(monkeypatch, TinyDenoiser, "__call__", lambda n: n in (10, 30))
    told = list(events(plan(film(*SHOTS), backend), tmp_path / "film.mp4", backend))
    assert [event.text.partition(": ")[2] for event in told if isinstance(event, Noted)] == [
        "half of it stays",
        "nothing stays",
    ]
    assert (tmp_path / "film.mp4").read_bytes() == undisturbed.read_bytes()
    assert files.read_sealed(tmp_path / "film.longvid" / "run.json")["rung"] == "none"


@pytest.mark.parametrize(
    ("owner", "name", "call", "chunks"), [(TinyDenoiser, "__call__", 40, 6), (TinyCodec, "decode", 3, 3)]
)
@pytest.mark.usefixtures("beside")
def test_the_last_rung_s_failure_keeps_what_is_finished(tmp_path, monkeypatch, owner, name, call, chunks):
    backend = TinyBackend(ladder=LADDER)
    undisturbed = pictures(rendered(tmp_path / "undisturbed.mp4", film(*SHOTS), backend))
    runs_out(monkeypatch, owner, name, lambda n: n >= call)
    with pytest.raises(RenderError, match="has not enough memory for 24x16; choose a smaller `size`"):
        rendered(tmp_path / "film.mp4", film(*SHOTS), backend)
    assert whole(tmp_path / "film.longvid") == list(range(chunks))
    frames = sum(unit.frames for unit in plan(film(*SHOTS), backend).units[:chunks])
    assert pictures(tmp_path / "film.longvid" / "preview.mp4") == undisturbed[:frames]
    run = files.read_sealed(tmp_path / "film.longvid" / "run.json")
    assert (run["rung"], run["status"]) == ("none", "unfinished")


@pytest.mark.usefixtures("beside")
def test_chunks_name_the_rung_that_changed_their_pixels(tmp_path, monkeypatch):
    tiled = Rung("tiled", 5, "in tiles", exact=False)
    backend = TinyBackend(ladder=(*LADDER[:1], tiled))
    runs_out(monkeypatch, TinyCodec, "decode", lambda n: n == 4)
    rendered(tmp_path / "film.mp4", film(*SHOTS), backend)
    records = [files.read_sealed(path) for path in sorted((tmp_path / "film.longvid" / "chunks").iterdir())]
    assert [record.get("rung") for record in records] == [None] * 4 + ["tiled"] * (len(records) - 4)


def test_what_fails_on_both_sides_at_once_is_one_rung(tmp_path, monkeypatch):
    """The decoding in the thread runs out of memory while the denoising has already done so."""
    monkeypatch.setattr(rendering, "Finishing", partial(Finishing, beside=True))
    backend = TinyBackend(ladder=LADDER)
    undisturbed = rendered(tmp_path / "undisturbed.mp4", film(*SHOTS), backend)
    decoding, denoised = threading.Event(), threading.Event()
    predict, decode = TinyDenoiser.__call__, TinyCodec.decode

    def predicting(self, *args):
        if decoding.is_set() and not denoised.is_set():
            denoised.set()
            raise torch.OutOfMemoryError
        return predict(self, *args)

    def waiting(self, *args):
        if not decoding.is_set():
            decoding.set()
            assert denoised.wait(timeout=20)
            raise torch.OutOfMemoryError
        return decode(self, *args)

    monkeypatch.setattr(TinyDenoiser, "__call__", predicting)
    monkeypatch.setattr(TinyCodec, "decode", waiting)
    told = list(events(plan(film(*SHOTS), backend), tmp_path / "film.mp4", backend))
    assert sum(isinstance(event, Noted) for event in told) == 1
    assert (tmp_path / "film.mp4").read_bytes() == undisturbed.read_bytes()


def test_memory_that_runs_out_is_free_again_for_the_next_rung(tmp_path, monkeypatch):
    """Nothing of the network that was too large is left when the next one is loaded."""
    load = TinyFilm.denoiser
    loaded: list[weakref.ref[TinyDenoiser]] = []

    def loading(self):
        assert [denoiser() for denoiser in loaded] == [None] * len(loaded)
        denoiser = load(self)
        loaded.append(weakref.ref(denoiser))
        return denoiser

    monkeypatch.setattr(TinyFilm, "denoiser", loading)
    runs_out(monkeypatch, TinyDenoiser, "__call__", lambda n: n in (5, 20))
    rendered(tmp_path / "film.mp4", film(*SHOTS), TinyBackend(ladder=LADDER))
    assert len(loaded) == 3
