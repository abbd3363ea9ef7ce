"""Chunks that are finished by a thread, beside the denoising: the same film, and nothing is cut short."""

import threading
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from longvid import rendering, state
from longvid.backends import RESIDENT, Rung
from longvid.finishing import Finishing
from longvid.plan import plan
from longvid.progress import ChunkSaved, Done, Stepped
from longvid.timeline import build
from tests.test_rendering import events, film, rendered, whole
from tests.tiny import TinyBackend, TinyCodec

decode = TinyCodec.decode
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _in_a_thread(monkeypatch):
    monkeypatch.setattr(rendering, "Finishing", partial(Finishing, beside=True))


def decoding_threads(monkeypatch) -> set[str]:
    """Fills with the names of the threads that chunks are decoded in."""
    names: set[str] = set()

    def decoding(self, chunk, carry):
        names.add(threading.current_thread().name)
        return decode(self, chunk, carry)

    monkeypatch.setattr(TinyCodec, "decode", decoding)
    return names


def test_the_bytes_are_those_of_a_film_without_a_thread(tmp_path, monkeypatch):
    backend = TinyBackend(causal=True, held_frames=3)
    beside = rendered(tmp_path / "beside.mp4", backend=backend)
    monkeypatch.undo()
    names = decoding_threads(monkeypatch)
    alone = rendered(tmp_path / "alone.mp4", backend=backend)
    assert beside.read_bytes() == alone.read_bytes()
    assert names == {"MainThread"}
    for kind in ("latents", "segments"):
        for path in (tmp_path / "alone.longvid" / kind).iterdir():
            assert path.read_bytes() == (tmp_path / "beside.longvid" / kind / path.name).read_bytes()
    for path in (tmp_path / "alone.longvid" / "states").glob("*.safetensors"):
        ours, carry = state.load_state(tmp_path / "beside.longvid" / "states" / path.name, CPU)
        theirs, their_carry = state.load_state(path, CPU)
        assert (ours.step, ours.units, ours.levels) == (theirs.step, theirs.units, theirs.levels)
        assert torch.equal(ours.latents, theirs.latents)
        assert all(torch.equal(carry[name], tensor) for name, tensor in their_carry.items())


@pytest.mark.parametrize("beside", [True, False])
def test_the_rung_says_whether_there_is_room_for_both(tmp_path, monkeypatch, beside):
    names = decoding_threads(monkeypatch)
    rung = Rung(RESIDENT, None, "all of it", decodes_beside=beside)
    rendered(tmp_path / "film.mp4", backend=TinyBackend(ladder=(rung,)))
    assert len(names) == 1
    assert (names == {"MainThread"}) is not beside


def test_the_denoising_goes_on_meanwhile(tmp_path, monkeypatch):
    """A chunk that waits for the next two steps is finished, so they are not waiting for it."""
    steps = 0
    stepped = threading.Condition()

    def decoding(self, chunk, carry):
        with stepped:
            seen = steps
            assert stepped.wait_for(lambda: steps >= min(seen + 2, planned.evaluations - 1), timeout=20)
        return decode(self, chunk, carry)

    monkeypatch.setattr(TinyCodec, "decode", decoding)
    planned = plan(film({"prompt": "a red boat", "seconds": 2}), TinyBackend())
    chunks = []
    for event in events(planned, tmp_path / "film.mp4"):
        if isinstance(event, Stepped):
            with stepped:
                steps = event.step
                stepped.notify_all()
        elif isinstance(event, ChunkSaved):
            chunks.append((event.chunk, steps))
    assert isinstance(event, Done)
    assert [chunk for chunk, _ in chunks] == [0, 1, 2]
    assert chunks[0][1] > 8, "the first one, which eight steps make, is told of two steps later"


def test_a_render_that_is_closed_waits_for_the_chunk_at_hand(tmp_path, monkeypatch):
    begun = threading.Event()

    def slow(self, chunk, carry):
        begun.set()
        time.sleep(0.2)
        return decode(self, chunk, carry)

    monkeypatch.setattr(TinyCodec, "decode", slow)
    happening = events(plan(film(), TinyBackend()), tmp_path / "film.mp4")
    for event in happening:
        if isinstance(event, Stepped) and begun.is_set():
            break
        assert not isinstance(event, ChunkSaved)
    assert whole(tmp_path / "film.longvid") == []
    happening.close()
    assert whole(tmp_path / "film.longvid") == [0]
    assert (tmp_path / "film.longvid" / "preview.mp4").exists()


def test_the_codec_before_leaves_first(tmp_path):
    """So that two are never in memory."""
    planned = plan(build({"shots": [{"prompt": "a", "seconds": 1}]}), TinyBackend())
    finishing = Finishing(planned, [""] * len(planned.units), Path(), CPU)
    rung = Rung("tiled", None, "in tiles", exact=False)
    loaded = []

    def load() -> TinyCodec:
        assert finishing.codec is None
        loaded.append(TinyCodec(causal=False, held_frames=0))
        return loaded[-1]

    for _ in range(2):
        finishing.use(load, rung)
        assert finishing.codec is loaded[-1]
        assert finishing.rung == "tiled"
    finishing.use(load, Rung(RESIDENT, None, "all of it"))
    assert finishing.rung is None
