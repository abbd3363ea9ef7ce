"""Latents and embeddings on disk: what they are, once, whole, and gone on with."""

from __future__ import annotations

import shutil
import tracemalloc
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from longvid.backends import FilmSpec, Runtime
from longvid.backends.diorama import backend as diorama
from longvid.datasets import Clip
from longvid.errors import LockedError, RenderError, UserError
from longvid.locks import locked
from longvid.training.cache import Encoded, Prepared
from longvid.training.dataset import select as select_dataset
from longvid.training.material import Format, Material, describe
from longvid.training.passages import Selection, select
from longvid.training.prepared import CachedSequences, cell_weights, collect, encoded, load
from tests.disk import Disk, Killed
from tests.tiny import RUNTIME, SPEC, TinyBackend, TinyCodec, TinyFilm, TinyTextEncoder
from tests.training.footage import REAL, captioned, look_through, real_clip, with_cuts

TINY = Format(TinyBackend().geometry, (24, 16), Fraction(12), chunks=3)
FILM = TinyBackend().for_film(SPEC, RUNTIME)


class Watched:
    """The tiny model, which counts how often its parts are loaded and used."""

    def __init__(self, film: TinyFilm = FILM, fingerprint: str = "tiny") -> None:
        self.film, self.fingerprint = film, fingerprint
        self.loaded: list[str] = []
        self.captions: list[str] = []
        self.videos = 0

    def codec(self) -> WatchedCodec:
        self.loaded.append("codec")
        return WatchedCodec(self)

    def text_encoder(self) -> WatchedEncoder:
        self.loaded.append("text encoder")
        return WatchedEncoder(self)


class WatchedCodec:
    def __init__(self, watched: Watched) -> None:
        self.watched, self.codec = watched, watched.film.codec()

    def encode(self, video: Tensor) -> Tensor:
        self.watched.videos += 1
        return self.codec.encode(video)


class WatchedEncoder:
    def __init__(self, watched: Watched) -> None:
        self.watched, self.encoder = watched, watched.film.text_encoder()

    def __call__(self, prompts: list[str]):
        self.watched.captions += prompts
        return self.encoder(prompts)


def chosen(folder: Path, format: Format = TINY, held_out: Fraction = Fraction(1, 20)) -> Selection:
    return select(look_through(folder / "data", folder / "scans"), format, held_out)


def prepare(selection: Material, film, cache: Path, workers: int = 2) -> Prepared[CachedSequences]:
    for _ in encoded(selection, film, RUNTIME, cache, workers):
        pass
    return collect(selection, film, RUNTIME, cache)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three clips of one, two and two passages."""
    captioned(tmp_path / "data" / "a.mp4", "a red boat", frames=24)
    captioned(tmp_path / "data" / "b.mp4", "the sea at dawn", frames=36, size=(96, 64))
    captioned(tmp_path / "data" / "c.mp4", "a red boat", frames=60, draw=with_cuts(30))
    return tmp_path


def test_latents_are_the_codecs_of_the_passages_pixels_under_their_captions(data: Path) -> None:
    selection = chosen(data, held_out=Fraction(0))
    prepared = prepare(selection, FILM, data / "cache")
    sequences = prepared.training
    assert sequences.chunks == (3, 3, 3, 3, 3, 3, 3)
    assert prepared.held_out.chunks == () and prepared.problems == ()
    for index, clip in enumerate(selection.shown(range(7), 1)):
        assert isinstance(clip, Clip)
        video = torch.from_numpy(clip.pixels).permute(3, 0, 1, 2)[None] / 127.5 - 1
        latents = TinyCodec(False, 0).encode(video)[0].half().float()
        whole = sequences.excerpt(index, 0, 3)
        assert whole.latents.dtype == torch.float32
        assert torch.equal(whole.latents, latents)
        assert torch.equal(sequences.excerpt(index, 1, 2).latents, latents[:, 2:])
        assert torch.equal(sequences.excerpt(index, 2, 1).latents, latents[:, 4:])
        caption = selection.corpus.examples[selection.passages[index].example].caption
        prompts = TinyTextEncoder(torch.device("cpu"))([caption])
        assert torch.equal(whole.prompts.embeddings, prompts.embeddings)
        assert torch.equal(whole.prompts.mask, prompts.mask)
        assert torch.equal(whole.mix, torch.ones(3, 1)) and whole.weights is None
        assert sequences.begins(index) == (True, True, True)
        FILM.text(whole.prompts, {}, whole.mix).for_units([0, 1, 2])


def test_held_out_passages_are_apart(data: Path) -> None:
    selection = chosen(data)
    prepared = prepare(selection, FILM, data / "cache")
    held = sum(passage.held_out for passage in selection.passages)
    assert held > 0
    assert (len(prepared.training.chunks), len(prepared.held_out.chunks)) == (7 - held, held)
    assert not set(prepared.training.latents) & set(prepared.held_out.latents)


def test_all_is_encoded_once_and_nothing_is_loaded_for_what_is_there(data: Path) -> None:
    film, selection = Watched(), chosen(data)
    events = list(encoded(selection, film, RUNTIME, data / "cache", 2))
    assert film.loaded == ["text encoder", "codec"]
    assert film.captions == ["a red boat", "the sea at dawn"] and film.videos == 7
    assert [(one.what, one.done, one.total, one.kept) for one in events] == [
        *(("caption", done, 2, 0) for done in range(3)),
        *(("passage", done, 7, 0) for done in range(8)),
    ]
    first = collect(selection, film, RUNTIME, data / "cache")

    shutil.move(data / "data" / "a.mp4", data / "data" / "moved.mp4")
    shutil.move(data / "data" / "a.txt", data / "data" / "moved.txt")
    film.loaded.clear()
    assert list(encoded(chosen(data), film, RUNTIME, data / "cache", 2)) == [
        Encoded("caption", 2, 2, 2),
        Encoded("passage", 7, 7, 7),
    ]
    assert film.loaded == []
    again = collect(chosen(data), film, RUNTIME, data / "cache")
    assert sorted(again.training.latents) == sorted(first.training.latents)


def test_what_changes_the_numbers_is_encoded_anew(data: Path) -> None:
    selection, cache = chosen(data), data / "cache"
    prepare(selection, Watched(), cache)

    def encodes(film: Watched, selection: Selection, runtime: Runtime = RUNTIME) -> tuple[int, int]:
        list(encoded(selection, film, runtime, cache, 2))
        return len(film.captions), film.videos

    assert encodes(Watched(), selection) == (0, 0)
    assert encodes(Watched(fingerprint="other"), selection) == (2, 7)
    assert encodes(Watched(), selection, replace(RUNTIME, dtype=torch.bfloat16)) == (0, 7)
    assert encodes(Watched(), chosen(data, replace(TINY, size=(32, 32)))) == (0, 7)
    assert encodes(Watched(), chosen(data, replace(TINY, fps=Fraction(10)))) == (0, 6)
    captioned(data / "data" / "a.mp4", "a blue boat", frames=25)
    assert encodes(Watched(), chosen(data)) == (1, 1)


def test_an_interrupted_encoding_goes_on(data: Path) -> None:
    selection, cache, film = chosen(data), data / "cache", Watched()
    events = encoded(selection, film, RUNTIME, cache, 2)
    for event in events:
        if event == Encoded("passage", 3, 7, 0):
            events.close()
    assert film.videos == 3
    left = list(encoded(selection, film, RUNTIME, cache, 2))
    assert left[0] == Encoded("caption", 2, 2, 2)
    assert left[1] == Encoded("passage", 3, 7, 3)
    assert film.videos == 7
    whole = prepare(selection, FILM, data / "whole")
    for index in range(len(whole.training.chunks)):
        gone_on = collect(selection, film, RUNTIME, cache).training.excerpt(index, 0, 3)
        assert torch.equal(gone_on.latents, whole.training.excerpt(index, 0, 3).latents)


def test_a_kill_or_a_full_disk_at_any_call_leaves_what_was_whole(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    selection, film = chosen(data), Watched()

    def contents(cache: Path) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in cache.rglob("*.safetensors")}

    with monkeypatch.context() as patch:
        disk = Disk(patch)
        prepare(selection, film, data / "whole", 1)
        calls = [index for index, name in enumerate(disk.calls) if name in ("fsync", "replace")]
    whole = contents(data / "whole")
    assert len(whole) == 9
    for failure, raised in (("fails_at", RenderError), ("killed_at", Killed)):
        for at in calls[:: len(calls) // 5]:
            cache = data / f"{failure}{at}"
            with monkeypatch.context() as patch:
                disk = Disk(patch)
                disk.start(**{failure: at})
                with pytest.raises(raised) as error:
                    prepare(selection, film, cache, 1)
            if raised is RenderError:
                assert str(error.value).endswith(
                    "; what is encoded so far stays, and the same command goes on from there"
                )
            assert contents(cache).items() <= whole.items()
            prepare(selection, film, cache, 1)
            assert contents(cache) == whole


def test_a_torn_file_is_encoded_again(data: Path) -> None:
    selection, cache = chosen(data), data / "cache"
    prepared = prepare(selection, FILM, cache)
    torn = prepared.training.latents[0]
    content = torn.read_bytes()
    torn.write_bytes(content[:-10])
    prepared.training.texts[0].write_bytes(b"")
    with pytest.raises(RenderError, match=r"\.safetensors: cannot be read; the same command encodes it"):
        prepared.training.excerpt(0, 0, 1)
    film = Watched(fingerprint=FILM.fingerprint)
    prepare(selection, film, cache)
    assert (film.videos, len(film.captions)) == (1, 1)
    assert torn.read_bytes() == content


def test_a_clip_that_breaks_meanwhile_is_told_and_left_out(data: Path) -> None:
    selection = chosen(data, held_out=Fraction(0))
    (data / "data" / "b.mp4").write_bytes(b"no clip")
    events = list(encoded(selection, FILM, RUNTIME, data / "cache", 2))
    told = [event.problem for event in events if event.problem]
    assert [problem.path.name for problem in told] == ["b.mp4"] * 2
    prepared = collect(selection, FILM, RUNTIME, data / "cache")
    assert len(prepared.training.chunks) == 5
    assert [str(problem.path.name) for problem in prepared.problems] == ["b.mp4"]


def test_nothing_could_be_encoded(data: Path) -> None:
    selection = chosen(data)
    for name in "abc":
        (data / "data" / f"{name}.mp4").unlink()
    list(encoded(selection, FILM, RUNTIME, data / "cache", 2))
    with pytest.raises(UserError, match=r"data: nothing of it could be encoded: .*a\.mp4: cannot be encoded"):
        collect(selection, FILM, RUNTIME, data / "cache")


def test_latents_that_are_no_numbers_in_half_precision_are_left_out(data: Path) -> None:
    class Loud(Watched):
        def codec(self) -> WatchedCodec:
            codec = super().codec()
            real = codec.encode
            codec.encode = lambda video: real(video) * (1e6 if self.videos == 1 else 1)
            return codec

    selection = chosen(data, held_out=Fraction(0))
    events = list(encoded(selection, Loud(), RUNTIME, data / "cache", 1))
    (problem,) = (event.problem for event in events if event.problem)
    assert problem is not None and problem.reason == "its latents are no numbers in half precision"


def test_other_processes_and_a_resumed_training_read_the_same(data: Path) -> None:
    selection, cache = chosen(data), data / "cache"
    prepared = prepare(selection, FILM, cache)
    prepared.save(data / "data.json")
    shutil.rmtree(data / "data")
    assert load(data / "data.json") == prepared
    changed = data / "changed.json"
    changed.write_text((data / "data.json").read_text().replace('"chunk_latents": 2', '"chunk_latents": 3'))
    for path in (changed, data / "nowhere.json"):
        with pytest.raises(UserError, match="is missing or was changed; begin anew, the clips stay encoded"):
            load(path)


def test_another_process_fills_the_cache(data: Path) -> None:
    cache = data / "cache"
    cache.mkdir()
    with locked(cache, "encodes clips"), pytest.raises(LockedError):
        prepare(chosen(data), FILM, cache)


def test_memory_does_not_grow_with_the_number_of_passages(tmp_path: Path) -> None:
    """A passage is 24 frames of 240x160: 2.8 MB of pixels, and 29 of them 80 MB. One is in use, one is ready
    and one in the making."""
    captioned(tmp_path / "data" / "a.mp4", frames=360)
    selection = chosen(tmp_path, replace(TINY, size=(240, 160)))
    assert len(selection.passages) == 29
    tracemalloc.start()
    prepare(selection, FILM, tmp_path / "cache", 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16_000_000


def test_the_real_clips_for_diorama(tmp_path: Path) -> None:
    """All the way: cuts, passages, latents of the size that the model samples, embeddings that it reads."""
    (tmp_path / "data").mkdir()
    rows = [f"{clip}.mp4,a film of {clip}" for clip in REAL]
    (tmp_path / "data" / "metadata.csv").write_text("\n".join(["file_name,text", *rows]))
    for clip in REAL:
        (tmp_path / "data" / f"{clip}.mp4").symlink_to(real_clip(clip))
    backend = diorama(None)
    film = backend.for_film(FilmSpec((192, 128), Fraction(12), 4, {}), RUNTIME)
    selection = chosen(tmp_path, Format(backend.geometry, (192, 128), Fraction(12), chunks=5))
    assert describe(selection, backend)[:3] == [
        "3 clips, 19.284 s in all, 4.004 s to 10 s each, with 3 captions",
        "8 scenes of 0.32 s to 5.28 s",
        "11 passages of 1 to 4 chunks at 192x128 and 12 frames a second: 9 to train on, 2 held out",
    ]
    prepared = prepare(selection, film, tmp_path / "cache")
    assert sorted(prepared.training.chunks + prepared.held_out.chunks) == [1] * 9 + [3, 4]
    longest = prepared.training.chunks.index(4)
    excerpt = prepared.training.excerpt(longest, 0, 4)
    assert excerpt.latents.shape == (24, 16, 8, 12)
    assert 0.3 < excerpt.latents.std() < 3
    text = film.text(excerpt.prompts, {}, excerpt.mix).for_units(range(4))
    times = torch.full((1, 16), 0.5)
    assert film.denoiser()(excerpt.latents[None], times, text).shape == (1, 24, 16, 8, 12)


def test_a_datasets_chunks_have_captions_begins_and_weights_of_their_own(workplace: Path) -> None:
    """The first chunk of an odd clip is under another caption than the two behind it."""
    format = Format(TinyBackend(causal=True).geometry, (24, 16), Fraction(12), chunks=3)
    film = TinyBackend(causal=True).for_film(SPEC, RUNTIME)
    selection = select_dataset("boats", format, clips=2, held_out=Fraction(0))
    prepared = prepare(selection, film, workplace / "cache")
    prepared.save(workplace / "data.json")
    sequences = load(workplace / "data.json").training
    assert sequences == prepared.training and sequences.chunks == (3, 3)
    assert [sequences.begins(index) for index in range(2)] == [(True, True, True), (True, False, True)]
    for index, made in enumerate(selection.shown(range(2), 1)):
        assert isinstance(made, Clip) and made.weights is not None
        video = torch.from_numpy(made.pixels).permute(3, 0, 1, 2)[None] / 127.5 - 1
        latents = TinyCodec(True, 0).encode(video)[0].half().float()
        whole = sequences.excerpt(index, 0, 3)
        assert torch.equal(whole.latents, latents)
        assert whole.weights is not None
        weights = cell_weights(torch.from_numpy(made.weights), format.geometry, (4, 6))
        assert torch.equal(whole.weights, weights) and set(weights.flatten().tolist()) == {1, 5}
        part = sequences.excerpt(index, 1, 2)
        assert part.weights is not None and torch.equal(part.weights, weights[2:])
    encoder = TinyTextEncoder(torch.device("cpu"))
    odd, part = sequences.excerpt(1, 0, 3), sequences.excerpt(1, 1, 2)
    red, blue = encoder(["a red boat"]).embeddings[0], encoder(["a blue boat"]).embeddings[0]
    rows = {
        name: [torch.equal(each, one) for each in odd.prompts.embeddings].index(True)
        for name, one in (("red", red), ("blue", blue))
    }
    assert odd.mix.shape == (3, 2)
    assert odd.mix.argmax(1).tolist() == [rows["red"], rows["blue"], rows["blue"]]
    assert torch.equal(part.mix, torch.ones(2, 1)) and torch.equal(part.prompts.embeddings[0], blue)


def test_a_cell_counts_as_the_most_of_its_pixels_does() -> None:
    """A first chunk of five frames and one of eight, of two latents each."""
    geometry = TinyBackend(causal=True).geometry
    pixels = torch.ones(13, 16, 24, dtype=torch.uint8)
    pixels[2, 0, 3], pixels[5, 15, 23], pixels[9, 7, 8] = 7, 9, 4
    expected = torch.ones(4, 4, 6)
    expected[0, 0, 0] = expected[1, 0, 0] = 7  # frame 2 of 5 is in both halves
    expected[2, 3, 5], expected[3, 1, 2] = 9, 4
    assert torch.equal(cell_weights(pixels, geometry, (4, 6)), expected)
