"""What is heard, sample by sample, before an encoder changes it."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice, pairwise

import numpy as np
import pytest

from longvid.editing import sound
from longvid.errors import UserError
from tests.editing.films import Sound, db, tone, write_film, write_wav

RATE = 48_000
BLOCK = RATE // 100


def blocks(samples):
    return sound.blocks(iter([samples]), BLOCK, len(samples))


def whole(pieces):
    return np.concatenate(list(pieces))


def test_loudness_is_the_standards():
    """A 997 Hz sine at full scale in one channel of two is at -3.01 LUFS."""
    samples = tone(5, 0, 997)
    samples[:, 1] = 0
    count, lufs = sound.loudness(blocks(samples), RATE)
    assert (count, lufs) == (5 * RATE, pytest.approx(-3.01, abs=0.02))
    assert sound.loudness(blocks(tone(5, -23, 997)), RATE)[1] == pytest.approx(-23, abs=0.05)
    assert sound.loudness(blocks(np.zeros((RATE, 2), np.float32)), RATE)[1] == -70


@pytest.mark.parametrize("dbfs", [-30, -6])
def test_a_song_is_brought_to_its_loudness(tmp_path, dbfs):
    song = sound.listen(write_wav(tmp_path / "song.wav", tone(3, dbfs, 997)), RATE)
    played = whole(islice(sound.looped(song), 50))
    assert db(played[RATE // 10 : RATE]) == pytest.approx(sound.MUSIC_LUFS, abs=0.06)


def test_a_very_quiet_song_is_raised_by_no_more_than_is_decent(tmp_path):
    song = sound.listen(write_wav(tmp_path / "song.wav", tone(3, -60, 997)), RATE)
    assert 20 * np.log10(song.gain) == pytest.approx(sound.MAX_GAIN_DB)
    assert sound.listen(write_wav(tmp_path / "song.wav", np.zeros((RATE, 2))), RATE).gain == 1


def test_a_song_loops_without_a_seam(tmp_path):
    """Its end and beginning overlap at equal power: two unlike halves keep their level."""
    noise = np.random.default_rng(0).standard_normal((4 * RATE, 2)).astype(np.float32) / 10
    song = sound.listen(write_wav(tmp_path / "song.wav", noise), RATE)
    played = whole(sound.blocks(sound.looped(song), BLOCK, 10 * RATE))
    assert np.allclose(played[: 3 * RATE], noise[: 3 * RATE] * song.gain, atol=1e-6)
    assert np.allclose(played[4 * RATE : 6 * RATE], noise[RATE : 3 * RATE] * song.gain, atol=1e-6)
    levels = [db(played[at : at + RATE // 4]) for at in range(0, 10 * RATE, RATE // 4)]
    assert max(levels) - min(levels) < 0.3


def test_the_shortest_song_loops_as_well(tmp_path):
    song = sound.listen(write_wav(tmp_path / "song.wav", tone(0.01, -20)), RATE)
    assert whole(sound.blocks(sound.looped(song), BLOCK, RATE)).shape == (RATE, 2)


def test_blocks_end_exactly_and_go_on_in_silence():
    pieces = list(sound.blocks(iter([np.ones((1000, 2), np.float32)]), 480, 1500))
    assert [len(piece) for piece in pieces] == [480, 480, 480, 60]
    assert (whole(pieces)[:, 0] == [1] * 1000 + [0] * 500).all()
    assert [piece.shape for piece in sound.blocks(iter([]), 480, 500)] == [(480, 2), (20, 2)]


def test_fades_are_exact():
    samples = np.ones((3000, 2), np.float32)
    faded = whole(sound.faded(blocks(samples), 100, 2000, 200))[:, 0]
    assert np.allclose(faded[:100], np.arange(100) / 100)
    assert (faded[100:1799] == 1).all()
    assert np.allclose(faded[1800:2000], np.arange(199, -1, -1) / 200)
    assert (faded[2000:] == 0).all()
    assert (whole(sound.faded(blocks(samples), 0, 2000, 0))[:, 0] == [1] * 2000 + [0] * 1000).all()


def test_music_gives_way_by_so_many_decibels_and_comes_back():
    """The film's tone lasts from 2 s to 4 s; the music lies at another pitch and is measured alone."""
    kept = np.zeros((8 * RATE, 2), np.float32)
    kept[2 * RATE : 4 * RATE] = tone(2, -20, 200)
    music = tone(8, -16, 3000)
    mixed = whole(sound.ducked(blocks(kept), blocks(music)))
    heard = mixed - kept

    def level(start, end):
        return db(heard[round(start * RATE) : round(end * RATE)])

    assert level(0, 1.7) == pytest.approx(-16, abs=0.01)
    assert level(2, 4.5) == pytest.approx(-16 + sound.DUCK_DB, abs=0.01), "down before the sound is there"
    assert level(5.7, 8) == pytest.approx(-16, abs=0.01)
    levels = [level(t, t + 0.02) for t in np.arange(1.7, 2.02, 0.02)]
    assert levels == sorted(levels, reverse=True)
    assert max(a - b for a, b in pairwise(levels)) < 1.5, "without a jump"


def test_a_film_that_begins_loud_has_its_music_low_at_once():
    kept, music = tone(2, -10, 200), tone(2, -16, 3000)
    heard = whole(sound.ducked(blocks(kept), blocks(music))) - kept
    assert db(heard[:BLOCK]) == pytest.approx(-16 + sound.DUCK_DB, abs=0.1)


def test_silence_and_hum_do_not_move_the_music():
    for kept in (np.zeros((RATE, 2), np.float32), tone(1, -50, 200)):
        heard = whole(sound.ducked(blocks(kept), blocks(tone(1, -16, 3000)))) - kept
        assert db(heard) == pytest.approx(-16, abs=0.01)


def test_no_sample_is_above_the_ceiling_and_the_rest_is_left_alone():
    samples = tone(1, -6)
    samples[RATE // 2 : RATE // 2 + 50] *= 5
    limited = whole(sound.limited(blocks(samples)))
    assert np.abs(limited).max() <= sound.CEILING + 1e-6
    assert (limited[: RATE // 2 - BLOCK] == samples[: RATE // 2 - BLOCK]).all()
    assert (limited[RATE // 2 + 2 * BLOCK :] == samples[RATE // 2 + 2 * BLOCK :]).all()


def test_a_films_sound_is_read_from_its_first_frame_on(tmp_path):
    """AAC holds back the first samples; the click at one second is where it was."""
    samples = np.zeros((3 * RATE, 2), np.float32)
    samples[RATE : RATE + 10] = 0.9
    path = write_film(tmp_path / "film.mp4", sound=Sound(samples))
    for start, at in [(Fraction(0), 1), (Fraction(1, 2), 0.5), (Fraction(-1, 2), 1.5)]:
        heard = whole(sound.decoded(path, RATE, "stereo", 1, start))
        assert abs(int(np.abs(heard).max(1).argmax()) - round(at * RATE)) < 16
    mono = whole(sound.decoded(path, 24_000, "mono", 1, Fraction(0)))
    assert mono.shape[1] == 1
    assert abs(int(np.abs(mono).max(1).argmax()) - 24_000) < 16


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("song.mp3", None, "there is no such file; music is a file such as song.mp3"),
        ("song.mp3", b"", "is no music that can be read"),
        ("song.mp3", b"la la la\n" * 100, "is no music that can be read"),
        ("song.mp3", bytes(range(256)) * 20, "is no music that can be read"),
        ("", None, "is a folder; music is a file such as song.mp3"),
    ],
)
def test_what_is_no_music(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        sound.listen(path, RATE)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


def test_a_silent_film_is_no_music(tmp_path):
    with pytest.raises(UserError, match="is no music that can be read"):
        sound.listen(write_film(tmp_path / "film.mp4"), RATE)
    with pytest.raises(UserError, match="there is nothing to hear in it"):
        sound.listen(write_wav(tmp_path / "song.wav", np.zeros((10, 2))), RATE)
