from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from longvid import digests, downloads
from longvid.downloads import Content, Download, Progress, Pulled, pull, read_pulled
from longvid.errors import LockedError, RenderError, UserError
from tests.hub import Hub, commit_of, running

CONFIG = b'{"depth": 2}'
WEIGHTS = bytes(range(256)) * 40
VAE = b"vae" * 1000

TRANSFORMER = Download("o/net", "v1", ("config.json", "*.safetensors"), "transformer", "Apache-2.0", 10_252)
CODEC = Download("o/vae", "refs/pr/3", ("model.safetensors",), "vae", "Apache-2.0", 3000)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "STALL_SECONDS", (0, 0))
    monkeypatch.setattr(downloads, "BLOCK_BYTES", 1000)
    with running(monkeypatch) as hub:
        hub.add("o/net", "v1", config_json=CONFIG, model_st=WEIGHTS, README=b"more than is wanted")
        hub.add("o/vae", "refs/pr/3", model_st=VAE)
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models" / "net"


def fetch(folder: Path, *wanted: Download, update: bool = False) -> list[Progress]:
    seen: list[Progress] = []
    pull(folder, "net", wanted or (TRANSFORMER, CODEC), seen.append, update=update)
    return seen


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


COMPLETE = [
    ".lock",
    "longvid.json",
    "pulled.json",
    "transformer/config.json",
    "transformer/model.safetensors",
    "vae/model.safetensors",
]


def test_a_pull_fetches_what_is_named_and_records_it(hub: Hub, folder: Path) -> None:
    seen = fetch(folder)
    assert files(folder) == COMPLETE
    assert (folder / "transformer/config.json").read_bytes() == CONFIG
    assert (folder / "transformer/model.safetensors").read_bytes() == WEIGHTS
    assert (folder / "vae/model.safetensors").read_bytes() == VAE
    assert json.loads((folder / "longvid.json").read_text()) == {"backend": "net"}
    blob = hashlib.sha1(b"blob 12\0" + CONFIG).hexdigest()
    assert read_pulled(folder) == {
        "transformer": Pulled(
            "o/net",
            "v1",
            commit_of("v1"),
            {
                "config.json": Content(12, None, blob),
                "model.safetensors": Content(10_240, hashlib.sha256(WEIGHTS).hexdigest(), None),
            },
        ),
        "vae": Pulled(
            "o/vae",
            "refs/pr/3",
            commit_of("refs/pr/3"),
            {"model.safetensors": Content(3000, hashlib.sha256(VAE).hexdigest(), None)},
        ),
    }
    assert [seen[0], seen[-1]] == [
        Progress("transformer/config.json", False, 12, 13_252),
        Progress("vae/model.safetensors", True, 13_252, 13_252),
    ]
    done = [event.done_bytes for event in seen]
    assert done == sorted(done) and len(done) > 13


def test_what_is_there_is_not_fetched_again(hub: Hub, folder: Path) -> None:
    fetch(folder)
    hub.asked.clear()
    assert fetch(folder) == []
    assert hub.asked == []
    (folder / "vae/model.safetensors").write_bytes(VAE[:-1] + b"?")
    (folder / "transformer/config.json").unlink()
    fetch(folder)
    assert hub.asked == [("config.json", "bytes=0-"), ("model.safetensors", "bytes=0-")]
    assert (folder / "vae/model.safetensors").read_bytes() == VAE


def test_a_pull_without_a_part_adds_it_later(hub: Hub, folder: Path) -> None:
    fetch(folder, TRANSFORMER)
    assert not (folder / "vae").exists()
    fetch(folder)
    assert files(folder) == COMPLETE


def test_a_dropped_connection_is_taken_up_again(hub: Hub, folder: Path) -> None:
    hub.stops_after = 4500
    fetch(folder, Download("o/net", "v1", ("model.safetensors",), "transformer", "", 0))
    assert (folder / "transformer/model.safetensors").read_bytes() == WEIGHTS
    first, second = (wanted for name, wanted in hub.asked if name == "model.safetensors")
    assert first == "bytes=0-"
    assert second is not None and 0 < int(second[6:-1]) <= 4500


@pytest.mark.parametrize("ignores_ranges", [False, True])
def test_a_stopped_pull_goes_on_from_its_last_byte(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, ignores_ranges: bool
) -> None:
    def stop(event: Progress) -> None:
        if event.done_bytes >= 5000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(folder, "net", (TRANSFORMER, CODEC), stop)
    part = next((folder / "transformer").glob(".model.safetensors.*.part"))
    assert part.name == f".model.safetensors.{hashlib.sha256(WEIGHTS).hexdigest()[:12]}.part"
    came = part.stat().st_size
    assert 4000 < came < 6000
    assert "transformer/model.safetensors" not in files(folder)

    hub.asked.clear()
    hub.ignores_ranges = ignores_ranges
    seen = fetch(folder)
    assert hub.asked == [("model.safetensors", f"bytes={came}-"), ("model.safetensors", "bytes=0-")]
    assert seen[0].all_bytes == len(WEIGHTS) + len(VAE)
    assert files(folder) == COMPLETE
    assert (folder / "transformer/model.safetensors").read_bytes() == WEIGHTS


def test_a_pull_stays_on_its_commit_until_it_is_updated(hub: Hub, folder: Path) -> None:
    fetch(folder, TRANSFORMER)
    hub.add("o/net", "v2", config_json=CONFIG, model_st=WEIGHTS[::-1])
    newer = Download("o/net", "v2", TRANSFORMER.files, "transformer", "Apache-2.0", 10_252)
    (folder / "transformer/model.safetensors").unlink()
    fetch(folder, newer)
    assert (folder / "transformer/model.safetensors").read_bytes() == WEIGHTS
    assert read_pulled(folder)["transformer"].commit == commit_of("v1")
    fetch(folder, newer, update=True)
    assert (folder / "transformer/model.safetensors").read_bytes() == WEIGHTS[::-1]
    assert read_pulled(folder)["transformer"].commit == commit_of("v2")


def test_a_branch_that_moves_on_is_not_followed(hub: Hub, folder: Path) -> None:
    """An interrupted pull goes on with the commit that it recorded."""
    hub.heads["main"] = "v1"
    followed = Download("o/net", "main", TRANSFORMER.files, "transformer", "Apache-2.0", 10_252)

    def stop(event: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(folder, "net", (followed,), stop)
    hub.add("o/net", "v2", config_json=CONFIG, model_st=WEIGHTS[::-1])
    hub.heads["main"] = "v2"
    fetch(folder, followed)
    assert (folder / "transformer/model.safetensors").read_bytes() == WEIGHTS
    assert read_pulled(folder)["transformer"].commit == commit_of("v1")
    fetch(folder, followed, update=True)
    assert (folder / "transformer/model.safetensors").read_bytes() == WEIGHTS[::-1]


def test_a_file_with_another_checksum_is_thrown_away(hub: Hub, folder: Path) -> None:
    hub.corrupt = True
    with pytest.raises(RenderError) as error:
        fetch(folder, CODEC)
    path = folder / "vae/model.safetensors"
    assert str(error.value) == (
        f"{path}: came with another checksum than o/vae states, and was thrown away; "
        "the same command fetches it again"
    )
    assert files(folder) == [".lock", "longvid.json", "pulled.json"]
    hub.corrupt = False
    fetch(folder, CODEC)
    assert path.read_bytes() == VAE


def test_a_small_file_is_checked_as_well(hub: Hub, folder: Path) -> None:
    hub.corrupt = True
    with pytest.raises(RenderError, match=r"config\.json: came with another checksum"):
        fetch(folder, TRANSFORMER)


def test_a_disk_with_too_little_room_is_told_first(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 13_251))
    with pytest.raises(UserError) as error:
        fetch(folder)
    assert str(error.value) == (
        f"{folder}: needs 0.00 GB, and 0.00 GB are free there; make room, or set XDG_DATA_HOME to a folder "
        "on a larger disk"
    )
    assert {name for name, _ in hub.asked} == {"o/net", "o/vae"}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 13_252))
    fetch(folder)


def test_a_disk_that_refuses_is_one_line(hub: Hub, folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_text("a file")
    with pytest.raises(RenderError, match="net: cannot be written: File exists"):
        fetch(folder)


def test_two_pulls_do_not_mix(hub: Hub, folder: Path) -> None:
    def again(event: Progress) -> None:
        with pytest.raises(LockedError, match="another process pulls into it"):
            fetch(folder)

    pull(folder, "net", (CODEC,), again)
    assert (folder / "vae/model.safetensors").read_bytes() == VAE


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            (403, "GatedRepo"),
            UserError,
            "o/vae: asks for its terms to be accepted: do so on https://huggingface.co/o/vae, then "
            "`hf auth login`",
        ),
        (
            (401, "RepoNotFound"),
            UserError,
            "o/vae: the hub has no such repository, or hides it: `hf auth login`",
        ),
        (
            (404, "RepoNotFound"),
            UserError,
            "o/vae: the hub has no such repository, or hides it: `hf auth login`",
        ),
        (
            (404, "RevisionNotFound"),
            UserError,
            "o/vae: the hub no longer has refs/pr/3; `longvid models pull --update` takes what this version "
            "of longvid names",
        ),
        ((401, ""), RenderError, "o/vae: the hub answers 401; `hf auth login`"),
        ((500, ""), RenderError, "o/vae: the hub answers 500; the same command goes on from here"),
    ],
)
def test_what_the_hub_refuses_is_one_line(
    hub: Hub, folder: Path, error: tuple[int, str], kind: type[Exception], said: str
) -> None:
    hub.error = error
    with pytest.raises(kind) as raised:
        fetch(folder, CODEC)
    assert str(raised.value) == said


def test_a_file_that_the_repository_lacks(hub: Hub, folder: Path) -> None:
    with pytest.raises(UserError) as error:
        fetch(folder, Download("o/net", "v1", ("config.json", "*.bin"), "transformer", "", 0))
    assert str(error.value) == "o/net: holds no *.bin at v1"


def test_without_a_network(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RenderError, match=r"o/vae: the hub cannot be reached \(.*\); the same command goes"):
        fetch(folder, CODEC)


def test_without_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"huggingface-hub is not installed: pip install 'longvid\[models\]'"):
        fetch(folder, CODEC)


def test_a_name_that_leaves_the_folder_is_refused(hub: Hub, folder: Path) -> None:
    hub.files["o/net", "v1", "../evil.safetensors"] = b"evil"
    with pytest.raises(UserError, match=r"states no size and checksum for '\.\./evil"):
        fetch(folder, TRANSFORMER)
    folder.mkdir(parents=True, exist_ok=True)
    content = {"bytes": 4, "sha256": None, "git_sha1": "0"}
    said = {"vae": {"repo": "o/vae", "revision": "v", "commit": "c", "files": {"../../evil": content}}}
    for text in (json.dumps(said), "{", "[]", '{"vae": {}}'):
        (folder / "pulled.json").write_text(text)
        with pytest.raises(UserError) as error:
            read_pulled(folder)
        assert str(error.value) == (
            f"{folder / 'pulled.json'}: is damaged; delete it and run `longvid models pull` again"
        )


def test_damage_is_found_by_reading(hub: Hub, folder: Path) -> None:
    fetch(folder)
    read: list[str] = []
    assert list(downloads.damaged(folder, read.append)) == []
    assert read == ["transformer/config.json", "transformer/model.safetensors", "vae/model.safetensors"]
    path = folder / "vae/model.safetensors"
    path.write_bytes(VAE[:-1] + b"?")
    said = f"{path}: is not what was pulled: another checksum; pull it again"
    assert list(downloads.damaged(folder, read.append)) == [said]


def test_the_folder_of_a_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert downloads.folder("net") == tmp_path / "longvid/models/net"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/a")
    assert downloads.folder("net") == Path("/home/a/.local/share/longvid/models/net")


def test_a_digest_is_remembered_until_the_file_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path, memory = tmp_path / "weights", tmp_path / "cache/longvid/digests.json"
    path.write_bytes(b"one")
    one = hashlib.sha256(b"one").hexdigest()
    assert digests.sha256(path) == one
    said = json.loads(memory.read_text())
    said[str(path)]["sha256"] = "remembered"
    memory.write_text(json.dumps(said))
    assert digests.sha256(path) == "remembered"
    assert digests.sha256(path, fresh=True) == one
    assert digests.sha256(path) == one

    stat = path.stat()
    path.write_bytes(b"two")  # as long, and dated as before
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert digests.sha256(path) == hashlib.sha256(b"two").hexdigest()

    for text in ("{", "[]", json.dumps({str(path): 3}), json.dumps({str(path): {"state": None}})):
        memory.write_text(text)
        assert digests.sha256(path) == hashlib.sha256(b"two").hexdigest()
    gone = tmp_path / "gone"
    gone.write_bytes(b"")
    digests.sha256(gone)
    gone.unlink()
    digests.sha256(path, fresh=True)
    assert list(json.loads(memory.read_text())) == [str(path)]


def test_a_digest_needs_no_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "weights").write_bytes(b"one")
    assert digests.sha256(tmp_path / "weights") == hashlib.sha256(b"one").hexdigest()
