"""Votes of people who saw two films of one prompt and seed, and were not told by which methods.

A file of them is what ``duel.html`` lets a viewer save:

    {"votes": [{"id": "...", "left": "FILM", "right": "FILM", "question": "overall", "choice": "left"}, ...]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from longvid.document import show
from longvid.errors import UserError
from longvid.evaluation.suite import Film, Suite
from longvid.files import digest, read_sealed, write_sealed

Choice = Literal["left", "right", "same"]
QUESTIONS = {
    "long_shot": "long shot",
    "motion": "motion",
    "consistency": "consistency",
    "overall": "overall",
}
"""What the paper's viewers were asked (Xie et al. 2024, Fig. 4)."""
WINS = {"left": 1.0, "same": 0.5, "right": 0.0}
"""Of the film on the left."""


@dataclass(frozen=True)
class Vote:
    """``id``: of its own, so that it counts once however often its file is given."""

    id: str
    left: Film
    right: Film
    question: str
    choice: Choice


def read(path: Path, suite: Suite) -> list[Vote]:
    """The votes in a file. Raises UserError, one line, for a file that holds none on this suite's films."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"--votes {path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"--votes {path}: is no JSON; give what the duel page saved") from error
    found = content.get("votes") if isinstance(content, dict) else None
    if not isinstance(found, list):
        raise UserError(f"--votes {path}: holds no votes; give what the duel page saved")
    films = {film.name: film for film in suite.films}
    return [_vote(each, films, f"--votes {path}: vote {place}") for place, each in enumerate(found, 1)]


def _vote(said: Any, films: Mapping[str, Film], where: str) -> Vote:
    values = said if isinstance(said, dict) else {}
    left, right = (str(values.get(side)) for side in ("left", "right"))
    for name in (left, right):
        if name not in films:
            raise UserError(f"{where}: is on {show(name)}, which is no film of this suite as it is now")
    if values.get("question") not in QUESTIONS or values.get("choice") not in get_args(Choice):
        raise UserError(f"{where}: has no question and choice; give what the duel page saved")
    one, other = films[left], films[right]
    if (one.prompt, one.seed) != (other.prompt, other.seed) or one.variant == other.variant:
        raise UserError(f"{where}: is not on one prompt and seed by two methods")
    return Vote(str(values.get("id")), one, other, values["question"], values["choice"])


def gather(files: Sequence[Path], folder: Path, suite: Suite) -> list[Vote]:
    """The votes of these files, which are kept in the ``folder``, and those kept there before, each once.

    Kept ones on films that the suite has no more don't count. Raises UserError for a file that is wrong.
    """
    given = [read(path, suite) for path in files]
    for votes in given:
        plain = [
            {
                "id": vote.id,
                "left": vote.left.name,
                "right": vote.right.name,
                "question": vote.question,
                "choice": vote.choice,
            }
            for vote in votes
        ]
        write_sealed(folder / f"{digest(plain)[:16]}.json", {"votes": plain})
    names = {film.name for film in suite.films}
    counted: dict[str, Vote] = {}
    for path in sorted(folder.glob("*.json")):
        content = read_sealed(path)
        if content is None:
            raise UserError(f"{path}: is damaged; remove it, and give its votes again with --votes")
        if {vote[side] for vote in content["votes"] for side in ("left", "right")} <= names:
            counted |= {vote.id: vote for vote in read(path, suite)}
    return list(counted.values())


def shares(votes: Sequence[Vote], variant: int, question: str) -> list[float]:
    """1 for each duel over a question that a variant won, 0.5 for each that nobody did, 0 for those lost."""
    asked = [vote for vote in votes if vote.question == question]
    won = [WINS[vote.choice] for vote in asked if vote.left.variant == variant]
    return won + [1 - WINS[vote.choice] for vote in asked if vote.right.variant == variant]
