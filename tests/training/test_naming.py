"""The text encoder's lesson: what captions say, and how far it is from being named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from longvid.backends.diorama import captions
from longvid.backends.diorama.text import SIZES, WIDTH, AttributeEncoder, tokenize
from longvid.training.distributed import accelerator
from longvid.training.naming import FRAGMENTS, Batch, Naming
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
    for name in ("fragment", "compose"):
        monkeypatch.setattr(captions, name, lambda *_: ("a red boat", said))
    batch = lesson().draw(None, 0, 0, [0, 1])
    assert torch.equal(batch.ids, tokenize(["a red boat"] * 2))
    first = 0
    for (name, values), size, column in zip(captions.VALUES.items(), SIZES, batch.columns[0], strict=True):
        value = said[name]
        assert size == len(values) + 1
        assert column == first + (size - 1 if value is None else value)
        first += size


def test_captions_depend_on_seed_step_and_sample_alone() -> None:
    whole = lesson().draw(None, 0, 5, range(8))
    assert torch.equal(whole.columns[2:4], lesson().draw(None, 0, 5, [2, 3]).columns)
    for other in (
        lesson().draw(None, 1, 5, range(8)),
        lesson().draw(None, 0, 6, range(8)),
        lesson().draw(None, 0, 5, range(8), held_out=True),
    ):
        assert not torch.equal(whole.columns, other.columns)


def test_some_captions_are_a_few_words_only(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = dict.fromkeys(captions.VALUES)
    monkeypatch.setattr(captions, "fragment", lambda rng: ("boat", nothing))
    monkeypatch.setattr(captions, "compose", lambda spec, rng: ("a boat", nothing))
    words = lesson().draw(None, 0, 0, range(1000)).ids.count_nonzero(1)
    assert (words == 1).float().mean().item() == pytest.approx(FRAGMENTS, abs=0.04)


def test_the_loss_is_the_cross_entropy_of_every_attribute() -> None:
    batch = lesson().draw(None, 0, 0, range(3))
    network = lesson().network
    logits, first, expected = network.logits(batch.ids), 0, torch.zeros(3)
    for attribute, size in enumerate(SIZES):
        truth = batch.columns[:, attribute] - first
        expected += nn.functional.cross_entropy(logits[attribute], truth, reduction="none")
        first += size
    torch.testing.assert_close(lesson().losses(network, batch), expected)


def test_what_is_certain_costs_nothing_and_what_is_ruled_out_a_finite_loss() -> None:
    class Certain(nn.Module):
        def forward(self, ids: Tensor) -> Tensor:
            tokens = torch.zeros(len(ids), len(SIZES), WIDTH)
            return tokens.scatter(2, right[..., None], 1.0)

    right = torch.tensor([[0, 5, 12, 17, 22, 26, 30]])
    batch = Batch(torch.zeros(1, 1, dtype=torch.long), right)
    assert lesson().losses(Certain(), batch).item() == 0
    wrong = Batch(batch.ids, right + 1)
    assert lesson().losses(Certain(), wrong).item() == pytest.approx(7 * 20.723, rel=1e-3)


def test_the_loop_teaches_it(tmp_path: Path) -> None:
    recipe = Recipe(steps=40, batch=32, micro_batch=32, lr=1e-2, warmup_steps=5, average=0.9)
    events = list(train(lesson(), recipe, accelerator(device="cpu"), tmp_path))
    began, last = events[0], next(e for e in reversed(events) if isinstance(e, Stepped))
    assert isinstance(began, Began)
    assert last.held_out["captions"] < 0.5 * began.held_out["captions"]
