import os
from pathlib import Path

import pytest

from longvid.benchmarks import PROMPTS, Setup, alone
from longvid.errors import UserError
from tests.installed import install_tiny


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(install_tiny(tmp_path)))


def test_a_film_shows_every_prompt_for_about_as_long() -> None:
    film = Setup("tiny").plan(10)
    assert [shot.prompt for shot in film.shots] == list(PROMPTS)
    assert film.frames == 120
    assert [shot.requested_start_frame for shot in film.shots] == [0, 36, 72]


def test_a_short_film_shows_one() -> None:
    film = Setup("tiny").plan(9)
    assert (film.prompts, film.frames) == (PROMPTS[:1], 108)
    assert Setup("tiny").plan(20, shots=1).prompts == PROMPTS[:1]


def test_a_size_is_the_films() -> None:
    assert Setup("tiny").plan(10).size == (24, 16)
    assert Setup("tiny", size=(32, 48)).plan(10).size == (32, 48)
    with pytest.raises(UserError, match="size"):
        Setup("tiny", size=(33, 48)).plan(10)


def test_random_weights_are_asked_of_the_backend() -> None:
    assert Setup("tiny", random_weights=True).backend().name == "tiny"
    with pytest.raises(UserError, match="--random-weights: diorama's own come with longvid; leave it out"):
        Setup("diorama", random_weights=True).backend()


def test_alone_is_in_another_process_and_brings_back_errors() -> None:
    assert alone(os.getpid) != os.getpid()
    with pytest.raises(ValueError, match="invalid literal"):
        alone(int, "one")
