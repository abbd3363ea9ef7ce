import json
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from longvid import timeline
from longvid.errors import UserError
from longvid.evaluation.provenance import Cost, Provenance, Shot, provenance
from longvid.video import source
from tests.evaluation.pictures import levels, write
from tests.planning import longvid

FILM = {
    "model": "tiny",
    "seed": 7,
    "shots": [
        {"prompt": "a boat", "seconds": "21f"},
        {"prompt": "the sea", "seconds": "24f", "blend_seconds": "16f"},
        {"prompt": "a city", "seconds": "15f", "cut": True},
    ],
}
BORDERS = (8, 16, 24, 32, 40, 45, 53)
"""Eight frames a chunk; the cut at 45 begins anew."""


def rendered(**output: object) -> source.Source:
    Path("film.yaml").write_text(json.dumps({**FILM, "output": {"scale": 2, **output}}))
    ran = longvid("render", "film.yaml", "--device", "cpu", "-q")
    assert ran.code == 0, ran.err
    return source.probe(Path("film.mp4"))


def asked(name: str = "film.yaml", **keys: object) -> timeline.Timeline:
    Path(name).write_text(json.dumps({**FILM, **keys}))
    return timeline.load(Path(name))


SHOTS = (
    Shot("a boat", 0, 0, 24, cut=False),
    Shot("the sea", 21, 24, 45, cut=False, blend_frames=16),
    Shot("a city", 45, 45, 60, cut=True),
)


def test_a_render_tells_everything(workplace: Path) -> None:
    found = provenance(rendered())
    assert found.shots == SHOTS
    assert (found.borders, found.chunk_frames, found.cuts) == (BORDERS, 8, (45,))
    assert found.latents == {12, 20, 28, 36, 44, 49, 57}
    assert found.planned == {0, 24, 32, 40, 45}
    assert found.take is not None and found.take.complete
    assert found.cost is not None and found.notes == ()
    plan = json.loads(Path("film.longvid/plan.json").read_text())
    records = [json.loads(path.read_text()) for path in Path("film.longvid/chunks").glob("*.json")]
    evaluations = sum(shot["evaluations"] for shot in plan["shots"])
    spent = sum(sum(record["seconds"].values()) for record in records)
    assert found.cost == Cost(evaluations / 5, pytest.approx(spent / 5))


def test_the_file_alone_tells_shots_and_chunks(workplace: Path) -> None:
    rendered()
    shutil.move("film.mp4", "moved.mp4")
    found = provenance(source.probe(Path("moved.mp4")))
    assert found.shots == tuple(
        replace(shot, requested_frame=shot.start_frame, blend_frames=0) for shot in SHOTS
    )
    assert (found.borders, found.chunk_frames) == (BORDERS, 8)
    assert (found.take, found.cost, found.notes) == (None, None, ())


def test_a_work_directory_of_another_film_tells_nothing(workplace: Path) -> None:
    rendered()
    write(Path("film.mp4"), levels(60))
    found = provenance(source.probe(Path("film.mp4")))
    assert found.shots == (Shot("", 0, 0, 60, cut=False),)
    assert (found.borders, found.take) == (None, None)
    assert found.notes == ("neither its shots nor its chunks are known; it is taken as one shot",)


def test_a_timeline_tells_of_any_film(workplace: Path) -> None:
    film = source.probe(write(Path("film.mp4"), levels(60)))
    found = provenance(film, asked())
    assert found.shots == (
        Shot("a boat", 0, 0, 21, cut=False),
        Shot("the sea", 21, 21, 45, cut=False, blend_frames=16),
        Shot("a city", 45, 45, 60, cut=True),
    )
    assert found.chunk_frames == 8, "of the model that it names"
    assert (found.borders, found.notes) == (BORDERS, ())


def test_a_timeline_without_a_model_tells_of_no_chunks(workplace: Path) -> None:
    film = source.probe(write(Path("film.mp4"), levels(60)))
    Path("film.yaml").write_text(json.dumps({"shots": FILM["shots"]}))
    found = provenance(film, timeline.load(Path("film.yaml")))
    assert [shot.start_frame for shot in found.shots] == [0, 21, 45]
    assert (found.borders, found.notes) == (None, ("where its chunks begin is not known",))


def test_a_film_at_another_rate_is_not_made_of_the_timelines_chunks(workplace: Path) -> None:
    film = source.probe(write(Path("film.mp4"), levels(120), fps=Fraction(24)))
    found = provenance(
        film, asked(shots=[{"prompt": each, "seconds": 2.5} for each in ("a boat", "the sea")])
    )
    assert [shot.start_frame for shot in found.shots] == [0, 60]
    assert (found.borders, found.chunk_frames) == (None, None)
    assert found.notes == (
        "it has 24 frames a second, not the timeline's 12, so where its chunks begin is not known",
    )


def test_a_timeline_says_when_switches_were_asked_for_and_the_film_when_they_came(workplace: Path) -> None:
    rendered()
    shutil.move("film.mp4", "moved.mp4")
    assert provenance(source.probe(Path("moved.mp4")), asked()).shots == SHOTS


def test_another_films_timeline_is_refused(workplace: Path) -> None:
    film = source.probe(write(Path("film.mp4"), levels(60)))
    with pytest.raises(UserError, match=r"film.yaml: lasts 0:40, and film.mp4 0:05: give --timeline the one"):
        provenance(film, asked(shots=[{"prompt": "a boat", "seconds": 40}]))


@pytest.mark.parametrize(
    ("shots", "model", "note"),
    [
        ([("a", 0, False), ("b", 24, False)], "nobody's", "its model is not known here"),
        ([("a", 0, False), ("b", 25, False)], "tiny", "where its chunks begin is not known"),
        ([("", 0, False), ("b", 24, False)], "tiny", "where its chunks begin is not known"),
    ],
)
def test_metadata_that_fit_no_chunks(
    workplace: Path, shots: list[tuple[str, int, bool]], model: str, note: str
) -> None:
    told = [
        {"title": "", "prompt": prompt, "start_frame": start, "end_frame": 60, "cut": cut}
        for prompt, start, cut in shots
    ]
    film = write(Path("film.mp4"), levels(60), metadata={"shots": json.dumps(told), "model": model})
    found = provenance(source.probe(film))
    assert len(found.shots) == 2 and found.borders is None
    assert found.notes[0].startswith(note)


def test_a_film_that_goes_on_from_a_clip(workplace: Path) -> None:
    write(Path("clip.mp4"), levels(36))
    ran = longvid("extend", "clip.mp4", "--seconds", 3, "--model", "tiny", "--device", "cpu", "-q")
    assert ran.code == 0, ran.err
    found = provenance(source.probe(Path("clip-extended.mp4")))
    assert found.borders is None and found.take is None
    assert found.notes == ("it follows a clip, so where its chunks begin is not known",)


def test_without_chunks_what_was_planned_are_the_shots() -> None:
    assert Provenance(SHOTS).planned == {0, 24, 45}
    assert Provenance(SHOTS).latents == frozenset()
