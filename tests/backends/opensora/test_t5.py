from __future__ import annotations

import gc
import json
import os
import sys
import unicodedata
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file

from longvid.backends.opensora import t5
from longvid.backends.opensora.prompts import Scores, prepare, tokenizer
from longvid.backends.opensora.t5 import T5, T5Encoder, load, weight_files
from longvid.errors import UserError
from tests.backends.opensora.cases import Case
from tests.backends.opensora.tiny_t5 import Layout, write_tiny_t5

KIND = "text_prompts"
CPU = torch.device("cpu")
PROMPTS = ("a red boat on a calm sea", "a city street at night in heavy rain; neon signs")
EOS = 1


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "longvid" / "text"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tiny_t5(tmp_path / "t5")
    return tmp_path / "t5"


def encoder(folder: Path, max_length: int = 60, width: int = 24) -> T5Encoder:
    return T5Encoder(T5(folder, "float32", CPU), Scores(aesthetic=None), max_length, width, "tiny")


def refuse_to_load(*_: object) -> Any:
    raise AssertionError("T5 was loaded")


# Tokens


def test_tokens_are_those_of_transformers(case: Case, folder: Path) -> None:
    from transformers import T5Tokenizer

    vocabulary = tokenizer(folder / "spiece.model")
    pieces = [(vocabulary.id_to_piece(i), vocabulary.get_score(i)) for i in range(vocabulary.vocab_size())]
    theirs = T5Tokenizer(vocab=pieces)
    ours = encoder(folder, max_length=300)
    for row in case.about["rows"]:
        for segment in row["segments"]:
            text = prepare(segment, Scores())
            expected = theirs(unicodedata.normalize("NFKC", text), truncation=True, max_length=300)
            assert ours.tokens(text) == expected["input_ids"]


def test_the_token_that_ends_a_prompt_counts_and_is_never_cut(folder: Path) -> None:
    whole = encoder(folder).tokens(PROMPTS[0])
    assert whole[-1] == EOS
    assert whole.count(EOS) == 1
    assert encoder(folder, max_length=len(whole)).tokens(PROMPTS[0]) == whole
    assert encoder(folder, max_length=len(whole) - 1).tokens(PROMPTS[0]) == [*whole[:-2], EOS]
    assert encoder(folder).tokens("") == [EOS]


def test_what_is_past_the_last_token_is_told(folder: Path) -> None:
    length = len(encoder(folder).tokens("a red boat on a"))
    assert encoder(folder, max_length=length).unread("A red boat on a calm sea.") == "calm sea."
    assert encoder(folder).unread("A red boat on a calm sea.") == ""


# Embeddings


def test_a_prompts_embedding(folder: Path) -> None:
    encode = encoder(folder)
    encoded = encode(PROMPTS)
    assert encoded.embeddings.shape == (2, 60, 24)
    assert encoded.embeddings.dtype == torch.float32
    assert encoded.mask.dtype == torch.bool
    for embeddings, mask, prompt in zip(encoded.embeddings, encoded.mask, PROMPTS, strict=True):
        count = len(encode.tokens(prompt))
        assert mask.tolist() == [True] * count + [False] * (60 - count)
        assert embeddings[:count].abs().amax(1).min() > 0.5
        assert not embeddings[count:].any()


def test_an_embedding_is_that_of_a_padded_batch_with_a_mask(folder: Path) -> None:
    """What Open-Sora v1.2 computes: padded to the full length, padding masked."""
    encode = encoder(folder)
    encoded = encode(PROMPTS)
    ids = torch.zeros(2, 60, dtype=torch.long)
    for row, prompt in zip(ids, PROMPTS, strict=True):
        tokens = encode.tokens(prompt)
        row[: len(tokens)] = torch.tensor(tokens)
    padded = encode.t5.network(input_ids=ids, attention_mask=encoded.mask.long()).last_hidden_state
    torch.testing.assert_close(encoded.embeddings[encoded.mask], padded[encoded.mask], atol=1e-5, rtol=0)


def test_a_prompt_is_encoded_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = encoder(folder)(PROMPTS)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "other"))
    alone = encoder(folder)(PROMPTS[1:])
    assert torch.equal(both.embeddings[1:], alone.embeddings)
    assert torch.equal(both.mask[1:], alone.mask)


def test_the_embedding_follows_words_and_scores(folder: Path) -> None:
    plain, other = encoder(folder)(["a red boat", "a calm boat"]).embeddings
    scored = T5Encoder(T5(folder, "float32", CPU), Scores(), 60, 24, "tiny")(["a red boat"])
    assert not torch.allclose(plain, other, atol=0.1)
    assert scored.mask.sum() > encoder(folder)(["a red boat"]).mask.sum()


def test_the_null_prompt_has_no_token_and_needs_no_t5(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(t5, "load", refuse_to_load)
    encoded = encoder(folder)(["", ""])
    assert encoded.embeddings.shape == (2, 60, 24)
    assert not encoded.mask.any()
    assert encoder(folder)([]).mask.shape == (0, 60)


def test_bf16_is_near(folder: Path) -> None:
    exact = encoder(folder)(PROMPTS)
    rounded = T5Encoder(T5(folder, "bfloat16", CPU), Scores(None), 60, 24, "tiny")(PROMPTS)
    assert rounded.embeddings.dtype == torch.float32
    distance = (rounded.embeddings - exact.embeddings).norm() / exact.embeddings.norm()
    assert 0 < distance < 0.03


# Cache


def test_what_was_encoded_before_never_loads_t5(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = encoder(folder)(PROMPTS)
    monkeypatch.setattr(t5, "load", refuse_to_load)
    again = encoder(folder)([PROMPTS[1], "", PROMPTS[0]])
    assert torch.equal(again.embeddings[2], first.embeddings[0])
    assert torch.equal(again.embeddings[0], first.embeddings[1])
    assert torch.equal(
        again.mask.sum(1), torch.stack([first.mask[1].sum(), torch.tensor(0), first.mask[0].sum()])
    )
    with pytest.raises(AssertionError, match="T5 was loaded"):
        encoder(folder)(["a prompt that is new"])
    with pytest.raises(AssertionError, match="T5 was loaded"):
        encoder(folder, max_length=61)(PROMPTS)


def test_a_damaged_file_is_encoded_again(folder: Path, cache: Path) -> None:
    first = encoder(folder)(PROMPTS[:1])
    (file,) = cache.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:-4] + b"\0\0\0\0")
    assert torch.equal(encoder(folder)(PROMPTS[:1]).embeddings, first.embeddings)
    assert file.read_bytes() == content


def test_a_cache_that_refuses_changes_nothing(folder: Path, cache: Path) -> None:
    first = encoder(folder)(PROMPTS)
    for file in cache.iterdir():
        file.unlink()
    cache.rmdir()
    cache.write_text("a file where the folder would be")
    assert torch.equal(encoder(folder)(PROMPTS).embeddings, first.embeddings)


# Loading


@pytest.mark.parametrize("layout", get_args(Layout))
def test_every_layout_holds_the_same_t5(tmp_path: Path, layout: Layout) -> None:
    write_tiny_t5(tmp_path / "one")
    write_tiny_t5(tmp_path / "other", layout=layout)
    one = load(tmp_path / "one", "float32", CPU).state_dict()
    other = load(tmp_path / "other", "float32", CPU).state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert len(weight_files(tmp_path / "other")) == (2 if "shards" in layout else 1)


def test_t5_is_in_memory_once_and_leaves_with_its_encoder(folder: Path) -> None:
    encode = encoder(folder)
    encode(PROMPTS)
    network = encode.t5.network
    parameters = network.state_dict()
    shared, embedded = parameters["shared.weight"], parameters["encoder.embed_tokens.weight"]
    assert shared.data_ptr() == embedded.data_ptr()
    assert not network.training
    gone = weakref.ref(network)
    gc.disable()
    try:
        del encode, network, parameters, shared, embedded
        assert gone() is None
    finally:
        gc.enable()


def test_a_whole_t5s_decoder_is_left_out(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["decoder.final_layer_norm.weight"] = weights["lm_head.weight"] = torch.ones(24)
    embedding = weights.pop("shared.weight")
    weights["encoder.embed_tokens.weight"] = embedding
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    network = load(folder, "float32", CPU)
    assert torch.equal(network.state_dict()["shared.weight"], embedding)
    assert not any(name.startswith(("decoder", "lm_head")) for name in network.state_dict())


class Malicious:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, Sequence[Any]]:
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused(folder: Path, tmp_path: Path, zipped: bool) -> None:
    (folder / "model.safetensors").unlink()
    file = folder / "pytorch_model.bin"
    torch.save({"shared.weight": Malicious(tmp_path / "run")}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError) as failed:
        load(folder, "float32", CPU)
    assert str(failed.value).startswith(
        f"{file}: holds more than tensors (posix.mkdir), so it was not loaded"
    )
    assert not (tmp_path / "run").exists()


def test_a_folder_runs_no_code_and_names_no_other_place(folder: Path) -> None:
    """A ``config.json`` may name code, kernels and other repositories; only its sizes count."""
    config = json.loads((folder / "config.json").read_text())
    expected = load(folder, "float32", CPU).state_dict()
    config |= {
        "auto_map": {"AutoModel": "code.Model"},
        "attn_implementation": "someone/kernel",
        "_attn_implementation": "someone/kernel",
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True},
        "transformers_weights": "other.bin",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/other"}')
    (folder / "code.py").write_text("raise AssertionError")
    found = load(folder, "float32", CPU).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_shards_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    write_tiny_t5(tmp_path, layout="safetensors shards")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../x.safetensors", "b": "/y.safetensors"}}))
    with pytest.raises(UserError, match=r"names the file '../../x.safetensors', which is not in its folder"):
        load(tmp_path, "float32", CPU)


def edit_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_wrong_folders_are_named(folder: Path, tmp_path: Path) -> None:
    def message() -> str:
        with pytest.raises(UserError) as failed:
            load(folder, "float32", CPU)
        return str(failed.value).removeprefix(str(folder))

    good = (folder / "config.json").read_text()
    edit_config(folder, d_ff=50)
    name = "encoder.block.0.layer.1.DenseReluDense.wi_0.weight"
    assert message() == f": {name} is [48, 24], config.json makes it [50, 24]"
    edit_config(folder, num_layers=2)
    assert message().startswith(": encoder.block.0.layer.1.DenseReluDense.wi_0.weight")
    edit_config(folder, d_ff=48)
    assert message() == (
        ": its weights lack encoder.block.1.layer.0.SelfAttention.q.weight; a part may be missing, "
        "copy it again"
    )
    edit_config(folder, num_heads="2")
    assert message() == "/config.json: num_heads is '2'; the published one is 64"
    edit_config(folder, model_type="mt5")
    assert message() == "/config.json: model_type is 'mt5'; Open-Sora's T5 v1.1 has 't5'"
    (folder / "config.json").write_text(good)
    edit_config(folder, vocab_size=100)
    assert message() == f": spiece.model has {vocabulary_size(folder)} pieces; config.json says 100"
    (folder / "config.json").write_text(good)

    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-100])
    assert message().startswith("/model.safetensors: is no whole safetensors file")
    (folder / "model.safetensors").unlink()
    assert message() == ": holds no weights, such as model.safetensors"
    index = folder / "pytorch_model.bin.index.json"
    index.write_text('{"weight_map": {"a": "pytorch_model-00001-of-00002.bin"}}')
    assert message() == (
        "/pytorch_model.bin.index.json: names pytorch_model-00001-of-00002.bin, which is not there; "
        "copy every shard"
    )
    index.write_text("{}")
    assert message() == "/pytorch_model.bin.index.json: is no index of a checkpoint: it has no weight_map"
    tokenizer.cache_clear()
    (folder / "spiece.model").write_text("no model")
    assert message() == "/spiece.model: is no sentencepiece model; copy it again"
    (folder / "spiece.model").unlink()
    assert message() == "/spiece.model: cannot be read: No such file or directory"


def vocabulary_size(folder: Path) -> int:
    return int(tokenizer(folder / "spiece.model").vocab_size())


def test_another_width_than_the_transformers_is_named(folder: Path) -> None:
    with pytest.raises(UserError) as failed:
        encoder(folder, width=32)(PROMPTS)
    assert str(failed.value) == f"{folder}: its embeddings are 24 wide; the transformer reads 32"


@pytest.mark.parametrize("precision", ["8bit", "4bit"])
def test_without_bitsandbytes_a_rounded_t5_names_it(
    folder: Path, precision: t5.Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UserError) as failed:
        load(folder, precision, CPU)
    assert (
        str(failed.value)
        == f"model_options.text_encoder: {precision} needs bitsandbytes; pip install bitsandbytes"
    )


@pytest.mark.parametrize("package", ["transformers", "sentencepiece"])
def test_without_a_package_it_is_named(folder: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError) as failed:
        load(folder, "float32", CPU)
    assert str(failed.value) == f"Open-Sora's text encoder needs {package}; pip install 'longvid[models]'"
