"""A trained model's folder: loads as what was trained, and holds the rest of the model once."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from longvid import plugins
from longvid.backends import FilmSpec
from longvid.backends.diffusers import Diffusers, skyreels_1_3b
from longvid.errors import UserError
from tests.backends.diffusers.tiny import write_tiny_skyreels
from tests.tiny import RUNTIME

SPEC = FilmSpec((48, 32), Fraction(24), 4, {})
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return write_tiny_skyreels(tmp_path / "tiny")


def weights(backend: Diffusers) -> dict[str, torch.Tensor]:
    return backend.for_film(SPEC, RUNTIME).trainee().network.state_dict()


@pytest.mark.usefixtures("models_installed")
def test_what_was_trained_is_loaded(folder: Path, tmp_path: Path) -> None:
    backend = skyreels_1_3b(folder)
    trained = {"proj_out.bias": torch.arange(16.0)}
    backend.for_film(SPEC, RUNTIME).trainee().save(tmp_path / "saved", trained)
    saved = plugins.backend(str(tmp_path / "saved"))
    assert isinstance(saved, Diffusers) and saved.missing_files() == [] == saved.check_weights()
    before, after = weights(backend), weights(saved)
    assert before.keys() == after.keys()
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["proj_out.bias"]
    assert torch.equal(after["proj_out.bias"], trained["proj_out.bias"])
    assert saved.config("scheduler") == backend.config("scheduler")
    for file in ("vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"):
        assert (tmp_path / "saved" / file).samefile(folder / file)
    # The same bytes again, and over a folder that is there.
    content = (tmp_path / "saved" / WEIGHTS).read_bytes()
    backend.for_film(SPEC, RUNTIME).trainee().save(tmp_path / "saved", trained)
    assert (tmp_path / "saved" / WEIGHTS).read_bytes() == content


def test_fetched_parts_stay_where_they_are(folder: Path, tmp_path: Path) -> None:
    fetched = tmp_path / "data/longvid/models/skyreels-v2-1.3b"
    fetched.parent.mkdir(parents=True)
    shutil.move(folder, fetched)
    skyreels_1_3b(None).for_film(SPEC, RUNTIME).trainee().save(tmp_path / "saved", {})
    saved = skyreels_1_3b(tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["longvid.json", "transformer"]
    assert saved.missing_files() == [] == saved.check_weights()
    assert weights(saved).keys() == weights(skyreels_1_3b(None)).keys()


def test_a_tensor_without_a_place(folder: Path, tmp_path: Path) -> None:
    trainee = skyreels_1_3b(folder).for_film(SPEC, RUNTIME).trainee()
    for wrong in ({"more": torch.ones(1)}, {"proj_out.bias": torch.ones(3)}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            trainee.save(tmp_path / "saved", wrong)
    assert not (tmp_path / "saved/longvid.json").exists()


def test_random_weights_can_be_saved(folder: Path, tmp_path: Path) -> None:
    random = skyreels_1_3b(folder).with_random_weights()
    random.for_film(SPEC, RUNTIME).trainee().save(tmp_path / "saved", {})
    saved = skyreels_1_3b(tmp_path / "saved")
    assert all(torch.equal(one, weights(random)[name]) for name, one in weights(saved).items())
    with pytest.raises(UserError, match="no such option"):
        saved.for_film(FilmSpec((48, 32), Fraction(24), 4, {"more": 1}), RUNTIME)
