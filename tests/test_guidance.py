from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from longvid.backends import Prompts
from longvid.guidance import Predict, PromptText, classifier_free, per_frame, per_prompt, starting_from
from longvid.noise import noise
from tests.looping import finished_of, run, tiny_predict, warped
from tests.tiny import RUNTIME, SPEC, TinyBackend, TinyFilm
from tests.walking import progressive, walk

UNITS, LATENTS = 4, 2
X = noise(0, 0, 0, (1, 3, UNITS * LATENTS, 4, 6))
T = torch.linspace(0.1, 1, UNITS).repeat_interleave(LATENTS)[None]


def tiny_film() -> TinyFilm:
    return TinyBackend().for_film(SPEC, RUNTIME)


def encode(*prompts: str) -> Prompts:
    return tiny_film().text_encoder()(prompts)


@dataclass
class Answers:
    """A denoiser that answers, for each unit, the sum of its shares times the prompts' first number."""

    calls: list[tuple[PromptText, Tensor]] = field(default_factory=list)

    def __call__(self, x: Tensor, t: Tensor, text: PromptText) -> Tensor:
        self.calls.append((text, t))
        return per_frame(text.mix @ text.prompts.embeddings[:, 0, 0], x).expand_as(x)


def numbers(prompts: Sequence[float], nulls: Sequence[float], mix: Sequence[Sequence[float]]) -> PromptText:
    """A text whose prompts and nulls are plain numbers."""
    rows = [torch.tensor(row, dtype=torch.float32).view(-1, 1, 1) for row in (prompts, nulls)]
    mask = torch.ones(len(prompts), 1, dtype=torch.bool)
    return PromptText(Prompts(rows[0], mask), Prompts(rows[1], mask), torch.tensor(mix, dtype=torch.float32))


def per_unit(x: Tensor) -> list[float]:
    """One number a unit, all of its elements being equal."""
    values = [chunk.unique() for chunk in x.chunk(UNITS, dim=2)]
    assert all(len(value) == 1 for value in values)
    return [float(value) for value in values]


def test_every_unit_is_guided_by_its_own_scale() -> None:
    answers = Answers()
    text = numbers([4, 10], [1, 3], [(1, 0), (1, 0), (0.5, 0.5), (0, 1)])
    predict = classifier_free(answers, text, [1, 2, 3, 0])
    # cond 4 4 7 10, null 1 1 2 3
    assert per_unit(predict(X, T, (0, 1, 2, 3))) == [4, 7, 17, 3]
    assert len(answers.calls) == 2
    assert all(call[1] is T for call in answers.calls)


def test_scale_one_costs_one_call_and_is_the_conditional_prediction_to_the_bit() -> None:
    film = tiny_film()
    text = film.text(
        encode("a red boat", "a storm"), {}, torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1], [0, 1]])
    )
    units = (0, 1, 2, 3)
    conditional = film.denoiser()(X, T, text.for_units(units))

    answers = Answers()
    classifier_free(answers, text, [1.0] * 5)(X, T, units)
    assert len(answers.calls) == 1
    classifier_free(answers, text, [1.0, 1.0, 1.0, 1.0, 7.0])(X, T, units)
    assert len(answers.calls) == 2  # unit 4 is not in the window

    assert torch.equal(classifier_free(film.denoiser(), text, [1.0] * 5)(X, T, units), conditional)
    mixed = classifier_free(film.denoiser(), text, [1.0, 7.0, 1.0, 1.0, 1.0])(X, T, units)
    for unit, (one, other) in enumerate(zip(mixed.chunk(UNITS, 2), conditional.chunk(UNITS, 2), strict=True)):
        assert torch.equal(one, other) == (unit != 1)


def test_predictions_of_a_narrow_dtype_are_guided_in_fp32() -> None:
    def denoiser(x: Tensor, t: Tensor, text: PromptText) -> Tensor:
        return Answers()(x, t, text).bfloat16()

    predict = classifier_free(denoiser, numbers([1.0], [0.0078125], [[1.0]] * UNITS), [1.5] * UNITS)
    guided = predict(X, T, (0, 1, 2, 3))
    assert guided.dtype == torch.float32
    assert per_unit(guided) == [1.49609375] * UNITS  # bf16 has no such number


def test_a_negative_prompt_stands_in_for_the_null() -> None:
    film = tiny_film()
    mix = torch.ones(UNITS, 1)
    avoided = film.text(encode("a red boat"), {0: encode("blurry")}, mix).null()
    asked = film.text(encode("blurry"), {}, mix)
    assert torch.equal(film.denoiser()(X, T, avoided), film.denoiser()(X, T, asked))


def test_text_keeps_only_the_prompts_of_its_units_in_the_units_order() -> None:
    text = numbers([1, 2, 3], [-1, -2, -3], [(1, 0, 0), (0.25, 0, 0.75), (0, 1, 0), (0, 0, 1)])
    window = text.for_units([3, 1])
    assert window.prompts.embeddings.flatten().tolist() == [1, 3]
    assert window.nulls.embeddings.flatten().tolist() == [-1, -3]
    assert window.mix.tolist() == [[0, 1], [0.25, 0.75]]
    assert window.null().prompts.embeddings.flatten().tolist() == [-1, -3]
    assert window.null().null().prompts.embeddings.flatten().tolist() == [-1, -3]


def test_per_prompt_evaluates_each_prompt_of_the_window_once() -> None:
    text = numbers(
        [1, 2, 30], [0, 0, 0], [(1, 0, 0), (1, 0, 0), (0.25, 0.75, 0), (0, 1, 0), (0, 0, 1), (0, 0, 1)]
    )
    answers = Answers()
    denoiser = per_prompt(answers)
    assert per_unit(denoiser(X, T, text.for_units([0, 1, 2, 3]))) == [1, 1, 1.75, 2]
    assert [call[0].mix.tolist() for call in answers.calls] == [[[1.0]] * 4] * 2
    assert [float(call[0].prompts.embeddings) for call in answers.calls] == [1, 2]

    answers.calls.clear()
    assert per_unit(denoiser(X, T, text.for_units([4, 5, 4, 5]))) == [30, 30, 30, 30]
    assert len(answers.calls) == 1


def test_per_prompt_takes_nothing_from_a_prompt_that_is_not_its_own() -> None:
    def denoiser(x: Tensor, t: Tensor, text: PromptText) -> Tensor:
        answer = Answers()(x, t, text)
        return torch.where(answer == 2, float("nan"), answer)

    text = numbers([1, 2], [0, 0], [(1, 0), (1, 0), (1, 0), (0, 1)])
    prediction = per_prompt(denoiser)(X, T, text)
    assert prediction[:, :, :6].unique().tolist() == [1]
    assert prediction[:, :, 6:].isnan().all()


def test_per_prompt_of_one_prompt_is_the_network_itself() -> None:
    film = tiny_film()
    text = film.text(encode("a red boat"), {}, torch.ones(UNITS, 1))
    assert torch.equal(per_prompt(film.denoiser())(X, T, text), film.denoiser()(X, T, text))


def test_a_negative_stands_in_for_the_null_of_its_own_prompt_only() -> None:
    film = tiny_film()
    prompts, mix = encode("a red boat", "a storm"), torch.tensor([[1.0, 0], [0, 1]])
    plain = film.text(prompts, {}, mix).null()
    avoided = film.text(prompts, {1: encode("blurry")}, mix).null()
    assert torch.equal(avoided.prompts.embeddings[0], plain.prompts.embeddings[0])
    assert torch.equal(avoided.prompts.embeddings[1], encode("blurry").embeddings[0])


# Runs that start from a picture

PICTURE = noise(1, 0, 0, (1, 3, 1, 4, 6))


@dataclass
class Recording:
    """A guided network that answers with what it is shown."""

    calls: list[tuple[Tensor, Tensor, tuple[int, ...]]] = field(default_factory=list)

    def __call__(self, x: Tensor, t: Tensor, units: tuple[int, ...]) -> Tensor:
        self.calls.append((x, t, units))
        return x


def test_a_picture_stands_clean_in_front_and_every_latent_is_a_unit() -> None:
    network = Recording()
    answer = starting_from(network, {5: PICTURE})(X, T, (5, 6, 7, 8))
    ((x, t, units),) = network.calls
    assert torch.equal(x, torch.cat([PICTURE, X], dim=2))
    assert torch.equal(t, torch.cat([torch.zeros(1, 1), T], dim=1))
    assert units == (5, 5, 5, 6, 6, 7, 7, 8, 8)
    assert torch.equal(answer, X)


def test_a_picture_is_gone_once_its_unit_is_clean_or_has_left() -> None:
    clean = torch.cat([torch.zeros(1, LATENTS), T[:, LATENTS:]], dim=1)
    for t, units in ((clean, (5, 6, 7, 8)), (T, (6, 7, 8, 9)), (T, (4, 5, 6, 7))):
        network = Recording()
        assert starting_from(network, {5: PICTURE})(X, t, units) is X
        ((x, times, told),) = network.calls
        assert x is X
        assert times is t
        assert told == units


def test_a_picture_comes_in_the_dtype_and_to_every_sample_of_a_batch() -> None:
    network = Recording()
    pair, times = torch.cat([X, -X]).double(), torch.cat([T, T.flip(1)]).double()
    starting_from(network, {5: PICTURE})(pair, times, (5, 6, 7, 8))
    ((x, t, _),) = network.calls
    assert (x.dtype, t.dtype) == (torch.float64, torch.float64)
    assert torch.equal(x[:, :, :1], PICTURE.double().expand(2, -1, -1, -1, -1))
    assert torch.equal(t[:, 1:], times)


def test_a_picture_hears_the_first_unit_and_the_others_what_they_heard() -> None:
    """A network without a look across frames predicts the same for the window, whatever stands in front."""
    text = numbers([4, 10], [1, 3], [(1, 0), (1, 0), (0.5, 0.5), (0, 1)])
    answers = Answers()
    predict = starting_from(classifier_free(answers, text, [1, 2, 3, 0]), {0: PICTURE})
    assert per_unit(predict(X, T, (0, 1, 2, 3))) == [4, 7, 17, 3]
    shares = [[1, 0]] * 5 + [[0.5, 0.5]] * 2 + [[0, 1]] * 2
    assert [call.mix.tolist() for call, _ in answers.calls] == [shares] * 2


def towards_the_first(x: Tensor, t: Tensor, units: tuple[int, ...]) -> Tensor:
    """The exact field of films whose latents are all as the window's first where that is clean, else 0."""
    goal = x[:, :, :1] * (t[:, :1] == 0).view(-1, 1, 1, 1, 1)
    return (x - goal) / t.clamp(min=1 / 64).view(len(x), 1, -1, 1, 1)


@pytest.mark.parametrize("method", ["progressive", "replace"])
def test_each_run_extends_its_own_picture(method: str) -> None:
    """Three runs, the first and the last of a picture, the one between from text alone."""
    runs, other = (3, 2, 3), -2 * PICTURE
    predict = starting_from(towards_the_first, {0: PICTURE, 5: other})
    film = finished_of(run(walk(method, runs, 8, 2), predict, levels=8, schedule=warped))
    for unit, goal in enumerate([PICTURE] * 3 + [0 * PICTURE] * 2 + [other] * 3):
        torch.testing.assert_close(film[unit], goal.expand_as(film[unit]), rtol=0, atol=1e-5)


def test_a_picture_is_shown_for_as_many_steps_as_its_unit_takes() -> None:
    shown: list[tuple[int, ...]] = []

    def predict(x: Tensor, t: Tensor, units: tuple[int, ...]) -> Tensor:
        shown.append(units)
        return x

    finished_of(run(progressive((4,), 8, 4), starting_from(predict, {0: PICTURE}), levels=8))
    with_picture = [units for units in shown if units.count(0) == 1 + LATENTS]
    assert with_picture == shown[:8]
    assert shown[7:10] == [(0, *[0] * 2, *[1] * 2, *[2] * 2, *[3] * 2), (0, 1, 2, 3), (0, 1, 2, 3)]


def test_a_later_runs_picture_leaves_the_runs_before_it_as_they_are() -> None:
    def film(predict: Predict) -> list[Tensor]:
        return finished_of(run(progressive((2, 3), 8, 4), predict, levels=8))

    network = tiny_predict([(1.0, 0.0)] * 5)
    plain, pictured = film(network), film(starting_from(network, {2: PICTURE}))
    assert all(torch.equal(one, same) for one, same in zip(plain[:2], pictured[:2], strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(plain[2:], pictured[2:], strict=True))
