from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from longvid.backends.opensora import embeddings
from longvid.backends.opensora.embeddings import key, read, write

KEY, OTHER = "a" * 64, "b" * 64
EMBEDDING = torch.arange(12.0).view(3, 4)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "longvid" / "text"


def test_where_they_are_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert embeddings.path() == cache
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert embeddings.path() == Path("/home/someone/.cache/longvid/text")


def test_what_was_written_is_read(cache: Path) -> None:
    assert read(KEY) is None
    write(KEY, EMBEDDING)
    found = read(KEY)
    assert found is not None
    assert torch.equal(found, EMBEDDING)
    assert found.dtype == torch.float32
    assert read(OTHER) is None
    assert [file.name for file in cache.iterdir()] == [f"{KEY}.safetensors"]


def test_a_key_depends_on_everything() -> None:
    keys = [
        key("weights", "float32", 300, "a boat"),
        key("others", "float32", 300, "a boat"),
        key("weights", "8bit", 300, "a boat"),
        key("weights", "float32", 200, "a boat"),
        key("weights", "float32", 300, "a boats"),
        key("weights", "float32", 300, "a boat\ud800"),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == key("weights", "float32", 300, "a boat")


def test_a_torn_file_counts_as_missing(cache: Path) -> None:
    write(KEY, EMBEDDING)
    file = cache / f"{KEY}.safetensors"
    content = file.read_bytes()
    for torn in (b"", content[:10], content[:-1], content[:-4] + b"\0\0\0\0"):
        file.write_bytes(torn)
        assert read(KEY) is None
    file.write_bytes(content)
    assert read(KEY) is not None


def test_another_keys_file_or_one_without_a_seal_counts_as_missing(cache: Path) -> None:
    write(KEY, EMBEDDING)
    (cache / f"{KEY}.safetensors").rename(cache / f"{OTHER}.safetensors")
    assert read(OTHER) is None
    save_file({"embedding": EMBEDDING}, cache / f"{KEY}.safetensors")
    assert read(KEY) is None
    save_file({"other": EMBEDDING}, cache / f"{KEY}.safetensors", {"seal": ""})
    assert read(KEY) is None


def test_a_folder_that_cannot_be_written_costs_nothing(cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file where the folder would be")
    write(KEY, EMBEDDING)
    assert read(KEY) is None


def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    write(KEY, EMBEDDING)
    assert read(KEY) is None


def test_the_least_recently_used_go_first(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [letter * 64 for letter in "abcd"]
    for age, name in enumerate(keys[:3]):
        write(name, EMBEDDING)
        os.utime(cache / f"{name}.safetensors", (1000 + age, 1000 + age))
    assert read(keys[0]) is not None  # used now, so the next is the oldest
    size = (cache / f"{keys[0]}.safetensors").stat()[stat.ST_SIZE]
    monkeypatch.setattr(embeddings, "CACHE_BYTES", 3 * size)
    write(keys[3], EMBEDDING)
    assert [read(name) is not None for name in keys] == [True, False, True, True]


def test_only_valid_tokens_are_kept_in_fp32(cache: Path) -> None:
    write(KEY, EMBEDDING.to(torch.bfloat16))
    with safe_open(cache / f"{KEY}.safetensors", "pt") as file:
        assert file.keys() == ["embedding"]
        assert file.get_tensor("embedding").shape == (3, 4)
        assert file.get_tensor("embedding").dtype == torch.float32
