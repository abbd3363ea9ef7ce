import json
from pathlib import Path

import pytest

from longvid.errors import UserError
from longvid.evaluation.votes import QUESTIONS, Vote, gather, read, shares
from tests.evaluation.comparing import TWO_BY_TWO, suite

pytestmark = pytest.mark.usefixtures("workplace")


def vote(left, right, choice="left", question="overall", id="1"):
    return {"id": id, "left": left.name, "right": right.name, "question": question, "choice": choice}


def saved(*votes, name="votes.json"):
    """As the duel page saves them."""
    path = Path(name)
    path.write_text(json.dumps({"suite": "any", "votes": list(votes)}))
    return path


def test_votes_are_read():
    films = suite().films
    assert read(saved(vote(films[1], films[0], "same", "motion")), suite()) == [
        Vote("1", films[1], films[0], "motion", "same")
    ]


def test_a_duel_won_is_one_and_one_that_nobody_won_a_half():
    one, other = suite().films[:2]
    votes = [
        Vote("1", one, other, "overall", "left"),
        Vote("2", other, one, "overall", "left"),
        Vote("3", other, one, "overall", "right"),
        Vote("4", other, one, "overall", "same"),
        Vote("5", one, other, "motion", "right"),
    ]
    assert sorted(shares(votes, one.variant, "overall")) == [0, 0.5, 1, 1]
    assert sorted(shares(votes, other.variant, "overall")) == [0, 0, 0.5, 1]
    assert (shares(votes, 0, "motion"), shares(votes, 1, "motion")) == ([0], [1])
    assert shares(votes, 0, "consistency") == []


def test_the_paper_asked_four_things():
    assert list(QUESTIONS) == ["long_shot", "motion", "consistency", "overall"]


def test_votes_that_were_given_stay_and_count_once():
    Path("kept").mkdir()
    one, other = suite().films[:2]
    first, second = vote(one, other, id="1"), vote(one, other, id="2")
    assert len(gather([saved(first)], Path("kept"), suite())) == 1
    assert len(gather([saved(first, second)], Path("kept"), suite())) == 2
    assert len(gather([], Path("kept"), suite())) == 2
    longer = suite(TWO_BY_TWO.replace("seconds: 3", "seconds: 4"))
    assert gather([], Path("kept"), longer) == [], "the suite's films are others now"


def test_kept_votes_that_are_damaged_are_said():
    Path("kept").mkdir()
    one, other = suite().films[:2]
    gather([saved(vote(one, other))], Path("kept"), suite())
    [path] = Path("kept").iterdir()
    path.write_text(path.read_text().replace("left", "rite"))
    with pytest.raises(UserError, match=rf"^{path}: is damaged; remove it, and give its votes again"):
        gather([], Path("kept"), suite())


def test_what_is_wrong_is_said_in_one_line():
    films = suite().films
    wrong = {
        "there.json": "cannot be read: No such file or directory",
        Path("text.json"): "is no JSON; give what the duel page saved",
        saved(name="list.json"): None,
        saved(vote(films[0], films[1]) | {"left": "other"}, name="a.json"): (
            "vote 1: is on 'other', which is no film of this suite as it is now"
        ),
        saved(vote(films[0], films[1], "up"), name="b.json"): (
            "vote 1: has no question and choice; give what the duel page saved"
        ),
        saved(3, name="c.json"): "vote 1: is on 'None', which is no film of this suite as it is now",
        saved(vote(films[0], films[1]), vote(films[0], films[2]), name="d.json"): (
            "vote 2: is not on one prompt and seed by two methods"
        ),
    }
    Path("text.json").write_text("votes")
    Path("list.json").write_text("[]")
    wrong[Path("list.json")] = "holds no votes; give what the duel page saved"
    for path, said in wrong.items():
        with pytest.raises(UserError) as caught:
            read(Path(path), suite())
        assert str(caught.value) == f"--votes {path}: {said}"
