from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch

from longvid import plugins
from longvid.backends import FilmSpec, Runtime
from longvid.backends.contract import check_backend
from longvid.backends.opensora import OpenSora
from longvid.backends.opensora.config import TransformerSize, transformer_size
from longvid.backends.opensora.random_weights import TOKENS, RandomEncoder, fill
from longvid.backends.opensora.stdit3 import Reading, STDiT3, cast
from longvid.benchmarks.steps import flop_counter

CPU = torch.device("cpu")
MID = Path(__file__).parent / "mid"
SMALL = TransformerSize(hidden_size=32, depth=2, num_heads=2, caption_channels=16, model_max_length=8)


def filled(seed: int) -> STDiT3:
    with torch.device("meta"):
        network = cast(STDiT3(SMALL), torch.bfloat16)
    fill(network, CPU, seed)
    return network


def test_weights_are_made_in_the_networks_dtypes() -> None:
    with torch.device("meta"):
        planned = cast(STDiT3(SMALL), torch.bfloat16).state_dict()
    made = filled(0).state_dict()
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in made.items()} == {
        name: (tensor.shape, tensor.dtype) for name, tensor in planned.items()
    }
    assert {tensor.dtype for tensor in made.values()} == {torch.float32, torch.bfloat16}


def test_a_seed_is_its_weights() -> None:
    one, same, other = (filled(seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["final_layer.linear.weight"], other["final_layer.linear.weight"])


def test_the_last_layer_says_something() -> None:
    weight = filled(0).final_layer.linear.weight
    # Uniform numbers whose variance is one over the number of inputs.
    assert weight.var().item() == pytest.approx(1 / 32, rel=0.1)


def test_a_prompt_is_a_hundred_tokens_of_its_own() -> None:
    encode = RandomEncoder(300, 16)
    prompts = encode(["a boat", "", "the sea"])
    assert prompts.embeddings.shape == (3, 300, 16)
    assert prompts.mask.sum(1).tolist() == [TOKENS, 0, TOKENS]
    assert not prompts.embeddings[~prompts.mask].any()
    assert torch.equal(encode(["the sea"]).embeddings[0], prompts.embeddings[2])
    assert not torch.equal(prompts.embeddings[0], prompts.embeddings[2])
    assert torch.equal(encode.negative("the sea").embeddings, prompts.embeddings[2:])
    assert encode.unread("the sea " * 400) == ""
    assert RandomEncoder(8, 16)(["a boat"]).mask.sum() == 8


def test_it_is_a_backend_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    backend = plugins.backend(str(MID)).with_random_weights()
    assert backend.missing_files() == []
    check_backend(backend, size=(48, 32))
    assert list(tmp_path.iterdir()) == []


def test_what_is_random_has_an_identity_of_its_own() -> None:
    def fingerprint(backend: OpenSora) -> str:
        spec = FilmSpec((48, 32), Fraction(24), 6, {})
        return backend.with_random_weights().for_film(spec, Runtime(CPU, torch.float32)).fingerprint

    assert fingerprint(OpenSora(MID)) == fingerprint(OpenSora(MID))
    assert fingerprint(OpenSora(MID)) != fingerprint(OpenSora(MID.parent))  # of the published sizes


def test_the_mid_size_step_is_what_the_figures_are_for() -> None:
    """A step of 35 latents of 15x27 with a prompt of 100 tokens and its null: 120 GMAC."""
    size = transformer_size(MID / "transformer" / "config.json")
    with torch.device("meta"):
        network = STDiT3(size)
        reads = [Reading(35, ((network.project(torch.randn(100, size.caption_channels)), 1.0),))]
        x, t = torch.randn(1, 4, 35, 15, 27), torch.rand(1, 35)
        counter, _ = flop_counter()
        with torch.inference_mode(), counter:
            network(x, t, 24.0, (120, 216), reads)
    # Two FLOP a multiplication, two calls of the network a step.
    assert counter.get_total_flops() / 1e9 == pytest.approx(120, rel=0.02)
