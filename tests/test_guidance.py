from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from longvid.backends import Prompts
from longvid.guidance import PromptText, classifier_free, per_frame, per_prompt
from longvid.noise import noise
from tests.tiny import RUNTIME, SPEC, TinyBackend, TinyFilm

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
