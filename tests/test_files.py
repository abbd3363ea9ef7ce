import os

import pytest

from longvid import files
from longvid.errors import RenderError


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), files.replacing(path) as partial:
        partial.write_bytes(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    files.write(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(RenderError, match="file: cannot be written: No space left on device"):
        files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_sealed_file_tells_of_damage(tmp_path):
    path = tmp_path / "sealed.json"
    content = {"b": [1, 2.5, "ü", "\udcff"], "a": {"x": None}}
    files.write_sealed(path, content)
    assert files.read_sealed(path) == content
    path.write_text(path.read_text().replace("2.5", "2.6"))
    assert files.read_sealed(path) is None
    for damage in (b"", b"[]", b"{}", b"\xff", b'{"sha256": 1}'):
        path.write_bytes(damage)
        assert files.read_sealed(path) is None
    assert files.read_sealed(tmp_path / "missing.json") is None
