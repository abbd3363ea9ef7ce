from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from longvid import downloads, plugins
from longvid.commands.models import showing_progress
from longvid.downloads import Download, Progress
from longvid.errors import UserError
from tests.hub import Hub, commit_of, running
from tests.planning import longvid
from tests.tiny import TinyBackend

PARTS = (
    Download("o/net", "v1", ("config.json", "model.safetensors"), "transformer", "Apache-2.0", 3_000_000_000),
    Download("o/t5", "v1", ("model.safetensors",), "text_encoder", "MIT", 500_000_000),
)
NET, T5 = b"net" * 1000, b"t5" * 1000


class NetBackend(TinyBackend):
    problems: tuple[str, ...] = ()

    def missing_files(self) -> list[str]:
        paths = (self.folder / part.folder / name for part in self.downloads for name in part.files)
        return [str(path) for path in paths if not path.is_file()]

    def check_weights(self) -> list[str]:
        if not (self.folder / "transformer/config.json").is_file():
            raise UserError("no config.json")
        return list(self.problems)


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NetBackend:
    """The one model there is, of which nothing is pulled."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(NetBackend, "problems", ())
    backend = NetBackend("net", licence="Apache-2.0", folder=tmp_path / "net", downloads=PARTS)
    monkeypatch.setattr(plugins, "registered", lambda: ["net"])
    monkeypatch.setattr(plugins, "backend", lambda model: backend)
    return backend


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running(monkeypatch) as hub:
        hub.add("o/net", "v1", config_json=b"{}", model_st=NET)
        hub.add("o/t5", "v1", model_st=T5)
        yield hub


def test_the_list(net: NetBackend) -> None:
    ran = longvid("models", "--json")
    assert (ran.code, ran.err) == (0, "")
    said = {
        "name": "net",
        "missing": ["transformer", "text_encoder"],
        "bytes_here": 0,
        "bytes_to_pull": 3_500_000_000,
        "licence": "Apache-2.0",
        "folder": str(net.folder),
        "expects": "",
        "error": None,
    }
    assert json.loads(ran.out) == [said]
    (net.folder / "transformer").mkdir(parents=True)
    for name in PARTS[0].files:
        (net.folder / "transformer" / name).write_bytes(b"12345")
    assert json.loads(longvid("models", "--json").out) == [
        said | {"missing": ["text_encoder"], "bytes_here": 10, "bytes_to_pull": 500_000_000}
    ]
    ran = longvid("models")
    assert re.search(r"net +missing: text_encoder +0\.0 MB +Apache-2\.0", ran.out)
    assert re.search(rf"500\.0 MB to pull +{re.escape(str(net.folder))}", ran.out)
    assert ran.out.endswith("`longvid models pull MODEL` fetches what is missing\n")


def test_what_ships_is_listed_as_here() -> None:
    (diorama,) = (
        model for model in json.loads(longvid("models", "--json").out) if model["name"] == "diorama"
    )
    assert (diorama["missing"], diorama["bytes_to_pull"], diorama["error"]) == ([], 0, None)
    assert diorama["bytes_here"] > 1_000_000
    assert re.search(r"diorama +here", longvid("models").out)


def test_a_model_that_cannot_be_had_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: str) -> None:
        raise UserError("it is [broken]")

    monkeypatch.setattr(plugins, "registered", lambda: ["net"])
    monkeypatch.setattr(plugins, "backend", refuse)
    assert json.loads(longvid("models", "--json").out)[0]["error"] == "it is [broken]"
    assert "it is [broken]" in longvid("models").out


def test_pull_and_check(net: NetBackend, hub: Hub) -> None:
    ran = longvid("models", "pull", "net")
    commit = commit_of("v1")[:12]
    assert (ran.code, ran.out) == (
        0,
        f"transformer: o/net at {commit}, licence: Apache-2.0\n"
        f"text_encoder: o/t5 at {commit}, licence: MIT\n"
        f"net is in {net.folder}\n",
    )
    assert ran.err == (
        "fetching transformer/config.json; 0.0 MB of 0.0 MB are here\n"
        "checking transformer/config.json; 0.0 MB of 0.0 MB are here\n"
        "fetching transformer/model.safetensors; 0.0 MB of 0.0 MB are here\n"
        "checking transformer/model.safetensors; 0.0 MB of 0.0 MB are here\n"
        "fetching text_encoder/model.safetensors; 0.0 MB of 0.0 MB are here\n"
        "checking text_encoder/model.safetensors; 0.0 MB of 0.0 MB are here\n"
    )
    assert longvid("models", "pull", "net").err == ""

    ran = longvid("models", "check", "net")
    assert (ran.code, ran.out) == (0, f"net in {net.folder}: good\n")

    path = net.folder / "transformer/model.safetensors"
    path.write_bytes(NET[::-1])
    NetBackend.problems = ("transformer: missing rope.freqs",)
    ran = longvid("models", "check", "net", "--json")
    damaged = f"{path}: is not what was pulled: another checksum; pull it again"
    assert (ran.code, ran.err) == (2, "")
    assert json.loads(ran.out) == {
        "model": "net",
        "folder": str(net.folder),
        "problems": ["transformer: missing rope.freqs", damaged],
    }
    ran = longvid("models", "check", "net")
    assert ran.code == 2
    assert ran.out == f"transformer: missing rope.freqs\n{damaged}\nnet in {net.folder}: 2 problems\n"

    ran = longvid("models", "pull", "net")
    assert path.read_bytes() == NET
    assert (ran.code, ran.err.splitlines()[-1]) == (
        2,
        f"error: {net.folder}: pulled, and not what net takes: transformer: missing rope.freqs; "
        "`longvid models check net` lists all",
    )


def test_what_is_missing_is_said_once(net: NetBackend) -> None:
    ran = longvid("models", "check", "net")
    assert ran.code == 2
    files = ("transformer/config.json", "transformer/model.safetensors", "text_encoder/model.safetensors")
    said = [f"missing file {net.folder / file}" for file in files]
    assert ran.out.splitlines() == [*said, f"net in {net.folder}: 3 problems"]


def test_a_part_of_which_one_shard_came_is_missing(net: NetBackend, hub: Hub, monkeypatch) -> None:
    longvid("models", "pull", "net")
    assert json.loads(longvid("models", "--json").out)[0]["missing"] == []
    path = net.folder / "transformer/model.safetensors"
    path.unlink()
    monkeypatch.setattr(NetBackend, "missing_files", lambda self: [])
    assert json.loads(longvid("models", "--json").out)[0]["missing"] == ["transformer"]
    assert longvid("models", "check", "net").out.splitlines()[0] == f"missing file {path}"


def test_a_part_can_be_left_out(net: NetBackend, hub: Hub) -> None:
    assert longvid("models", "pull", "net", "--without", "text_encoder").code == 0
    assert (net.folder / "transformer").is_dir() and not (net.folder / "text_encoder").exists()
    ran = longvid("models", "pull", "net", "--without", "vae")
    assert (ran.code, ran.err) == (
        2,
        "error: --without vae: net has no such part; it has transformer, text_encoder\n",
    )


def test_a_newer_revision_is_mentioned_and_taken_when_asked_for(net: NetBackend, hub: Hub) -> None:
    older = Download("o/t5", "v0", ("model.safetensors",), "text_encoder", "MIT", 0)
    hub.add("o/t5", "v0", model_st=T5[::-1])
    downloads.pull(net.folder, "net", (older,), lambda event: None)
    ran = longvid("models", "pull", "net")
    assert "  this version of longvid names v1: --update takes it\n" in ran.out
    assert (net.folder / "text_encoder/model.safetensors").read_bytes() == T5[::-1]
    ran = longvid("models", "pull", "net", "--update")
    assert "--update" not in ran.out
    assert (net.folder / "text_encoder/model.safetensors").read_bytes() == T5


def test_what_is_not_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = longvid("models", "pull", "diorama")
    assert ran.code == 0
    assert ran.out.startswith("diorama: its weights came with it, in ")
    ran = longvid("models", "pull", "./net")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ./net is a folder; a model is pulled by its name: diorama")
    assert longvid("models", "pull", "no-such-model").code == 2
    assert longvid("models", "check", "./no-such-folder").code == 2


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with showing_progress() as report:
        report(Progress("vae/[model].safetensors", False, 1_000_000_000, 4_000_000_000))
        report(Progress("vae/[model].safetensors", True, 4_000_000_000, 4_000_000_000))
    said = capsys.readouterr()
    assert said.out == ""
    assert "checking vae/[model].safetensors" in said.err and "4.0/4.0 GB" in said.err
