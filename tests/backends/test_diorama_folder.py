"""diorama's folder as training writes it: what changed, and the rest as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from longvid import plugins
from longvid.backends.diorama import FILES, WEIGHTS, Diorama, codec
from longvid.backends.diorama.folder import save
from longvid.backends.diorama.trainee import DioramaTrainee
from longvid.errors import RenderError
from longvid.files import checksum
from longvid.video import reader
from tests.planning import longvid
from tests.tiny import RUNTIME, SPEC

DENOISER, CODEC = "denoiser.safetensors", "codec.safetensors"


@pytest.fixture
def trainee() -> DioramaTrainee:
    return Diorama().for_film(SPEC, RUNTIME).trainee()


def test_a_trained_network_becomes_a_model(
    trainee: DioramaTrainee, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with torch.no_grad():
        for weight in trainee.network.parameters():
            weight.mul_(1.01)
    trainee.save(tmp_path / "mine", trainee.network.state_dict())
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {*FILES, plugins.FOLDER_FILE}
    checked = longvid("models", "check", "./mine")
    assert (checked.code, checked.out) == (0, "diorama in mine: good\n")
    backend = plugins.backend("./mine")
    assert backend.name == "diorama" and backend.folder == Path("mine")
    loaded = backend.for_film(SPEC, RUNTIME).trainee().network.state_dict()
    wanted = trainee.network.state_dict()
    assert loaded.keys() == wanted.keys()
    assert all(torch.equal(loaded[name], wanted[name]) for name in wanted)

    Path("film.yaml").write_text("model: ./mine\nshots: [{prompt: a red boat, seconds: 1}]\n")
    ran = longvid("render", "film.yaml", "--device", "cpu", "-q")
    assert (ran.code, ran.out) == (0, "film.mp4\n"), ran.err
    assert reader.header(Path("film.mp4")).frames == 12


def test_what_is_not_named_stays(trainee: DioramaTrainee, tmp_path: Path) -> None:
    place = trainee.network.state_dict()["place"] + 1
    trainee.save(tmp_path / "mine", {"place": place})
    before, after = load_file(WEIGHTS / DENOISER), load_file(tmp_path / "mine" / DENOISER)
    assert torch.equal(after.pop("place"), place)
    assert before.pop("place").dtype == torch.float16
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for name in set(FILES) - {DENOISER}:
        assert checksum(tmp_path / "mine" / name) == checksum(WEIGHTS / name)


def test_the_network_keeps_its_size_in_the_header(trainee: DioramaTrainee, tmp_path: Path) -> None:
    trainee.save(tmp_path / "mine", {})
    headers = []
    for folder in (WEIGHTS, tmp_path / "mine"):
        with safe_open(folder / DENOISER, "pt") as file:
            headers.append(file.metadata())
    assert headers[0] == headers[1] and "size" in headers[0]


def test_equal_weights_are_equal_bytes(trainee: DioramaTrainee, tmp_path: Path) -> None:
    for name in ("one", "two"):
        trainee.save(tmp_path / name, trainee.network.state_dict())
    sums = [[checksum(tmp_path / name / file) for file in FILES] for name in ("one", "two")]
    assert sums[0] == sums[1]


def test_a_codec_of_its_own(tmp_path: Path) -> None:
    std = torch.full((codec.CHANNELS,), 2.0)
    save(WEIGHTS, tmp_path / "mine", {CODEC: {"std": std}})
    assert torch.equal(load_file(tmp_path / "mine" / CODEC)["std"], std)
    assert checksum(tmp_path / "mine" / DENOISER) == checksum(WEIGHTS / DENOISER)
    one, other = (Diorama(folder).for_film(SPEC, RUNTIME) for folder in (WEIGHTS, tmp_path / "mine"))
    assert one.fingerprint != other.fingerprint
    assert torch.equal(other.codec().network.std, std)


def test_from_a_model_of_its_own_on_top_of_itself(trainee: DioramaTrainee, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    trainee.save(mine, {})
    again = Diorama(mine).for_film(SPEC, RUNTIME).trainee()
    again.save(mine, {"place": torch.zeros_like(again.network.state_dict()["place"])})
    assert not load_file(mine / DENOISER)["place"].any()
    assert not Diorama(mine).check_weights()
    assert checksum(mine / CODEC) == checksum(WEIGHTS / CODEC)
    assert sorted(path.name for path in mine.iterdir()) == sorted([*FILES, plugins.FOLDER_FILE])


def test_a_copy_where_no_link_can_be(
    trainee: DioramaTrainee, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*names: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr("os.link", refuse)
    trainee.save(tmp_path / "mine", {})
    assert checksum(tmp_path / "mine" / CODEC) == checksum(WEIGHTS / CODEC)
    assert (tmp_path / "mine" / CODEC).stat().st_nlink == 1
    assert not Diorama(tmp_path / "mine").check_weights()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"blocks.0.qkv.base_layer.weight": torch.ones(1)}, "there is no blocks.0.qkv.base_layer.weight"),
        ({"place": torch.ones(3)}, r"place is \(3,\), not \(24, 192\)"),
    ],
)
def test_what_has_no_place(
    trainee: DioramaTrainee, tmp_path: Path, weights: dict[str, torch.Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        trainee.save(tmp_path / "mine", weights)
    assert not (tmp_path / "mine" / plugins.FOLDER_FILE).exists()


def test_a_full_disk_is_one_line_and_leaves_the_model_before(
    trainee: DioramaTrainee, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainee.save(tmp_path / "mine", {})
    before = checksum(tmp_path / "mine" / DENOISER)

    def fail(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(RenderError, match=r"denoiser.safetensors: cannot be written: .*No space left"):
        trainee.save(tmp_path / "mine", trainee.network.state_dict())
    assert checksum(tmp_path / "mine" / DENOISER) == before
    assert not list((tmp_path / "mine").glob(".*"))
