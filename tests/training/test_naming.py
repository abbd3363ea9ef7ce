"""The text encoder's lesson: what captions say, and how far it is from being named."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from longvid.backends.diorama import captions
from longvid.backends.diorama.text import SIZES, WIDTH, AttributeEncoder, tokenize
from longvid.training import checkpoints
from longvid.training.distributed import accelerator
from longvid.training.naming import FRAGMENTS, SPLICED, UNHEARD, Batch, Naming
from longvid.training.recipe import Recipe
from longvid.training.trainer import Began, Stepped, train

CPU = torch.device("cpu")


def lesson() -> Naming:
    torch.manual_seed(0)
    return Naming(AttributeEncoder(), CPU)


def test_columns_are_what_the_caption_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """A boat in red and nothing else; the last column of an attribute is "not said"."""
    said = dict.fromkeys(captions.VALUES)
    said |= {"shape": list(captions.VALUES["shape"]).index("boat")}
    said |= {"color": list(captions.VALUES["color"]).index("red")}
    for name in ("fragment", "compose", "compose_held_out"):
        monkeypatch.setattr(captions, name, lambda *_: ("a red boat", said))
    for task in lesson().checks.values():
        batch = lesson().draw(task, 0, 0, [0, 1], held_out=True)
        assert torch.equal(batch.ids, tokenize(["a red boat"] * 2))
        first = 0
        for (name, values), size, column in zip(
            captions.VALUES.items(), SIZES, batch.columns[0], strict=True
        ):
            value = said[name]
            assert size == len(values) + 1
            assert column == first + (size - 1 if value is None else value)
            first += size


def test_captions_depend_on_seed_step_and_sample_alone() -> None:
    whole = lesson().draw("captions", 0, 5, range(8))
    assert torch.equal(whole.columns[2:4], lesson().draw("captions", 0, 5, [2, 3]).columns)
    for other in (
        lesson().draw("captions", 1, 5, range(8)),
        lesson().draw("captions", 0, 6, range(8)),
        lesson().draw("captions", 0, 5, range(8), held_out=True),
    ):
        assert not torch.equal(whole.columns, other.columns)


def test_half_of_the_captions_are_a_few_words_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Joined of several phrases' words to learn from, and of whole phrases where it is measured."""
    nothing, spliced = dict.fromkeys(captions.VALUES), set[float]()

    def fragment(rng: np.random.Generator, share: float) -> tuple[str, captions.Spec]:
        spliced.add(share)
        return "boat", nothing

    monkeypatch.setattr(captions, "fragment", fragment)
    monkeypatch.setattr(captions, "compose", lambda spec, rng: ("a boat", nothing))
    for held_out, share in ((False, SPLICED), (True, 0)):
        spliced.clear()
        last = lesson().draw("captions", 0, 0, range(1000), held_out).ids[:, 1]
        lengths = (last == 0).float().mean().item()
        assert lengths == pytest.approx(FRAGMENTS, abs=0.06)
        assert spliced == {share}


def test_some_words_of_a_caption_to_learn_from_are_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    prompt, nothing = "a red boat on a calm sea at dawn", dict.fromkeys(captions.VALUES)
    for name in ("fragment", "compose"):
        monkeypatch.setattr(captions, name, lambda *_: (prompt, nothing))
    whole = tokenize([prompt]).expand(500, -1)
    learnt, measured = (lesson().draw("captions", 0, 0, range(500), held_out).ids for held_out in (0, 1))
    assert torch.equal(measured, whole)
    assert torch.equal(torch.where(learnt == 0, whole, learnt), whole)
    assert (learnt == 0).float().mean().item() == pytest.approx(UNHEARD, abs=0.01)


def test_phrasings_that_are_held_out_are_never_drawn_to_learn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    compose = captions.compose_held_out
    monkeypatch.setattr(captions, "compose_held_out", lambda *a: asked.append("") or compose(*a))
    assert list(lesson().checks) == ["captions", "held-out phrasings"]
    for step in range(3):
        lesson().draw(lesson().draw_task(0, step), 0, step, range(20))
    assert asked == []
    lesson().draw(lesson().checks["held-out phrasings"], 0, 0, range(20), held_out=True)
    assert len(asked) == 20


def test_the_loss_is_the_cross_entropy_of_every_attribute() -> None:
    batch = lesson().draw("captions", 0, 0, range(3), held_out=True)
    network = lesson().network.eval()
    logits, first, expected = network.logits(batch.ids), 0, torch.zeros(3)
    for attribute, size in enumerate(SIZES):
        truth = batch.columns[:, attribute] - first
        expected += nn.functional.cross_entropy(logits[attribute], truth, reduction="none")
        first += size
    torch.testing.assert_close(lesson().losses(network, batch), expected)


def test_the_encoder_drops_parts_to_learn_and_none_to_be_measured() -> None:
    naming = lesson()
    for held_out in (True, False):
        batch = naming.draw("captions", 0, 0, range(4), held_out)
        losses = naming.losses(naming.network, batch)
        assert naming.network.training != held_out
        whole = naming.losses(naming.network, replace(batch, seed=None))
        assert torch.equal(losses, whole) == held_out


def test_what_is_dropped_comes_of_seed_and_step_and_draws_on_nothing_else() -> None:
    naming = lesson()
    before = torch.get_rng_state()
    batch = naming.draw("captions", 0, 5, range(8))
    losses = naming.losses(naming.network, batch)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(9)
    again = naming.draw("captions", 0, 5, range(8))
    assert torch.equal(naming.losses(naming.network, again), losses)
    seeds = {naming.draw("captions", *place, range(8)).seed for place in ((0, 5), (1, 5), (0, 6))}
    assert len(seeds) == 3 and None not in seeds


def test_it_goes_on_to_the_bit(tmp_path: Path) -> None:
    recipe = Recipe(steps=8, batch=8, micro_batch=8, lr=2e-2, warmup_steps=1, average=0.9, checkpoint_steps=4)
    list(train(lesson(), recipe, accelerator(device="cpu"), tmp_path / "whole"))
    asked = iter([False] * 3 + [True])
    parts = tmp_path / "parts"
    list(train(lesson(), recipe, accelerator(device="cpu"), parts, stopping=lambda: next(asked)))
    began, *_ = train(lesson(), recipe, accelerator(device="cpu"), parts)
    assert isinstance(began, Began) and began.step == 4
    whole, gone_on = (checkpoints.newest(folder)[0] for folder in (tmp_path / "whole", parts))
    assert whole is not None and gone_on is not None
    for part in checkpoints.PARTS:
        theirs = gone_on.tensors(part)
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in whole.tensors(part).items())


def test_what_is_certain_costs_nothing_and_what_is_ruled_out_a_finite_loss() -> None:
    class Certain(nn.Module):
        def forward(self, ids: Tensor) -> Tensor:
            tokens = torch.zeros(len(ids), len(SIZES), WIDTH)
            return tokens.scatter(2, right[..., None], 1.0)

    right = torch.tensor([[0, *accumulate(SIZES)][:-1]])
    batch = Batch(torch.zeros(1, 1, dtype=torch.long), right, None)
    assert lesson().losses(Certain(), batch).item() == 0
    wrong = Batch(batch.ids, right + 1, None)
    assert lesson().losses(Certain(), wrong).item() == pytest.approx(len(SIZES) * 20.723, rel=1e-3)


def test_the_loop_teaches_it(tmp_path: Path) -> None:
    recipe = Recipe(steps=60, batch=64, micro_batch=64, lr=2e-2, warmup_steps=5, average=0.9)
    events = list(train(lesson(), recipe, accelerator(device="cpu"), tmp_path))
    began, last = events[0], next(e for e in reversed(events) if isinstance(e, Stepped))
    assert isinstance(began, Began)
    assert last.held_out["captions"] < 0.5 * began.held_out["captions"]
    assert last.held_out["held-out phrasings"] < 0.7 * began.held_out["held-out phrasings"]
