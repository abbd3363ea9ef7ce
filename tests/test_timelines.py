"""The films in `timelines/`, and the one of `longvid new`: all of them plan, in words that diorama knows."""

from fractions import Fraction
from pathlib import Path

import pytest

from longvid.backends.diorama import Diorama
from longvid.commands.new import STARTER
from longvid.document import parse
from longvid.plan import plan
from longvid.timeline import build, load

FILMS = sorted((Path(__file__).parents[1] / "timelines").glob("*.yaml"))


@pytest.mark.parametrize("path", FILMS, ids=lambda path: path.stem)
def test_a_film_to_try(path: Path) -> None:
    made = plan(load(path), Diorama())
    assert made.model == "diorama"
    assert [shot.unknown_words for shot in made.shots] == [()] * len(made.shots)
    assert 20 <= made.frames / made.fps <= 120
    assert path.read_text().startswith("# ")


def test_there_are_enough_to_choose_from() -> None:
    assert len(FILMS) >= 4


def test_the_demo_has_four_prompts_and_lasts_half_a_minute() -> None:
    made = plan(load(FILMS[0].parent / "demo.yaml"), Diorama())
    assert (len(made.prompts), made.frames / made.fps, made.runs) == (4, Fraction(32), (24,))


def test_the_starter_plans() -> None:
    made = plan(build(*parse(STARTER)), Diorama())
    assert [shot.unknown_words for shot in made.shots] == [()] * 3
    assert made.runs == (12, 5)


def test_the_starters_commented_keys_are_keys() -> None:
    lines = STARTER.splitlines()
    commented = [
        line.removeprefix("# ") for line in lines if line.startswith(("# guidance", "# neg", "# output"))
    ]
    assert len(commented) == 3
    made = plan(build(*parse("\n".join([*commented, STARTER]))), Diorama())
    assert (made.shots[0].guidance, made.negatives, made.scale, made.crf) == (3, ("in the rain",) * 3, 3, 20)
