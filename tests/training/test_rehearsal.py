"""Sample films: by the network in training, in its place."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from longvid import rendering
from longvid.errors import UserError
from longvid.plan import RenderPlan
from longvid.training.rehearsal import (
    Event,
    Rehearsal,
    Sampled,
    Sampling,
    Unsampled,
    plan_sample,
    rehearse,
    write_prompts,
)
from longvid.training.trainer import Averaged
from longvid.video import reader
from tests.tiny import RUNTIME, SPEC, TinyBackend, TinyTrainee
from tests.training.lessons import RECIPE, denoising, film, lesson

pytestmark = pytest.mark.usefixtures("workplace")
SHOTS = "shots: [{prompt: a red boat, seconds: 2}, {prompt: a blue sea, seconds: 2, guidance: 1}]\n"


def planned(written: str = SHOTS) -> RenderPlan:
    Path("film.yaml").write_text(written)
    backend = TinyBackend()
    return plan_sample(Path("film.yaml"), backend, SPEC.size, SPEC.fps, SPEC.window, backend.steps)


def rehearsal(written: str = SHOTS) -> Rehearsal:
    return Rehearsal.of(planned(written), TinyBackend().geometry, film(), RUNTIME)


def happening(trainee: TinyTrainee, path: Path | None, stopping: object = bool) -> list[Event]:
    return list(rehearse(rehearsal(), trainee, path, stopping))


def shown(path: Path) -> np.ndarray:
    return np.stack([pixels for _, pixels in reader.frames(path)])


@pytest.mark.parametrize("written", [SHOTS, SHOTS.replace("guidance: 1", "cut: true, negative: rain")])
def test_it_is_the_film_that_a_render_makes(written: str) -> None:
    """Of the same weights, to the frame: with switch or cut, guidance or none, a negative prompt."""
    trainee = film().trainee()
    events = list(rehearse(rehearsal(written), trainee, Path("samples/000015.mp4"), bool))
    made = planned(written)
    assert events == [
        *(Sampling(step + 1, made.evaluations) for step in range(made.evaluations)),
        Sampled(Path("samples/000015.mp4")),
    ]
    with closing(
        rendering.events(made, TinyBackend(), Path("film.mp4"), device="cpu", dtype="float32")
    ) as run:
        list(run)
    assert np.array_equal(shown(Path("samples/000015.mp4")), shown(Path("film.mp4")))
    assert all(module.training for module in trainee.network.modules())


def test_it_changes_nothing_of_the_training(tmp_path: Path) -> None:
    untrained, films = film().trainee().network.enter, rehearsal()

    def weights(folder: str, sample_steps: int) -> dict[str, Tensor]:
        objective = denoising(film())
        recipe = replace(RECIPE, steps=6, checkpoint_steps=3, sample_steps=sample_steps)
        for event in lesson(tmp_path / folder, recipe, objective=objective):
            if isinstance(event, Averaged):
                path = tmp_path / folder / f"{event.step}.mp4"
                assert Sampled(path) in rehearse(films, objective.trainee, path, bool)
                assert not torch.equal(objective.network.enter, untrained)
        return {name: weight.detach() for name, weight in objective.network.named_parameters()}

    without, with_films = weights("without", 0), weights("with", 2)
    assert sorted(path.name for path in (tmp_path / "with").glob("*.mp4")) == ["2.mp4", "4.mp4", "6.mp4"]
    assert not list((tmp_path / "without").glob("*.mp4"))
    assert all(torch.equal(without[name], with_films[name]) for name in without)


def test_a_signal_stops_it_behind_an_evaluation() -> None:
    trainee = film().trainee()
    events = happening(trainee, Path("000015.mp4"), lambda: True)
    assert events == [Sampling(1, planned().evaluations)]
    assert not Path("000015.mp4").exists() and trainee.network.training


def test_one_that_only_takes_part_writes_nothing() -> None:
    events = happening(film().trainee(), None)
    assert events[-1] == Sampling(planned().evaluations, planned().evaluations)
    assert [path.name for path in Path().iterdir()] == ["film.yaml"]


def test_what_goes_wrong_is_told_and_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("samples").write_text("in the way")
    told = happening(film().trainee(), Path("samples/000015.mp4"))[-1]
    assert isinstance(told, Unsampled) and told.path == Path("samples/000015.mp4")
    assert "File exists" in told.reason

    trainee = film().trainee()
    with torch.no_grad():
        trainee.network.leave.fill_(torch.nan)
    told = happening(trainee, Path("000015.mp4"))[-1]
    assert isinstance(told, Unsampled) and "chunk 0 became NaN or infinite at step 0" in told.reason
    assert trainee.network.training

    def full(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(TinyTrainee, "predict", full)
    told = happening(film().trainee(), Path("000015.mp4"))[-1]
    assert told == Unsampled(Path("000015.mp4"), "there is not enough memory beside the training")


def test_the_first_two_captions_are_the_film() -> None:
    captions = ["a boat", "a boat", 'the "sea": é', "a third"]
    path = write_prompts(Path("samples"), captions, TinyBackend().geometry, 3)
    made = plan_sample(path, TinyBackend(), SPEC.size, SPEC.fps, SPEC.window, 8)
    assert [(shot.prompt, shot.start_frame, shot.units, shot.cut) for shot in made.shots] == [
        ("a boat", 0, 3, False),
        ('the "sea": é', 24, 3, True),
    ]
    assert write_prompts(Path("samples"), ["another"], TinyBackend().geometry, 3) == path
    assert "another" not in path.read_text(), "the films of a run stay comparable"


def test_it_is_made_at_what_is_trained_on() -> None:
    Path("film.yaml").write_text("size: [32, 32]\nfps: 24\nwindow: 2\nmodel: diorama\n" + SHOTS)
    made = plan_sample(Path("film.yaml"), TinyBackend(), (24, 16), Fraction(12), 4, 8)
    assert (made.model, made.size, made.fps, made.window, made.steps) == ("tiny", (24, 16), 12, 4, 8)
    Path("film.yaml").write_text("steps: 16\n" + SHOTS)
    assert plan_sample(Path("film.yaml"), TinyBackend(), (24, 16), Fraction(12), 4, 8).steps == 16


@pytest.mark.parametrize(
    ("written", "where"),
    [
        ("start_from: a.png\n" + SHOTS, "film.yaml:1: start_from"),
        ("lora: ./mine\n" + SHOTS, "film.yaml:1: lora"),
        ("model_options: {gain: 2}\n" + SHOTS, "film.yaml:1: model_options"),
        ("shots:\n  - {prompt: a boat, seconds: 2, image: a.png}\n", "film.yaml:2: shots[0].image"),
    ],
)
def test_what_a_training_has_not_is_one_line(written: str, where: str) -> None:
    Path("a.png").write_bytes(b"")
    with pytest.raises(UserError) as raised:
        planned(written)
    assert str(raised.value) == f"{where}: a sample film of a training takes none; leave it out"
