# ruff: noqa: E501 (a table of mistakes reads by the line)
import os
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from pydantic import ValidationError

from longvid.document import parse
from longvid.editing import Edit
from longvid.errors import UserError
from longvid.timeline import Output, Shot, Timeline, build, json_schema, load
from longvid.times import Time

FILM = """\
title: Everything
model: ./big
size: [424, 240]
fps: 30000/1001
seed: 7
steps: 20
window: 5
method: progressive
style: soft   light
negative: blurry
guidance: 6.5
output: {scale: 2, crf: 20}
model_options: {gain: 0.5, deep: [1, {on: true}], name: no}
shots:
  - {prompt: no, seconds: 8, title: One}
  - prompt: >
      the sea
      in a storm
    at: 0:08
    until: 20
    blend_seconds: 24f
    guidance: 1
  - {prompt: a city, seconds: 10, cut: true, negative: "", seed: 0}
"""


def test_every_key() -> None:
    film = build(*parse(FILM, "film.yaml", Path("films")))
    expected = Timeline(
        title="Everything",
        model="./big",
        size=(424, 240),
        fps=Fraction(30000, 1001),
        seed=7,
        steps=20,
        window=5,
        method="progressive",
        style="soft light",
        negative="blurry",
        guidance=6.5,
        output=Output(scale=2, crf=20),
        model_options={"gain": 0.5, "deep": [1, {"on": True}], "name": "no"},
        shots=(
            Shot(prompt="no", seconds=Time(Fraction(8)), title="One"),
            Shot(
                prompt="the sea in a storm",
                at=Time(Fraction(8)),
                until=Time(Fraction(20)),
                blend_seconds=Time(Fraction(24), in_frames=True),
                guidance=1.0,
            ),
            Shot(prompt="a city", seconds=Time(Fraction(10)), cut=True, negative="", seed=0),
        ),
    )
    assert dict(film) == dict(expected)
    assert (film.source.name, film.source.folder) == ("film.yaml", Path("films"))
    assert film.source.line(("shots", 1, "until")) == 20


def test_what_is_left_out_is_left_to_the_model() -> None:
    film = build({"shots": [{"prompt": "a boat", "seconds": 2}]})
    given = {"shots": film.shots, "output": Output(crf=18), "model_options": {}}
    assert {key: value for key, value in film if value is not None} == given


def test_a_timeline_is_frozen() -> None:
    film = build({"shots": [{"prompt": "a boat", "seconds": 2}]})
    with pytest.raises(ValidationError):
        film.seed = 3  # type: ignore[misc]


SHOT = "shots: [{prompt: a boat, seconds: 2}]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 7\n", "f.yaml:1: shots: is missing"),
        ("shots: []\n", "f.yaml:1: shots: needs a list of at least one shot, each beginning with a dash"),
        ("shots: {}\n", "f.yaml:1: shots: needs a list of at least one shot"),
        ("shots: a boat\n", "f.yaml:1: shots: needs a list of at least one shot"),
        ("shots:\n", "f.yaml:1: shots: is empty; give it a value or leave the key out"),
        ("shots:\n  - a boat\n", "f.yaml:2: shots[0]: 'a boat' is not a mapping of keys"),
        ("shots:\n  - [a boat]\n", "f.yaml:2: shots[0]: ['a boat'] is not a mapping of keys"),
        ("shots:\n  -\n", "f.yaml:2: shots[0]: nothing is not a mapping of keys"),
        ("shots:\n  - seconds: 2\n", "f.yaml:2: shots[0].prompt: is missing"),
        ("shots:\n  - prompt:\n    seconds: 2\n", "f.yaml:2: shots[0].prompt: is empty; give it a value"),
        ("shots:\n  - prompt: ' '\n", "f.yaml:2: shots[0].prompt: is empty; write what it should say"),
        ("shots:\n  - prompt: 1984\n", "f.yaml:2: shots[0].prompt: 1984 is not text; put it in quotes"),
        ("shots:\n  - prompt: true\n", "f.yaml:2: shots[0].prompt: true is not text; put it in quotes"),
        ("shots:\n  - prompt: [a]\n", "f.yaml:2: shots[0].prompt: ['a'] is not text"),
        (f"shots:\n  - prompt: {'x' * 2001}\n", "f.yaml:2: shots[0].prompt: has 2001 characters; at most 2000"),
        ("shots:\n  - prompt: a\n    cut: yes\n", "f.yaml:3: shots[0].cut: 'yes' is neither true nor false"),
        ("shots:\n  - prompt: a\n    cut: 1\n", "f.yaml:3: shots[0].cut: 1 is neither true nor false"),
        ("shots:\n  - prompt: a\n    seconds: -2\n", "f.yaml:3: shots[0].seconds: -2 is negative"),
        ("shots:\n  - prompt: a\n    seconds: 1e99\n", "f.yaml:3: shots[0].seconds: 1e99 is too large"),
        ("shots:\n  - prompt: a\n    seconds: .nan\n", "f.yaml:3: shots[0].seconds: '.nan' is not a time"),
        ("shots:\n  - prompt: a\n    seconds: .inf\n", "f.yaml:3: shots[0].seconds: '.inf' is not a time"),
        ("shots:\n  - prompt: a\n    seconds: true\n", "f.yaml:3: shots[0].seconds: true is not a time"),
        ("shots:\n  - prompt: a\n    until: 2d\n", "f.yaml:3: shots[0].until: '2d' is not a time; write seconds, 1m30s"),
        ("shots:\n  - prompt: a\n    secnds: 2\n", "f.yaml:3: shots[0].secnds: is no key of a shot; did you mean seconds?"),
        ("shots:\n  - prompt: a\n    style: b\n", "f.yaml:3: shots[0].style: is a key of the film, not of a shot"),
        ("shots:\n  - prompt: a\n    qqq: b\n", "f.yaml:3: shots[0].qqq: is no key of a shot; the keys of a shot: prompt, seconds, at,"),
        ("shots:\n  - prompt: a\n    image: 7\n", "f.yaml:3: shots[0].image: 7 is not text; put it in quotes"),
        ("shots:\n  - prompt: a\n    image: ''\n", "f.yaml:3: shots[0].image: is empty; write what it should say"),
        ("shots:\n  - prompt: a\n    start_from: a.mp4\n", "f.yaml:3: shots[0].start_from: is a key of the film, not of a shot"),
        ("shots:\n  - prompt: a\n  - prompt: b\n    image: b.png\n", "f.yaml:4: shots[1].image: this shot flows on from the one before it; add `cut: true` to begin anew from a picture"),
        ("start_from: a.mp4\nshots:\n  - {prompt: a, image: a.png}\n", "f.yaml:1: start_from: the first shot has an `image` already; leave one of the two out"),
        ("lora: 7\n" + SHOT, "f.yaml:1: lora: 7 is no LoRA; write its path, or {path: my-lora, strength: 0.8}"),
        ("lora:\n" + SHOT, "f.yaml:1: lora: is empty; give it a value or leave the key out"),
        ("lora: ['']\n" + SHOT, "f.yaml:1: lora[0].path: is empty; write what it should say"),
        ("lora:\n  - a\n  - 7\n" + SHOT, "f.yaml:3: lora[1]: 7 is not a mapping of keys"),
        ("lora:\n  - {path: a, strength: 11}\n" + SHOT, "f.yaml:2: lora[0].strength: 11 is too large; at most 10"),
        ("lora:\n  - path: a\n    strength: strong\n" + SHOT, "f.yaml:3: lora[0].strength: 'strong' is not a number"),
        ("lora: {path: a, weight: 2}\n" + SHOT, "f.yaml:1: lora[0].weight: is no key of a LoRA; the keys of a LoRA: path, strength"),
        ("lora: {strength: 2}\n" + SHOT, "f.yaml:1: lora[0].path: is missing"),
        (SHOT + "image: a.png\n", "f.yaml:2: image: is a key of a shot, not of the film"),
        (SHOT + "start_from: [a.mp4]\n", "f.yaml:2: start_from: ['a.mp4'] is not text"),
        (SHOT + "output: {captions: true}\n", "f.yaml:2: output.captions: true is none of off, track, burn"),
        (SHOT + "output: {fade: soon}\n", "f.yaml:2: output.fade: 'soon' is not a time; write seconds, 1m30s"),
        (SHOT + "output: {poster: a.gif}\n", "f.yaml:2: output.poster: 'a.gif' is none of the files that can be written: .png"),
        (SHOT + "output: {storyboard: a.pdf}\n", "f.yaml:2: output.storyboard: 'a.pdf' is none of the files that can be written: .html, .png"),
        (SHOT + f"output: {{title: {'x' * 201}}}\n", "f.yaml:2: output.title: has 201 characters; at most 200"),
        (SHOT + "output: {musik: a.mp3}\n", "f.yaml:2: output.musik: is no key of output; did you mean music?"),
        (SHOT + "output:\n", "f.yaml:2: output: is empty; give it a value or leave the key out"),
        (SHOT + "output: 4k\n", "f.yaml:2: output: '4k' is not a mapping of keys"),
        (SHOT + "output: {crf: 99}\n", "f.yaml:2: output.crf: 99 is too large; at most 51"),
        (SHOT + "output: {scale: 0}\n", "f.yaml:2: output.scale: 0 is too small; at least 1"),
        (SHOT + "output: {scale: 1.5}\n", "f.yaml:2: output.scale: 1.5 is not a whole number"),
        (SHOT + "output: {scal: 2}\n", "f.yaml:2: output.scal: is no key of output; did you mean scale?"),
        (SHOT + "output: {fps: 2}\n", "f.yaml:2: output.fps: is a key of the film, not of output"),
        (SHOT + "modle: diorama\n", "f.yaml:2: modle: is no key of the film; did you mean model?"),
        (SHOT + "prompt: a boat\n", "f.yaml:2: prompt: is a key of a shot, not of the film"),
        (SHOT + "seed: -1\n", "f.yaml:2: seed: -1 is too small; at least 0"),
        (SHOT + f"seed: {2**63}\n", "f.yaml:2: seed: 9223372036854775808 is too large; at most 9223372036854775807"),
        (SHOT + "seed: 1.5\n", "f.yaml:2: seed: 1.5 is not a whole number"),
        (SHOT + "seed: true\n", "f.yaml:2: seed: true is not a whole number"),
        (SHOT + "seed: lucky\n", "f.yaml:2: seed: 'lucky' is not a whole number"),
        (SHOT + "steps: 0\n", "f.yaml:2: steps: 0 is too small; at least 1"),
        (SHOT + "steps: 1e99\n", "f.yaml:2: steps: 1e99 is not a whole number"),
        (SHOT + "steps: 1001\n", "f.yaml:2: steps: 1001 is too large; at most 1000"),
        (SHOT + "window: 65\n", "f.yaml:2: window: 65 is too large; at most 64"),
        (SHOT + "guidance: strong\n", "f.yaml:2: guidance: 'strong' is not a number"),
        (SHOT + "guidance: .nan\n", "f.yaml:2: guidance: '.nan' is not a number"),
        (SHOT + "guidance: 1e999\n", "f.yaml:2: guidance: inf is too large; at most 100"),
        (SHOT + "guidance: -0.5\n", "f.yaml:2: guidance: -0.5 is too small; at least 0"),
        (SHOT + "fps: fast\n", "f.yaml:2: fps: 'fast' is not a number of frames a second"),
        (SHOT + "fps: 0\n", "f.yaml:2: fps: 0 is out of range; 1 to 240 frames a second"),
        (SHOT + "size: 424x240\n", "f.yaml:2: size: '424x240' is not a size; write [width, height] in pixels"),
        (SHOT + "size: [424]\n", "f.yaml:2: size: [424] is not a size"),
        (SHOT + "size: [424, -240]\n", "f.yaml:2: size[1]: -240 is too small; at least 1"),
        (SHOT + "size: [1.5, 240]\n", "f.yaml:2: size[0]: 1.5 is not a whole number"),
        (SHOT + "size: [1000000, 240]\n", "f.yaml:2: size[0]: 1000000 is too large; at most 8192"),
        (SHOT + "model: [diorama]\n", "f.yaml:2: model: ['diorama'] is not text"),
        (SHOT + "model_options: fast\n", "f.yaml:2: model_options: 'fast' is not a mapping of keys"),
        (SHOT + "model_options: {a: 1e999}\n", "f.yaml:2: model_options: 1e999 is too large"),
    ],
)  # fmt: skip
def test_every_mistake_is_one_line_with_its_place(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        build(*parse(text, "f.yaml"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_first_mistake_of_the_file_is_told() -> None:
    with pytest.raises(UserError, match=r"^f\.yaml:2: shots"):
        build(*parse("seed: 7\nshots: [{prompt: a, seconds: x}]\nsteps: x\nfps: x\n", "f.yaml"))


def test_load_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "film.yaml"
    path.write_text("shots:\n  - prompt: a\n    blend: 2\n")
    with pytest.raises(UserError) as error:
        load(path)
    assert str(error.value) == f"{path}:3: shots[0].blend: is no key of a shot; did you mean blend_seconds?"


# What a film starts from

STARTS = """\
start_from: clips/the  sea.mp4
shots:
  - {prompt: a, seconds: 2}
  - {prompt: b, seconds: 2}
  - {prompt: c, seconds: 2, cut: true, image: city.png}
"""


def test_files_are_relative_to_the_timelines_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clips").mkdir()
    files = [tmp_path / "clips" / "the  sea.mp4", tmp_path / "city.png"]
    for file in files:
        file.touch()
    (tmp_path / "film.yaml").write_text(STARTS)
    film = load(tmp_path / "film.yaml")
    assert film.start_path == files[0]
    assert [film.picture_of(shot) for shot in range(3)] == [None, None, files[1]]

    monkeypatch.setenv("HOME", str(tmp_path))
    elsewhere = build(*parse("shots: [{prompt: a, image: ~/city.png}]", "film.yaml", Path("films")))
    assert elsewhere.start_path is None
    assert elsewhere.picture_of(0) == files[1]
    absolute = build(*parse(f"shots: [{{prompt: a, image: {files[1]}}}]", "film.yaml", Path("films")))
    assert absolute.picture_of(0) == files[1]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("ctiy.png", "there is no file '{folder}/ctiy.png'; did you mean 'city.png'?"),
        ("none", "there is no file '{folder}/none'"),
        ("pictures/city.png", "there is no folder '{folder}/pictures'"),
        ("city.png/city.png", "there is no folder '{folder}/city.png'"),
        ("clips", "'{folder}/clips' is a folder; name a file in it"),
        ("pipe", "'{folder}/pipe' is not an ordinary file"),
        ('"two\\nlines"', "there is no file '{folder}/two\\nlines'"),
        ("/dev/zero", "'/dev/zero' is not an ordinary file"),
        ("../" * 99, "is a folder; name a file in it"),
        ("x" * 300, "cannot be read: File name too long"),
    ],
)
@pytest.mark.parametrize("key", ["start_from", "image"])
def test_a_file_that_is_not_there_is_named_with_its_line(
    key: str, written: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "city.png").touch()
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / "film.yaml"
    if key == "start_from":
        path.write_text(f"start_from: {written}\n{SHOT}")
        place = f"{path}:1: start_from: "
    else:
        path.write_text(f"shots:\n  - prompt: a\n    seconds: 2\n    image: {written}\n")
        place = f"{path}:4: shots[0].image: "
    with pytest.raises(UserError) as error:
        load(path)
    assert str(error.value).startswith(place)
    assert message.format(folder=tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_film_that_is_under_way_needs_no_file() -> None:
    """`build` makes a timeline of a request that was kept; what it started from may have gone since."""
    film = build({"start_from": "gone.mp4", "shots": [{"prompt": "a", "seconds": 2}]})
    assert film.start_path == Path("gone.mp4")


def test_plain_data_is_a_timeline_as_well() -> None:
    film = build({"fps": 29.97, "shots": [{"prompt": "a", "seconds": 0.1}, {"prompt": "b", "until": "1:00"}]})
    assert film.fps == Fraction(2997, 100)
    assert [shot.seconds for shot in film.shots] == [Time(Fraction(1, 10)), None]
    with pytest.raises(UserError, match=r"^timeline: shots\[0\].seconds: -1 is negative$"):
        build({"shots": [{"prompt": "a", "seconds": Decimal(-1)}]})


def test_the_schema_describes_every_key() -> None:
    schema = json_schema()
    tables = [schema, *schema["$defs"].values()]
    assert [len(table["properties"]) for table in tables] == [16, 2, 12, 11]
    for table in tables:
        assert table["additionalProperties"] is False
        for key, described in table["properties"].items():
            assert described.get("description"), key
            assert "null" not in str(described), key
    name = {"type": "string", "minLength": 1, "maxLength": 2000}
    for described in (schema["properties"]["start_from"], schema["$defs"]["Shot"]["properties"]["image"]):
        assert {key: described[key] for key in name} == name
    assert schema["required"] == ["shots"]
    assert schema["$defs"]["Shot"]["required"] == ["prompt"]
    assert schema["properties"]["seed"]["maximum"] == 2**63 - 1
    assert set(schema["properties"]) == {
        *("model", "size", "fps", "seed", "steps", "window", "method", "style", "negative", "guidance"),
        *("lora", "start_from", "output", "model_options", "title", "shots"),
    }
    assert set(schema["$defs"]["Shot"]["properties"]) == {
        *("prompt", "seconds", "at", "until", "blend_seconds", "cut", "negative", "guidance", "seed"),
        *("image", "title"),
    }


FINISHED = """\
output:
  title: One day
  credits: |
    Pictures
    diorama
  captions: burn
  music: song.mp3
  fade: 0.5
  crossfade: 6f
  font: /fonts/letters.ttf
  poster: out/poster.png
  contact_sheet: sheet.png
  storyboard: board.html
"""


def test_what_is_done_to_the_film_with_paths_from_the_timelines_folder() -> None:
    film = build(*parse(SHOT + FINISHED, "f.yaml", Path("films")))
    assert film.edit() == Edit(
        title="One day",
        credits="Pictures\ndiorama\n",
        captions="burn",
        music=Path("films/song.mp3"),
        fade=Time(Fraction(1, 2)),
        crossfade=Time(Fraction(6), in_frames=True),
        font=Path("/fonts/letters.ttf"),
        poster=Path("films/out/poster.png"),
        contact_sheet=Path("films/sheet.png"),
        storyboard=Path("films/board.html"),
    )
    nothing = build(*parse(SHOT + "output: {crf: 20}\n")).edit()
    assert nothing == Edit(crf=20)
    assert not nothing.changes_film


def test_files_that_are_to_be_read_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    for key, name, message in [
        ("music", "song.mp3", "there is no file"),
        ("font", "a.ttf", "there is no file"),
        ("credits", "credits.txt", "the credits cannot be read: No such file or directory"),
    ]:
        path.write_text(SHOT + f"output:\n  {key}: {name}\n")
        with pytest.raises(UserError) as error:
            load(path)
        assert str(error.value).startswith(f"{path}:3: output.{key}: ")
        assert message in str(error.value)
        (tmp_path / name).write_text("Pictures\nby hand")
        assert load(path).edit() != Edit()
    assert load(path).edit().credits == "Pictures\nby hand"
