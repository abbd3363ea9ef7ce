"""Whole films, as a player sees and hears them."""

from __future__ import annotations

import hashlib
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from longvid.editing import Edit, apply, rehearse, sound, write
from longvid.errors import RenderError, UserError
from longvid.progress import Noted
from longvid.times import Time
from longvid.video import reader
from tests.editing.films import (
    FPS,
    METADATA,
    SHOTS,
    SIZE,
    Sound,
    db,
    decoded,
    heard,
    packets,
    tone,
    write_film,
    write_wav,
)

SECOND = Time(Fraction(1))
EVERYTHING = Edit(
    title="A day",
    credits="Pictures\ntiny",
    captions="track",
    fade=SECOND,
    crossfade=Time(Fraction(6), in_frames=True),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A silent film, one with a tone from 2 s to 4 s, and a song of 8 s."""
    folder = tmp_path_factory.mktemp("films")
    samples = np.zeros((6 * 48_000, 2), np.float32)
    samples[2 * 48_000 : 4 * 48_000] = tone(2, -20, 300)
    write_film(folder / "silent.mp4")
    write_film(folder / "heard.mp4", sound=Sound(samples))
    write_wav(folder / "song.wav", tone(8, -20, 1000))
    return folder


def streams(path):
    with av.open(str(path)) as container:
        return [
            (stream.type, stream.codec_context.name)
            for stream in container.streams
            if stream.codec_context is not None
        ]


def captions(path):
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        return [
            (p.pts * p.time_base, p.duration * p.time_base, bytes(p)[2:].decode())
            for p in container.demux(stream)
            if p.size > 2
        ]


def test_everything_at_once(folder, tmp_path):
    output = tmp_path / "out.mp4"
    edit = Edit(**{**EVERYTHING.__dict__, "music": folder / "song.wav"})
    apply(folder / "heard.mp4", edit, output)
    assert streams(output) == [("video", "h264"), ("audio", "aac"), ("subtitle", "mov_text")]
    header, shown = reader.header(output), decoded(output)
    assert [time for time, _ in shown] == [i / FPS for i in range(len(shown))]
    assert header.frames == len(shown) == 72 + round((3 + Fraction(12, 14)) * 12)
    assert [title for title, _, _ in header.chapters] == ["Hills", "the sea", "Night", "Credits"]
    assert header.chapters[-1][1] == 6
    assert METADATA.items() <= header.metadata.items()
    for number in (0, 71, 72, len(shown) - 1):
        assert shown[number][1].max() < 40, "black, but for a card that is on its way"
    assert shown[0][1].max() < 5
    assert shown[71][1].max() < 5
    length = len(heard(output)) / 48_000
    assert length == pytest.approx(len(shown) / 12, abs=1024 / 48_000)


def test_captions_are_a_track_with_exact_times(folder, tmp_path):
    output = tmp_path / "out.mp4"
    apply(folder / "heard.mp4", Edit(captions="track"), output)
    assert captions(output) == [
        (0, 2, "green hills at dawn"),
        (2, 2, "the sea"),
        (4, 2, "a <b>city</b> at night"),
    ]
    assert packets(output) == packets(folder / "heard.mp4")
    assert packets(output, "audio") == packets(folder / "heard.mp4", "audio")


def test_a_second_track_of_captions_keeps_the_first(folder, tmp_path):
    apply(folder / "silent.mp4", Edit(captions="track"), tmp_path / "one.mp4")
    apply(tmp_path / "one.mp4", Edit(title="A day"), tmp_path / "two.mp4")
    assert captions(tmp_path / "two.mp4") == captions(tmp_path / "one.mp4")


def test_music_leaves_the_picture_as_it_is(folder, tmp_path):
    output = tmp_path / "out.mp4"
    apply(folder / "silent.mp4", Edit(music=folder / "song.wav"), output)
    assert packets(output) == packets(folder / "silent.mp4")
    before, after = reader.header(folder / "silent.mp4"), reader.header(output)
    assert (after.chapters, after.fps, after.frames) == (before.chapters, before.fps, before.frames)
    samples = heard(output)
    assert len(samples) / 48_000 == pytest.approx(6, abs=1024 / 48_000)
    assert db(samples[48_000 : 2 * 48_000]) == pytest.approx(sound.MUSIC_LUFS, abs=0.2)
    assert np.abs(samples[:48]).max() < 0.01
    assert np.abs(samples[-2000:]).max() < 0.01


def test_music_gives_way_to_what_the_film_says(folder, tmp_path):
    """The song alone, by its pitch: from 2.2 s to 3.8 s it lies so many decibels lower."""
    output = tmp_path / "out.mp4"
    apply(folder / "heard.mp4", Edit(music=folder / "song.wav"), output)
    samples = heard(output)[:, 0]

    def level(hertz, start, end):
        part = samples[round(start * 48_000) : round(end * 48_000)]
        wave = np.exp(2j * np.pi * hertz * np.arange(len(part)) / 48_000)
        return 20 * np.log10(2 * np.abs(np.mean(part * wave)))

    assert level(1000, 2.2, 2.7) - level(1000, 1, 1.5) == pytest.approx(sound.DUCK_DB, abs=0.3)
    assert level(300, 2.5, 3.5) == pytest.approx(-20, abs=0.3), "what the film says stays as it is"


def test_sound_without_a_change_is_copied_beside_a_picture_that_changes(folder, tmp_path):
    output = tmp_path / "out.mp4"
    apply(folder / "heard.mp4", Edit(title="A day"), output)
    assert packets(output, "audio") == packets(folder / "heard.mp4", "audio")


def test_a_fade_is_heard_as_well(folder, tmp_path):
    path = write_film(tmp_path / "film.mp4", sound=Sound(tone(6, -12, 440)[:, :1]))
    apply(path, Edit(fade=SECOND), tmp_path / "out.mp4")
    samples = heard(tmp_path / "out.mp4")
    assert samples.shape[1] == 1, "mono stays mono"
    middle = db(samples[3 * 48_000 : 4 * 48_000])
    assert middle == pytest.approx(-12, abs=0.2)
    for at in (0.5, 5.5):
        part = samples[round((at - 0.02) * 48_000) : round((at + 0.02) * 48_000)]
        assert db(part) == pytest.approx(-18, abs=0.3), "half way at half its strength"


def test_every_track_of_sound_gets_the_music_and_keeps_its_language(tmp_path, folder):
    class Two:
        def add_to(self, container):
            from heapq import merge

            both = [Sound(tone(6, -30), language=name).add_to(container) for name in ("eng", "deu")]
            return merge(*both, key=lambda packet: packet.dts)

    path = write_film(tmp_path / "film.mp4", sound=Two())
    apply(path, Edit(music=folder / "song.wav"), tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.language for stream in container.streams.audio] == ["eng", "deu"]
    assert np.allclose(heard(tmp_path / "out.mp4", 0), heard(tmp_path / "out.mp4", 1))


def test_equal_inputs_give_equal_bytes(folder, tmp_path):
    edit = Edit(
        **{
            **EVERYTHING.__dict__,
            "music": folder / "song.wav",
            "poster": tmp_path / "poster.png",
            "contact_sheet": tmp_path / "sheet.png",
            "storyboard": tmp_path / "board.html",
        }
    )
    sums = []
    for _ in range(2):
        apply(folder / "heard.mp4", edit, tmp_path / "out.mp4")
        files = sorted(path for path in tmp_path.iterdir())
        assert [path.name for path in files] == ["board.html", "out.mp4", "poster.png", "sheet.png"]
        sums.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in files])
        for path in files:
            assert str(folder).encode() not in path.read_bytes()
    assert sums[0] == sums[1]


def test_writing_straight_into_a_file_is_the_same(folder, tmp_path):
    apply(folder / "silent.mp4", EVERYTHING, tmp_path / "one.mp4")
    write(folder / "silent.mp4", EVERYTHING, tmp_path / "two.part")
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.part").read_bytes()


def test_a_title_becomes_the_files_where_it_has_none(folder, tmp_path):
    with av.open(str(folder / "silent.mp4")) as source, av.open(str(tmp_path / "bare.mp4"), "w") as bare:
        stream = bare.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                bare.mux(packet)
    apply(tmp_path / "bare.mp4", Edit(title="A\nnight"), tmp_path / "out.mp4")
    assert reader.header(tmp_path / "out.mp4").metadata["title"] == "A night"
    apply(folder / "silent.mp4", Edit(title="A\nnight"), tmp_path / "out.mp4")
    assert reader.header(tmp_path / "out.mp4").metadata["title"] == "A day"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("film.mp4", None, "there is no such file"),
        ("film.mp4", b"", "is empty"),
        ("film.mp4", b"no film at all\n" * 50, "is text"),
        ("film.mp4", bytes(range(256)) * 50, "is no clip or picture that can be read"),
        ("", None, "is a folder"),
    ],
)
def test_a_film_that_is_none(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError) as error:
        apply(path, Edit(title="A"), tmp_path / "out" / "film.mp4")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "out").iterdir())


def test_what_is_lost_of_a_film_that_was_cut_off_is_told_and_the_rest_is_whole(folder, tmp_path):
    """The last packet that is there is there in part: it is left out, where the picture is copied as well."""
    content = (folder / "silent.mp4").read_bytes()
    cut_off = tmp_path / "film.mp4"
    cut_off.write_bytes(content[: len(content) * 3 // 4])
    told = []
    apply(cut_off, Edit(music=folder / "song.wav"), tmp_path / "out.mp4", told.append)
    warned = [event.text for event in told if isinstance(event, Noted) and event.warning]
    assert len(warned) == 1
    assert warned[0].startswith(f"{cut_off}: is damaged: only the first 0:0")
    frames = len(decoded(tmp_path / "out.mp4"))
    assert 0 < frames < 72
    assert len(packets(tmp_path / "out.mp4")) == frames


def test_a_dissolve_without_a_cut_is_told(tmp_path):
    write_film(tmp_path / "film.mp4", shots=SHOTS[:1])
    told = []
    apply(tmp_path / "film.mp4", Edit(crossfade=SECOND), tmp_path / "out.mp4", told.append)
    assert told[-1] == Noted(
        f"{tmp_path / 'film.mp4'}: no shot begins with a cut, so nothing dissolves", warning=True
    )


WRONG = [
    (Edit(title="word " * 40), "title: "),
    (Edit(title="猫"), "title: "),
    (Edit(credits="猫"), "credits: "),
    (Edit(music=Path("missing.mp3")), "missing.mp3: there is no such file"),
    (Edit(title="A", font=Path("missing.ttf")), "missing.ttf: there is no such font file"),
    (Edit(scale=Fraction(1, 16)), "scale: 6x4 is out of range"),
]


@pytest.mark.parametrize(("edit", "message"), WRONG)
def test_what_cannot_be_done_leaves_nothing_behind(folder, tmp_path, edit, message):
    with pytest.raises(UserError) as error:
        apply(folder / "silent.mp4", edit, tmp_path / "film.mp4")
    assert str(error.value).startswith(message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("edit", "message"), WRONG[:-1])
def test_a_rehearsal_finds_it_before_the_film_is_there(tmp_path, edit, message):
    with pytest.raises(UserError) as error:
        rehearse(edit, SIZE, FPS, 72, {"title": "A day"}, tmp_path / "film.mp4")
    assert str(error.value).startswith(message)


def test_a_rehearsal_of_what_can_be_done(folder, tmp_path):
    import json

    metadata = {"title": "A day", "shots": json.dumps(SHOTS)}
    edit = Edit(**{**EVERYTHING.__dict__, "music": folder / "song.wav", "captions": "burn"})
    rehearse(edit, SIZE, FPS, 72, metadata, tmp_path / "film.mp4")
    with pytest.raises(UserError, match="tells of no prompts or chapters; leave the captions out"):
        rehearse(edit, SIZE, FPS, 72, {}, tmp_path / "film.mp4")


def test_a_film_of_no_words_has_no_captions(tmp_path):
    path = write_film(tmp_path / "film.mp4", shots=())
    for captions in ("track", "burn"):
        with pytest.raises(UserError, match=r"film\.mp4: tells of no prompts or chapters"):
            apply(path, Edit(captions=captions), tmp_path / "out.mp4")


def test_a_disk_that_refuses_leaves_nothing(folder, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(RenderError, match=r"out\.mp4: cannot be written: No space left on device"):
        apply(folder / "silent.mp4", Edit(title="A day"), tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ["mkv", "ts", "mov"])
def test_a_film_in_another_container_is_copied_as_it_is(folder, tmp_path, ending):
    """Matroska tells of no times of decoding, and a transport stream does not begin at 0."""
    other = tmp_path / f"film.{ending}"
    with av.open(str(folder / "heard.mp4")) as source, av.open(str(other), "w") as container:
        kinds = [source.streams.video[0], source.streams.audio[0]]
        copies = {stream.index: container.add_stream_from_template(stream) for stream in kinds}
        for packet in source.demux(kinds):
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                container.mux(packet)
    apply(other, Edit(music=folder / "song.wav"), tmp_path / "out.mp4")
    before, after = decoded(other), decoded(tmp_path / "out.mp4")
    assert len(after) == 72
    for number, ((_, one), (time, two)) in enumerate(zip(before, after, strict=True)):
        assert abs(time - number / FPS) < Fraction(1, 500)
        assert (one == two).all()
    assert reader.header(tmp_path / "out.mp4").frames == 72
    samples = heard(tmp_path / "out.mp4")[:, 0]
    part = samples[2 * 48_000 : 4 * 48_000]
    assert db(part - part.mean()) > -20.5
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.duration * stream.time_base == pytest.approx(6, abs=0.01)
