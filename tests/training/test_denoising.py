"""What a step draws: whole chunks at equally likely places, under their captions, however it is shared."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch

from longvid.errors import UserError
from longvid.guidance import PromptText
from longvid.noise import noise
from longvid.training.denoising import Batch, Denoising, Task
from longvid.training.sequences import Excerpt, InMemory
from longvid.training.windows import Window
from tests.tiny import RUNTIME, SPEC, TinyBackend

GEOMETRY = TinyBackend().geometry
LATENTS, K = GEOMETRY.chunk_latents, GEOMETRY.window_units
FILM = TinyBackend().for_film(SPEC, RUNTIME)
NOTHING = InMemory((), (), FILM.text_encoder()([""]), LATENTS)
CHUNKS = (2, 5, 1, 3)


@pytest.fixture
def data() -> InMemory:
    """A latent's number tells its sequence and chunk; each chunk is under a caption of its own."""
    numbers = [100.0 * i + torch.arange(count).repeat_interleave(LATENTS) for i, count in enumerate(CHUNKS)]
    latents = [number.view(1, -1, 1, 1).expand(3, -1, 4, 6) for number in numbers]
    rows = iter(range(sum(CHUNKS)))
    captions = tuple(tuple(next(rows) for _ in range(count)) for count in CHUNKS)
    prompts = FILM.text_encoder()([f"word{row}" for row in range(sum(CHUNKS))])
    return InMemory(tuple(latents), captions, prompts, LATENTS)


def lesson(data: InMemory, held_out: InMemory = NOTHING, **options: Any) -> Denoising:
    return Denoising(
        FILM.trainee(), FILM, GEOMETRY, data, held_out, K, GEOMETRY.steps, RUNTIME.device, **options
    )


def draw(data: InMemory, window: Window, samples: range | list[int], dropout: float = 0.0) -> Batch:
    return lesson(data, dropout=dropout).draw(Task(window), 0, 0, samples)


def test_every_place_is_as_likely(data: InMemory) -> None:
    window = Window("progressive", 0, 1, True)
    batch = draw(data, window, range(3000), 0.0)
    starts = batch.clean[:, 0, 0, 0, 0].int().tolist()
    places = Counter((start // 100, start % 100) for start in starts)
    assert set(places) == {(0, 0), *((1, first) for first in range(4)), (3, 0), (3, 1)}
    assert all(abs(count - 3000 / 7) < 90 for count in places.values())
    for clean in batch.clean[:20]:
        chunk = clean[0, :, 0, 0]
        assert (chunk - chunk[0]).tolist() == [0] * LATENTS + [1] * LATENTS


def test_a_sample_has_the_captions_of_its_chunks(data: InMemory) -> None:
    batch = draw(data, Window("uniform", 0, 2, False), range(20), 0.0)
    first_row = [sum(CHUNKS[:i]) for i in range(len(CHUNKS))]
    for clean, text in zip(batch.clean, batch.texts, strict=True):
        assert isinstance(text, PromptText)
        sequence, chunk = divmod(int(clean[0, 0, 0, 0]), 100)
        rows = [first_row[sequence] + chunk, first_row[sequence] + chunk + 1]
        assert text.mix.tolist() == [[1, 0], [0, 1]]
        assert torch.equal(text.prompts.embeddings, data.prompts.embeddings[rows])


def test_a_dropped_caption_is_the_null_prompt(data: InMemory) -> None:
    window = Window("uniform", 0, 1, False)
    drawn = draw(data, window, range(1000), 0.2)
    dropped = [not text.prompts.embeddings.any() for text in drawn.texts]
    assert sum(dropped) / 1000 == pytest.approx(0.2, abs=0.04)
    kept = draw(data, window, range(1000), 0.0)
    assert all(text.prompts.embeddings.any() for text in kept.texts)


def test_levels_go_through_the_schedule_and_context_is_clean(data: InMemory) -> None:
    batch = draw(data, Window("progressive", 0, K, True), range(50))
    assert batch.times.shape == (50, (K + 1) * LATENTS)
    assert batch.weights.shape == (50, (K + 1) * LATENTS, 4, 6)
    assert not batch.times[:, :LATENTS].any() and not batch.weights[:, :LATENTS].any()
    assert (batch.weights[:, LATENTS:] == 1).all()
    levels = batch.times / (1.5 - 0.5 * batch.times)  # the schedule's inverse
    inner = levels[:, 2 * LATENTS : K * LATENTS : LATENTS]
    torch.testing.assert_close(inner.diff(dim=1), torch.full_like(inner[:, 1:], 1 / K), rtol=0, atol=1e-5)


def test_a_sample_depends_on_seed_step_and_its_number_alone(data: InMemory) -> None:
    objective = lesson(data, dropout=0.5)
    task = objective.draw_task(5, 7)
    assert task == lesson(data).draw_task(5, 7)
    together = objective.draw(task, 5, 7, range(4))
    for sample in (2, 0):
        alone = objective.draw(task, 5, 7, [sample])
        for name in ("clean", "noise", "times", "weights"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[sample])
        assert torch.equal(alone.texts[0].prompts.embeddings, together.texts[sample].prompts.embeddings)
    assert torch.equal(together.noise[2], noise(5, 2, 7, together.noise[2].shape))
    others = [objective.draw(task, *place, range(4)) for place in ((6, 7), (5, 8))]
    assert all(not torch.equal(other.times, together.times) for other in others)


def test_windows_fit_the_data(data: InMemory) -> None:
    objective = lesson(data)
    tasks = [objective.draw_task(0, step) for step in range(200)]
    assert {task.window.chunks for task in tasks} == {1, 2, 3, 4, 5}
    short = InMemory(data.latents[2:3], data.captions[2:3], data.prompts, LATENTS)
    assert {lesson(short).draw_task(0, step).window.chunks for step in range(50)} == {1}
    with pytest.raises(UserError, match="no sequence"):
        lesson(NOTHING).draw_task(0, 0)


def test_every_step_has_about_as_many_latents(data: InMemory) -> None:
    objective = lesson(data)
    for chunks in range(1, K + 2):
        task = Task(Window("uniform", 0, chunks, False))
        assert objective.multiple(task) == (K + 1) // chunks


def test_a_network_that_knows_nothing_begins_with_short_windows(data: InMemory) -> None:
    objective = lesson(data, short_steps=100)
    short = [objective.draw_task(0, step).window for step in range(100)]
    assert {(w.kind, w.chunks, w.context) for w in short} == {("uniform", 1, False), ("uniform", 2, False)}
    assert {objective.draw_task(0, step).window.kind for step in range(100, 200)} > {"uniform"}
    assert objective.identity()["short_steps"] == 100


class InTransition(InMemory):
    """Sequences of which only the second chunk could begin a film."""

    def begins(self, sequence: int) -> tuple[bool, ...]:
        return tuple(chunk == 1 for chunk in range(len(self.captions[sequence])))


def test_a_window_without_context_begins_where_a_film_could(data: InMemory) -> None:
    moving = InTransition(data.latents, data.captions, data.prompts, LATENTS)
    starts = draw(moving, Window("uniform", 0, 1, False), range(50)).clean[:, 0, 0, 0, 0].int()
    assert set(starts.tolist()) == {1, 101, 301}
    behind = draw(moving, Window("progressive", 0, 1, True), range(200)).clean[:, 0, 0, 0, 0].int()
    assert set(behind.tolist()) == {0, 100, 101, 102, 103, 300, 301}
    with pytest.raises(UserError, match="no sequence has a place where 5 chunks could begin a film"):
        draw(moving, Window("uniform", 0, 5, False), range(1))


class OfOneObject(InMemory):
    """Sequences whose first cell counts four times."""

    def excerpt(self, sequence: int, first: int, chunks: int) -> Excerpt:
        weights = torch.ones(chunks * LATENTS, 4, 6)
        weights[:, 0, 0] = 4
        return replace(super().excerpt(sequence, first, chunks), weights=weights)


def test_cells_count_as_the_data_say_and_context_does_not(data: InMemory) -> None:
    heavy = OfOneObject(data.latents, data.captions, data.prompts, LATENTS)
    weights = draw(heavy, Window("progressive", 0, 1, True), range(2)).weights
    assert (weights[:, LATENTS:, 0, 0] == 4).all() and (weights[:, LATENTS:, 1:] == 1).all()
    assert not weights[:, :LATENTS].any()


@pytest.mark.parametrize(
    ("longest", "chunks"), [(9, (5, 1, 4)), (5, (5, 1, 4)), (3, (3, 1, 3)), (1, (1, 1, 1))]
)
def test_what_is_held_out_is_measured_in_windows_that_fit(longest: int, chunks: tuple[int, ...]) -> None:
    latents = torch.zeros(3, longest * LATENTS, 4, 6)
    long = InMemory((latents,), ((0,) * longest,), FILM.text_encoder()(["a"]), LATENTS)
    checks = lesson(NOTHING, long).checks
    assert tuple(checks[kind].window.chunks for kind in ("steady", "start", "uniform")) == chunks
    if longest > K:
        assert checks["steady"] == Task(Window("progressive", 0, K, True))
    assert checks["start"] == Task(Window("progressive", K - 1, 1, False))
    assert lesson(long).checks == {}


def test_the_text_checks_differ_in_their_prompts_alone(data: InMemory) -> None:
    objective = lesson(NOTHING, data, dropout=1.0)
    own, another, none = (
        objective.draw(objective.checks[check], 0, 0, range(20), held_out=True)
        for check in ("text", "text_another", "text_none")
    )
    for other in (another, none):
        assert torch.equal(own.clean, other.clean) and torch.equal(own.noise, other.noise)
    level = torch.tensor(0.95)
    assert torch.equal(own.times, FILM.schedule(level).expand_as(own.times))
    for clean, text in zip(own.clean, own.texts, strict=True):
        sequence, chunk = divmod(int(clean[0, 0, 0, 0]), 100)
        row = sum(CHUNKS[:sequence]) + chunk
        assert torch.equal(text.prompts.embeddings[0], data.prompts.embeddings[row])
    told = [text.prompts.embeddings[0] for text in own.texts]
    differ = [not torch.equal(a, b.prompts.embeddings[0]) for a, b in zip(told, another.texts, strict=True)]
    assert sum(differ) > 10
    assert not any(text.prompts.embeddings.any() for text in none.texts)
