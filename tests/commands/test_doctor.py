import json
from collections import namedtuple
from pathlib import Path

import pytest
import torch

import longvid as package
from longvid.commands import doctor
from longvid.downloads import Download
from longvid.errors import UserError
from tests.installed import install_tiny
from tests.planning import longvid
from tests.tiny import TinyBackend


@pytest.fixture
def plugins(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(install_tiny(tmp_path / "plugins")))


def test_everything_is_looked_at(plugins, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = longvid("doctor", "--json")
    assert (ran.code, ran.err) == (0, "")
    found = {
        section: {finding["what"]: finding for finding in findings}
        for section, findings in json.loads(ran.out).items()
    }
    assert list(found) == ["versions", "devices", "attention", "encoders", "models", "disk"]
    assert found["versions"]["longvid"]["detail"] == package.__version__
    assert found["versions"]["torch"]["detail"].startswith("2.")
    assert found["devices"]["cpu"]["works"] is True
    assert found["attention"]["torch math"]["works"] is True
    assert found["encoders"]["libx264"]["works"] is True
    assert set(found["encoders"]) == {"libx264", "h264_nvenc"}
    assert found["models"]["tiny"] == {"what": "tiny", "works": True, "detail": "24x16, 12 frames a second"}
    assert str(tmp_path) in found["disk"]["free here"]["detail"]


def test_a_person_gets_lines(plugins):
    ran = longvid("doctor")
    assert ran.code == 0
    for said in ("versions", "longvid", "libx264", "tiny", "free here"):
        assert said in ran.out


def test_an_encoder_that_cannot_be_opened_is_told_from_one_that_can():
    assert doctor.encoder("libx264").works is True
    assert doctor.encoder("no_such_encoder").works is False


def test_a_model_that_cannot_be_had_is_named(plugins, monkeypatch):
    def refuse(folder: Path | None) -> None:
        raise UserError("tiny has no checkpoints")

    monkeypatch.setattr("tests.tiny.backend", refuse)
    finding = next(finding for finding in doctor.models() if finding.what == "tiny")
    assert (finding.works, finding.detail) == (False, "tiny has no checkpoints")


def test_weights_that_are_missing_are_named(plugins, monkeypatch):
    monkeypatch.setattr(TinyBackend, "missing_files", lambda self: ["weights/a", "weights/b"])
    finding = next(finding for finding in doctor.models() if finding.what == "tiny")
    assert (finding.works, finding.detail) == (False, "missing: weights/a, weights/b")
    pulled = TinyBackend(downloads=(Download("a/b", "main", ("c",), "", "", 1),))
    monkeypatch.setattr("tests.tiny.backend", lambda folder: pulled)
    finding = next(finding for finding in doctor.models() if finding.what == "tiny")
    assert finding.detail == "2 files are missing; `longvid models pull tiny` fetches them"


def test_little_disk_is_a_warning(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage(10, 9, 1_500_000_000))
    assert doctor.disk(tmp_path) == doctor.Finding("free here", False, f"1.5 GB in {tmp_path}")


def test_without_a_card_that_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [(finding.what, finding.works) for finding in doctor.devices()] == [("cpu", True), ("cuda", False)]
