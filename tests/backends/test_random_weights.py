from __future__ import annotations

import pytest
import torch

from longvid.backends.opensora.config import TransformerSize
from longvid.backends.opensora.stdit3 import STDiT3, cast
from longvid.backends.random_weights import TOKENS, RandomEncoder, fill

CPU = torch.device("cpu")
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
