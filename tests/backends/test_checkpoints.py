"""What any checkpoint has; tests/backends/opensora/test_weights.py shows how they are found and compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from longvid.backends.checkpoints import fingerprint


def test_the_fingerprint_is_of_the_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"one")
    b.write_bytes(b"two")
    first = fingerprint([a, b])
    assert first == "11914c19a28a98c57d12f3cce6c32b7944784f4b4781a706c24eb1dc284e2856"
    assert fingerprint([b, a]) != first
    a.rename(tmp_path / "c")
    assert fingerprint([tmp_path / "c", b]) == first
    b.write_bytes(b"tow")
    assert fingerprint([tmp_path / "c", b]) != first
