"""What diorama is asked to show its strength by, and how its films are looked at."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor
from typer.testing import CliRunner

from longvid.backends import Carry
from longvid.backends.diorama import canvas, captions, codec, phrases, text, world
from longvid.backends.diorama.captions import VALUES, Spec
from longvid.backends.diorama.dataset import SWITCH_SHARE, object_weights
from longvid.backends.diorama.denoiser import DenoiserSize
from longvid.errors import RenderError
from longvid.evaluation import appearance
from longvid.evaluation.judge import CLIP_FRAMES, Accuracy, Judge, small
from longvid.evaluation.processes import Ran
from longvid.evaluation.provenance import provenance
from longvid.evaluation.seams import seam_ratio
from longvid.rendering import render
from longvid.training import diorama, figures, strength
from longvid.training.strength import Asked
from longvid.video import source, writer
from tests.planning import longvid

ACCURACY = Accuracy(10, dict.fromkeys(VALUES, 1.0), dict.fromkeys(VALUES, 0.9), "0" * 12)


class Numbering:
    """In the judge's place: names as the scene how many clips it has seen before."""

    def __init__(self) -> None:
        self.accuracy = ACCURACY
        self.seen = 0

    def look(self, frames: Sequence[NDArray[np.uint8]]) -> list[Spec]:
        count = len(list(frames)) // CLIP_FRAMES
        self.seen += count
        return [dict.fromkeys(VALUES) | {"scene": number} for number in range(self.seen - count, self.seen)]


class InProcess:
    """In the place of other processes."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.threads = env["OMP_NUM_THREADS"]

    def __call__(self, arguments: Sequence[str]) -> Ran:
        _, written, _, film, _, model, _, device, _ = arguments
        render(Path(written), Path(film), model=model, device=device)
        return Ran(0, "", "")

    def stop(self) -> None:
        """There is nothing to stop."""


# What is asked for


def test_a_prompt_names_all_that_is_counted_in_words_no_training_uses() -> None:
    for film in range(10):
        for each in strength.ask_film(film, 7):
            assert captions.stated(each.prompt) == each.said
            for name in VALUES:
                if name in figures.COUNTED or each.spec[name] != 0:
                    assert each.said[name] == each.spec[name]
            held_out = tuple(phrases.HELD_OUT["scene"].values())[each.spec["scene"] or 0]
            assert any(phrase in each.prompt for phrase in held_out)


def test_every_second_film_asks_for_the_same_in_reverse_in_other_words() -> None:
    films = [strength.ask_film(film, 7) for film in range(4)]
    specs = [[each.spec for each in film] for film in films]
    assert all(len(film) == 6 for film in films)
    assert specs[1] == specs[0][::-1] and specs[3] == specs[2][::-1] != specs[0][::-1]
    assert len({each.prompt for film in films for each in film}) == 24
    assert strength.ask_film(2, 7) == films[2] != strength.ask_film(2, 8)


def test_a_long_film_has_what_could_fade_and_a_day_that_stays() -> None:
    for film in range(30):
        (asked,) = strength.ask_long(film, 7)
        assert asked.said["shape"] is not None and asked.said["time"] != world.PASSING


# Renders


def test_films_are_rendered_by_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    class Here:
        def __init__(self, env: dict[str, str]) -> None:
            self.threads = env["OMP_NUM_THREADS"]

        def __call__(self, arguments: Sequence[str]) -> Ran:
            ran.append(arguments)
            return Ran(2 if "two" in arguments[1] else 0, "", "error: out of luck\n")

        def stop(self) -> None:
            ran.append(("stop",))

    monkeypatch.setattr(strength, "Here", Here)
    sea = Asked("a sea", dict.fromkeys(VALUES), dict.fromkeys(VALUES))
    one, two = tmp_path / "one.mp4", tmp_path / "two.mp4"
    strength.render({one: strength.timeline([sea, sea], 10, 5)}, "diorama", 2)
    written = str(tmp_path / "one.yaml")
    options = ("--output", str(one), "--model", "diorama", "--device", "cpu", "--quiet")
    assert ran == [("render", written, *options)]
    shot = {"prompt": "a sea", "seconds": 10}
    assert json.loads(Path(written).read_text()) == {"size": [192, 128], "seed": 5, "shots": [shot, shot]}
    with pytest.raises(RenderError, match=r"two\.mp4: out of luck"):
        strength.render({two: strength.timeline([sea], 10, 5)}, "diorama", 1)
    assert ran[-1] == ("stop",)


# Looking


def test_a_codec_is_told_by_what_it_gives_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that makes every picture darker by 5 where it is not eased, and is perfect where it is."""

    class Mirror:
        network = SimpleNamespace(decode=lambda latents: latents - 10 / 255)

        def encode(self, video: Tensor) -> Tensor:
            return video

        def decode(self, chunk: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
            return chunk, carry

    class Film:
        @staticmethod
        def load(folder: Path, runtime: object) -> SimpleNamespace:
            return SimpleNamespace(codec=Mirror)

    monkeypatch.setattr(strength, "DioramaFilm", Film)
    monkeypatch.setattr(strength, "CODEC_CHUNKS", 3)
    found = strength.measure_codec(Path(), 3, 7)
    clips = [
        world.draw_clip(np.random.default_rng((7, strength.CODEC, i)), 3, SWITCH_SHARE) for i in range(3)
    ]
    dark = [np.maximum(clip.frames, 5) - np.uint8(5) for clip in clips]
    whole = [figures.psnr(*pair) for pair in zip(dark, (clip.frames for clip in clips), strict=True)]
    boxes = [object_weights(clip.boxes) > 1 for clip in clips]
    objects = [
        figures.psnr(frames, clip.frames, box)
        for frames, clip, box in zip(dark, clips, boxes, strict=True)
        if box.any()
    ]
    assert found["clips"] == 3
    assert found["psnr"]["plain"] == pytest.approx(
        {"mean": np.mean(whole), "worst": min(whole), "objects": np.mean(objects)}
    )
    assert found["psnr"]["eased"] == {"mean": 100, "worst": 100, "objects": 100}
    assert found["seams"]["eased"] == found["seams"]["world"]


def test_seams_lie_between_latents() -> None:
    """Frames change by 2, and by 3 where a latent begins; a switch of prompts at 8 is left out."""
    levels = np.cumsum([0, *(3 if frame % 4 == 0 else 2 for frame in range(1, 12))])
    frames = np.broadcast_to(levels[:, None, None, None], (12, 2, 2, 3)).astype(np.uint8)
    change = strength.changes(frames)
    assert np.isnan(change[0]) and change[1:].tolist() == [2, 2, 2, 3] * 2 + [2, 2, 2]
    assert strength.between_latents(change) == 1.5
    change[8] = 50
    assert strength.between_latents(change, frozenset({8})) == 1.5


def test_a_film_is_looked_at_as_it_is_watched_and_its_seams_before_it_is_encoded(workplace: Path) -> None:
    """Of two prompts of 60 and 36 frames, the first 24 of each aside."""
    shots = [{"prompt": "a sea", "seconds": 5}, {"prompt": "a city", "seconds": 3}]
    timeline = {"model": "tiny", "size": [canvas.WIDTH_PX, canvas.HEIGHT_PX], "seed": 1, "shots": shots}
    Path("film.yaml").write_text(json.dumps(timeline | {"output": {"scale": 1}}))
    assert longvid("render", "film.yaml", "--device", "cpu", "-q").code == 0
    film = Path("film.mp4")
    made = provenance(source.probe(film))
    switch = made.shots[1].start_frame
    seen = strength.look(film, Numbering())  # type: ignore[arg-type]
    watched = [small(frame).astype(np.int16) for frame in source.frames(source.probe(film))]
    change = [float(np.abs(after - before).mean()) for before, after in pairwise(watched)]
    assert seen.change == pytest.approx([np.mean(change[23 : switch - 1]), np.mean(change[switch + 23 :])])
    assert seen.switches == pytest.approx([change[switch - 1] / np.median(change)])
    clips = [switch // CLIP_FRAMES, (96 - switch) // CLIP_FRAMES]
    assert [[clip["scene"] for clip in shot] for shot in seen.clips] == [
        list(range(1, clips[0])),
        list(range(clips[0] + 1, sum(clips))),
    ]
    records = [json.loads(path.read_text()) for path in Path("film.longvid/chunks").glob("*.json")]
    assert seen.compute_seconds == pytest.approx(sum(sum(record["seconds"].values()) for record in records))
    assert seen.threads == torch.get_num_threads()
    encoded = strength.changes(source.frames(source.probe(film)))
    left_out = {switch}
    assert seen.seams["latents"] is not None
    assert seen.seams["latents"] != seam_ratio(encoded, range(4, 96, 4), left_out)
    assert seen.seams["latents"] == pytest.approx(seam_ratio(encoded, range(4, 96, 4), left_out), rel=0.2)


def test_a_film_that_stands_still_is_decoded_once_and_has_no_switch_to_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    still = tmp_path / "still.mp4"
    grey = np.full((60, canvas.HEIGHT, canvas.WIDTH, 3), 128, np.uint8)
    still.write_bytes(writer.encode(grey, Fraction(world.FPS), 10))
    made = SimpleNamespace(
        take=SimpleNamespace(run={"threads": 3}),
        cost=SimpleNamespace(seconds=0.5),
        shots=(SimpleNamespace(start_frame=0, end_frame=30), SimpleNamespace(start_frame=30, end_frame=60)),
    )
    decoded = []
    frames = source.frames
    monkeypatch.setattr(source, "frames", lambda found: decoded.append(found.path) or frames(found))
    monkeypatch.setattr(strength, "provenance", lambda found: made)
    monkeypatch.setattr(strength, "film_seams", lambda made: {})
    seen = strength.look(still, Numbering())  # type: ignore[arg-type]
    assert decoded == [still]
    assert (seen.change, seen.switches, seen.clips) == ([0, 0], [None], [[], []])
    assert (seen.compute_seconds, seen.threads) == (2.5, 3)


def test_how_much_a_long_film_changes_is_told_in_the_judge_s_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise, of which half is gone where four pixels are one; windows of a second, behind the first frame."""
    noise = np.random.default_rng(0).integers(0, 256, (72, 2 * canvas.HEIGHT, 32, 3), np.uint8)
    film = tmp_path / "noise.mp4"
    film.write_bytes(writer.encode(noise, Fraction(world.FPS), 10))
    monkeypatch.setattr(strength, "WINDOW_SECONDS", 1)
    monkeypatch.setattr(strength, "SETTLING_FRAMES", 1)
    shown = list(source.frames(source.probe(film)))
    expected = figures.measure_drift({"change": strength.changes(map(small, shown))}, world.FPS)
    statistics = strength.drift(film)
    assert statistics["change"] == expected["change"]
    assert statistics["change"]["minutes"][0] < 0.6 * float(np.nanmean(strength.changes(shown)))
    assert list(statistics) == [*appearance.UNITS, "change"]


def test_the_world_s_own_change_is_the_mean_of_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as a shot of 3 s is settled."""
    monkeypatch.setattr(strength, "SHOT_SECONDS", 3)
    monkeypatch.setattr(strength, "WORLDS", 2)
    (asked,) = strength.ask_long(0, 7)
    rng = np.random.default_rng((7, 3))
    draws = [world.render(world.Story((asked.spec,)), 12, rng).frames for _ in range(2)]
    expected = [
        np.mean([np.abs(b.astype(int) - a).mean() for a, b in pairwise(map(small, frames))])
        for frames in draws
    ]
    assert strength.world_change(asked.spec, (7, 3)) == pytest.approx(np.mean(expected))


# All of it


def test_where_nothing_can_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.touch()
    monkeypatch.setattr(Judge, "load", Numbering)
    monkeypatch.setattr(sys, "argv", ["strength", str(out)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(strength.__file__, run_name="__main__")
    assert stop.value.code == 2
    said = "cannot write there: Not a directory; give another folder as OUT"
    assert capsys.readouterr().err == f"error: {out / 'films'}: {said}\n"


def test_the_whole_of_it_on_a_model_that_has_learnt_nothing(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two films of two prompts and 8 s, and one of a minute of 6 s."""
    size = DenoiserSize(codec.CHANNELS, 8, 12, conv=8, width=96, depth=1, heads=2, text_width=text.WIDTH)
    monkeypatch.setattr(diorama, "SIZE", size)
    diorama.write_untrained(Path("model"), 1)
    monkeypatch.setattr(strength, "Here", InProcess)
    monkeypatch.setattr(Judge, "load", Numbering)
    short = {"SHOTS": 2, "SHOT_SECONDS": 4, "LONG_SECONDS": 6, "WINDOW_SECONDS": 1, "SETTLING_FRAMES": 6}
    for name, value in {**short, "CODEC_CHUNKS": 3, "WORLDS": 1}.items():
        monkeypatch.setattr(strength, name, value)
    app = typer.Typer()
    app.command()(strength.main)
    options = ["out", "--model=model", "--films=2", "--long-films=1", "--clips=1", "--seed=7"]
    done = CliRunner().invoke(app, options, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    films = sorted(Path("out/films").glob("*.mp4"))
    assert [film.name for film in films] == ["asked-00.mp4", "asked-01.mp4", "long-00.mp4"]
    seeds = [json.loads(film.with_suffix(".yaml").read_text())["seed"] for film in films]
    assert seeds == [7, 8, 7], "more films of one kind leave the other's as they are"
    written = films[0].stat().st_mtime_ns
    again = json.loads(films[0].with_suffix(".yaml").read_text())
    strength.render({films[0]: again}, str(Path("model").absolute()), 1)
    assert films[0].stat().st_mtime_ns == written, "what is there is not rendered again"
    report = json.loads(Path("out/report.json").read_text())
    assert report["judge"] == {}, "it was measured by another codec's clips"
    assert done.output == Path("out/README.md").read_text() == figures.card(report)
    first, second = report["prompts"]
    assert [each["world"] for each in first] == [each["world"] for each in second[::-1]]
    assert len({each["prompt"] for each in (*first, *second)}) == 4
    changed, moved = (sum(each[key] for each in (*first, *second)) for key in ("change", "world"))
    assert report["motion"]["all"] == pytest.approx(changed / moved)
    assert [len(found["minutes"]) for found in report["drift"][0]["statistics"].values()] == [1] * 8
    assert source.probe(Path("out/sheet.png")).size == (4 * 96, 3 * 64 + 2 * 4)
