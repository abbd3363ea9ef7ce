"""Prompts, against the embeddings of the published pipeline's own code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, SkyReelsV2Pipeline

from longvid.backends.diffusers.text import UMT5Encoder, cleaned, tokenizer
from longvid.errors import UserError
from tests.backends.diffusers.tiny import WAN_VAE, tiny_umt5, write_t5_tokenizer

LONG = "a red boat on a calm sea " * 4
PROMPTS = ("a red boat on a calm sea at dawn", "  caf&amp;eacute;  \n “sea” ï¿½ Ã©", "", LONG)
TOKENS = 20


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> UMT5Encoder:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_t5_tokenizer(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = tiny_umt5()
    return UMT5Encoder(network.eval(), tokenizer(folder), TOKENS, torch.device("cpu"))


def test_embeddings_are_the_pipeline_s(encoder: UMT5Encoder) -> None:
    pipeline = SkyReelsV2Pipeline(
        tokenizer=encoder.tokenizer,
        text_encoder=encoder.network,
        transformer=None,
        vae=AutoencoderKLWan(**WAN_VAE),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )
    encoded = encoder(PROMPTS)
    assert encoded.embeddings.shape == (4, TOKENS, 16) and encoded.embeddings.dtype == torch.float32
    for row, prompt in enumerate(PROMPTS):
        with torch.no_grad():
            expected, _ = pipeline.encode_prompt(prompt, max_sequence_length=TOKENS, device="cpu")
        assert torch.equal(encoded.embeddings[row], expected[0])
        alone = encoder([prompt])
        assert torch.equal(alone.embeddings[0], encoded.embeddings[row])
        assert not encoded.embeddings[row][~encoded.mask[row]].any()
    assert encoded.mask.sum(1).tolist()[2:] == [1, TOKENS]
    assert torch.equal(encoder.negative(LONG).embeddings[0], encoded.embeddings[3])


def test_what_is_not_read(encoder: UMT5Encoder) -> None:
    assert encoder.unread(PROMPTS[0]) == ""
    rest = encoder.unread(LONG)
    assert rest and cleaned(LONG).endswith(rest)
    kept = cleaned(LONG).removesuffix(rest)
    assert torch.equal(encoder([kept]).embeddings, encoder([LONG]).embeddings)


def test_a_tokenizer_of_sentencepiece_alone(tmp_path: Path) -> None:
    """As LTX-Video's is published."""
    import sentencepiece

    words = tmp_path / "words.txt"
    words.write_text(f"{PROMPTS[0]}\na city street at night\n" * 50)
    model = tmp_path / "tokenizer"
    model.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        input=str(words),
        model_prefix=str(model / "spiece"),
        vocab_size=30,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (model / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer"}')
    expected = sentencepiece.SentencePieceProcessor(model_file=str(model / "spiece.model")).encode(
        "a red boat"
    )
    assert tokenizer(model)("a red boat").input_ids == [*expected, 1]


def test_a_tokenizer_s_code_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    config = '{"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", null]}}'
    (tmp_path / "tokenizer_config.json").write_text(config)
    monkeypatch.setattr("builtins.input", lambda prompt: "y")  # who is asked may agree
    with pytest.raises(UserError, match="holds no tokenizer that can be read"):
        tokenizer(tmp_path)
    assert not (tmp_path / "ran").exists() and capsys.readouterr().out == ""


def test_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no tokenizer that can be read; pull or copy it again"):
        tokenizer(tmp_path)
