"""What a step draws: whole chunks at equally likely places, under their captions, however it is shared."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from longvid.errors import UserError
from longvid.guidance import PromptText
from longvid.noise import noise
from longvid.training.objective import Objective, checks
from longvid.training.sequences import InMemory
from longvid.training.windows import Window
from tests.tiny import RUNTIME, SPEC, TinyBackend

GEOMETRY = TinyBackend().geometry
LATENTS, K = GEOMETRY.chunk_latents, GEOMETRY.window_units
FILM = TinyBackend().for_film(SPEC, RUNTIME)
OBJECTIVE = Objective(FILM, GEOMETRY, K, GEOMETRY.steps, RUNTIME.device)
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


def test_every_place_is_as_likely(data: InMemory) -> None:
    window = Window("progressive", 0, 1, True)
    batch = OBJECTIVE.draw(data, window, 0, 0, range(3000), 0.0)
    starts = batch.clean[:, 0, 0, 0, 0].int().tolist()
    places = Counter((start // 100, start % 100) for start in starts)
    assert set(places) == {(0, 0), *((1, first) for first in range(4)), (3, 0), (3, 1)}
    assert all(abs(count - 3000 / 7) < 90 for count in places.values())
    for clean in batch.clean[:20]:
        chunk = clean[0, :, 0, 0]
        assert (chunk - chunk[0]).tolist() == [0] * LATENTS + [1] * LATENTS


def test_a_sample_has_the_captions_of_its_chunks(data: InMemory) -> None:
    batch = OBJECTIVE.draw(data, Window("uniform", 0, 2, False), 0, 0, range(20), 0.0)
    first_row = [sum(CHUNKS[:i]) for i in range(len(CHUNKS))]
    for clean, text in zip(batch.clean, batch.texts, strict=True):
        assert isinstance(text, PromptText)
        sequence, chunk = divmod(int(clean[0, 0, 0, 0]), 100)
        rows = [first_row[sequence] + chunk, first_row[sequence] + chunk + 1]
        assert text.mix.tolist() == [[1, 0], [0, 1]]
        assert torch.equal(text.prompts.embeddings, data.prompts.embeddings[rows])


def test_a_dropped_caption_is_the_null_prompt(data: InMemory) -> None:
    window = Window("uniform", 0, 1, False)
    drawn = OBJECTIVE.draw(data, window, 0, 0, range(1000), 0.2)
    dropped = [not text.prompts.embeddings.any() for text in drawn.texts]
    assert sum(dropped) / 1000 == pytest.approx(0.2, abs=0.04)
    kept = OBJECTIVE.draw(data, window, 0, 0, range(1000), 0.0)
    assert all(text.prompts.embeddings.any() for text in kept.texts)


def test_levels_go_through_the_schedule_and_context_is_clean(data: InMemory) -> None:
    batch = OBJECTIVE.draw(data, Window("progressive", 0, K, True), 0, 0, range(50), 0.0)
    assert batch.times.shape == batch.noisy.shape == (50, (K + 1) * LATENTS)
    assert not batch.times[:, :LATENTS].any() and not batch.noisy[:, :LATENTS].any()
    assert batch.noisy[:, LATENTS:].all()
    levels = batch.times / (1.5 - 0.5 * batch.times)  # the schedule's inverse
    inner = levels[:, 2 * LATENTS : K * LATENTS : LATENTS]
    torch.testing.assert_close(inner.diff(dim=1), torch.full_like(inner[:, 1:], 1 / K), rtol=0, atol=1e-5)


def test_a_sample_depends_on_seed_step_and_its_number_alone(data: InMemory) -> None:
    window = OBJECTIVE.draw_window(data, 5, 7)
    assert window == OBJECTIVE.draw_window(data, 5, 7)
    together = OBJECTIVE.draw(data, window, 5, 7, range(4), 0.5)
    for sample in (2, 0):
        (alone,) = [OBJECTIVE.draw(data, window, 5, 7, [sample], 0.5)]
        for name in ("clean", "noise", "times", "noisy"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[sample])
        assert torch.equal(alone.texts[0].prompts.embeddings, together.texts[sample].prompts.embeddings)
    assert torch.equal(together.noise[2], noise(5, 2, 7, together.noise[2].shape))
    others = [OBJECTIVE.draw(data, window, *place, range(4), 0.5) for place in ((6, 7), (5, 8))]
    assert all(not torch.equal(other.times, together.times) for other in others)


def test_windows_fit_the_data(data: InMemory) -> None:
    drawn = [OBJECTIVE.draw_window(data, 0, step) for step in range(200)]
    assert {window.chunks for window in drawn} == {1, 2, 3, 4, 5}
    short = InMemory(data.latents[2:3], data.captions[2:3], data.prompts, LATENTS)
    assert {OBJECTIVE.draw_window(short, 0, step).chunks for step in range(50)} == {1}
    with pytest.raises(UserError, match="no sequence"):
        OBJECTIVE.draw_window(InMemory((), (), data.prompts, LATENTS), 0, 0)


@pytest.mark.parametrize(
    ("longest", "chunks"), [(9, (5, 1, 4)), (5, (5, 1, 4)), (3, (3, 1, 3)), (1, (1, 1, 1))]
)
def test_what_is_held_out_is_measured_in_windows_that_fit(longest: int, chunks: tuple[int, ...]) -> None:
    assert tuple(window.chunks for window in checks(K, longest).values()) == chunks
    assert checks(K, 9)["steady"] == Window("progressive", 0, K, True)
    assert checks(K, 9)["start"] == Window("progressive", K - 1, 1, False)
