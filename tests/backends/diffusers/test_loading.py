"""Parts of a folder in the published layout: what loads, and what is said where one does not."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from longvid.backends import FilmSpec
from longvid.backends.diffusers import Diffusers, film, loading, skyreels_1_3b
from longvid.errors import UserError
from longvid.lora import named
from tests.backends.diffusers.tiny import write_tiny_skyreels
from tests.tiny import RUNTIME

SPEC = FilmSpec((48, 32), skyreels_1_3b(Path()).model.geometry.fps, 4, {})
TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return write_tiny_skyreels(tmp_path / "tiny")


def one_line(raised: pytest.ExceptionInfo[UserError]) -> str:
    assert "\n" not in str(raised.value)
    return str(raised.value)


def change(file: Path, **tensors: torch.Tensor | None) -> None:
    kept = load_file(file) | {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file({name: tensor for name, tensor in kept.items() if tensors.get(name, tensor) is not None}, file)


def test_a_part_that_is_missing_is_named(folder: Path) -> None:
    (folder / "vae/diffusion_pytorch_model.safetensors").unlink()
    backend = skyreels_1_3b(folder)
    assert backend.missing_files() == [str(folder / "vae/diffusion_pytorch_model.safetensors")]
    with pytest.raises(UserError, match=r"is missing; `longvid models pull skyreels-v2-1.3b` fetches it"):
        backend.for_film(SPEC, RUNTIME)


def test_missing_parts_are_the_fetched_ones(folder: Path, tmp_path: Path) -> None:
    fetched = tmp_path / "data/longvid/models/skyreels-v2-1.3b"
    shutil.copytree(folder, fetched)
    shutil.rmtree(folder / "vae")
    shutil.rmtree(folder / "tokenizer")
    backend = skyreels_1_3b(folder)
    assert backend.missing_files() == [] == backend.check_weights()
    assert backend.part("vae") == fetched / "vae" and backend.part("transformer") == folder / "transformer"
    assert (
        backend.for_film(SPEC, RUNTIME).fingerprint
        == skyreels_1_3b(fetched).for_film(SPEC, RUNTIME).fingerprint
    )


def test_weights_that_do_not_fit(folder: Path) -> None:
    change(
        folder / TRANSFORMER,
        **{"proj_out.weight": torch.zeros(3, 3), "proj_out.bias": None, "more": torch.ones(1)},
    )
    backend = skyreels_1_3b(folder)
    assert backend.check_weights() == [
        "transformer: missing proj_out.bias",
        "transformer: unexpected more",
        "transformer: misshapen proj_out.weight: [3, 3], not [16, 24]",
    ]
    with pytest.raises(UserError, match=r"does not fit the model: 1 missing: proj_out\.bias; ") as raised:
        backend.for_film(SPEC, RUNTIME).denoiser()
    one_line(raised)


def test_a_tied_tensor_may_have_either_name(folder: Path) -> None:
    file = folder / "text_encoder/model.safetensors"
    shared = load_file(file)["shared.weight"]
    change(file, **{"shared.weight": None, "encoder.embed_tokens.weight": shared})
    assert skyreels_1_3b(folder).check_weights() == []


def test_pickles_are_not_read(folder: Path) -> None:
    weights = load_file(folder / TRANSFORMER)
    (folder / TRANSFORMER).unlink()
    torch.save(weights, folder / "transformer/diffusion_pytorch_model.bin")
    backend = skyreels_1_3b(folder)
    assert backend.missing_files() == [str(folder / TRANSFORMER)]
    with pytest.raises(UserError, match="pickles are not read, save it as safetensors"):
        backend.check_weights()


def test_another_model_s_part(folder: Path) -> None:
    config = folder / "transformer/config.json"
    sizes = config.read_text()
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_class_name": "WanTransformer3DModel"}))
    said = "is of 'WanTransformer3DModel'; skyreels-v2-1.3b has SkyReelsV2Transformer3DModel"
    with pytest.raises(UserError, match=re.escape(said)):
        skyreels_1_3b(folder).check_weights()
    config.write_text(json.dumps(json.loads(sizes) | {"num_attention_heads": -2}))
    with pytest.raises(
        UserError, match=r"the config\.json makes no SkyReelsV2Transformer3DModel: "
    ) as raised:
        skyreels_1_3b(folder).check_weights()
    one_line(raised)
    config.write_text("{")
    with pytest.raises(UserError, match="is no JSON"):
        _ = skyreels_1_3b(folder).geometry


def test_shards(folder: Path) -> None:
    from diffusers import SkyReelsV2Transformer3DModel

    before = skyreels_1_3b(folder).for_film(SPEC, RUNTIME).fingerprint
    network = SkyReelsV2Transformer3DModel.from_pretrained(folder / "transformer")
    (folder / TRANSFORMER).unlink()
    network.save_pretrained(folder / "transformer", max_shard_size="40KB")
    assert len(list((folder / "transformer").glob("*.safetensors"))) > 1
    backend = skyreels_1_3b(folder)
    assert backend.missing_files() == [] == backend.check_weights()
    assert backend.for_film(SPEC, RUNTIME).fingerprint != before
    loaded = loading.from_folder(
        folder / "transformer", backend.config("transformer"), torch.float32, torch.device("cpu")
    )
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_a_scheduler_s_shift_counts_but_for_its_class_s_own(folder: Path) -> None:
    """SkyReels-V2 was converted without one: its file may say 1."""
    file = folder / "scheduler/scheduler_config.json"
    said = json.loads(file.read_text())
    for written, shift in ((1.0, 8), (3, 3), (None, 8)):
        file.write_text(json.dumps(said | {"flow_shift": written}))
        backend = skyreels_1_3b(folder)
        assert backend.flow_shift({}) == shift
        assert backend.flow_shift({"flow_shift": 1}) == 1


def test_what_else_would_change_the_weights(folder: Path) -> None:
    loaded = skyreels_1_3b(folder).for_film(SPEC, RUNTIME)
    adapter = folder / "text_encoder/adapter_config.json"
    adapter.write_text('{"peft_type": "LORA", "base_model_name_or_path": "elsewhere"}')
    said = f"{adapter}: no adapter is read beside weights; move it away, or use --lora"
    with pytest.raises(UserError, match=f"^{re.escape(said)}$"):
        loaded.text_encoder()
    config = folder / "vae/config.json"
    quantized = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": quantized}))
    with pytest.raises(UserError, match="vae: cannot be loaded: ") as raised:
        loaded.codec()
    one_line(raised)


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        ("attn1.to_q", ("transformer.blocks.1.attn1.to_q", "diffusion_model.blocks.1.self_attn.q")),
        ("attn2.to_out.0", ("blocks.1.attn2.to_out.0", "diffusion_model.blocks.1.cross_attn.o")),
        ("ffn.net.0.proj", ("transformer.blocks.1.ffn.net.0.proj", "diffusion_model.blocks.1.ffn.0")),
    ],
)
def test_a_lora_by_either_name(folder: Path, tmp_path: Path, layer: str, names: tuple[str, ...]) -> None:
    """By diffusers', and by those of the model's original code, as LoRAs for ComfyUI have them; the weight it
    makes is W + alpha / r B A."""
    backend = skyreels_1_3b(folder)
    outputs, inputs = backend.lora_layers()[f"blocks.1.{layer}"]
    down, up = torch.randn(2, inputs), torch.randn(outputs, 2)
    stored = load_file(folder / TRANSFORMER)
    for name in names:
        file = tmp_path / "lora.safetensors"
        parts = {
            f"{name}.lora_A.weight": down,
            f"{name}.lora_B.weight": up,
            f"{name}.alpha": torch.tensor(1.0),
        }
        save_file(parts, file)
        spec = replace(SPEC, loras=(named(file, 2.0),))
        found = backend.for_film(spec, RUNTIME).trainee().network.state_dict()
        first, second = (f"blocks.{block}.{layer}.weight" for block in (0, 1))
        torch.testing.assert_close(found[second], stored[second] + 2 * 0.5 * up @ down)
        assert torch.equal(found[first], stored[first])


@pytest.mark.parametrize(("module", "library"), [("ftfy", "ftfy"), ("google.protobuf", "protobuf")])
def test_without_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, library: str) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda name: None if name == module else name)
    backend: Diffusers = skyreels_1_3b(folder)
    said = f"skyreels-v2-1.3b needs {library}: pip install 'longvid[models]'"
    for ask in (backend.check_weights, backend.lora_layers, lambda: backend.for_film(SPEC, RUNTIME)):
        with pytest.raises(UserError, match=f"^{re.escape(said)}$"):
            ask()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flow_shift": 0}, "model_options.flow_shift: 0 is no number from 0.1 to 100; the model's is 8"),
        (
            {"flow_shift": True},
            "model_options.flow_shift: true is no number from 0.1 to 100; the model's is 8",
        ),
        ({"shift": 3}, "model_options.shift: skyreels-v2-1.3b has no such option; it has flow_shift"),
    ],
)
def test_options(folder: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        skyreels_1_3b(folder).check_options(options)


def test_a_text_encoder_is_loaded_once_for_the_null_prompt(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = skyreels_1_3b(folder).for_film(SPEC, RUNTIME)
    calls = []
    original = film.DiffusersFilm._text_encoder
    monkeypatch.setattr(
        film.DiffusersFilm, "_text_encoder", lambda self: (calls.append(1), original(self))[1]
    )
    prompts = loaded.text_encoder()(["a red boat"])
    for _ in range(2):
        loaded.text(prompts, {}, torch.ones(3, 1))
    assert calls == [1]
