"""What a LoRA's files are, what is refused in one line, and what it makes of a network's weights."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from longvid import lora, plugins
from longvid.backends import Lora
from longvid.errors import UserError
from longvid.lora import CONFIG, WEIGHTS, adapting, check, layers, locate, named, parse, read
from tests.loras import PEFT, pair, write_lora

SIZES = {"blocks.0.qkv": (6, 4), "out": (3, 5)}
STORED = {"blocks.0.qkv.weight": torch.arange(24.0).view(6, 4), "out.weight": torch.ones(3, 5)}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def adapted(*loras: Lora) -> dict[str, torch.Tensor]:
    change = adapting(loras, SIZES, "toy")
    return {name: change(name, weight) for name, weight in STORED.items()}


def expected(name: str, factor: float) -> dict[str, torch.Tensor]:
    parts = {layer: pair(layer, *size, name=name) for layer, size in SIZES.items()}
    return {
        f"{layer}.weight": factor
        * parts[layer][f"{layer}.lora_B.weight"]
        @ parts[layer][f"{layer}.lora_A.weight"]
        for layer in SIZES
    }


def refused(path: Path | str) -> str:
    """The one line that says why."""
    with pytest.raises(UserError) as error:
        check(read(Path(path)), SIZES, "toy")
    assert "\n" not in str(error.value)
    return str(error.value)


# What it does


def test_a_weight_takes_on_strength_times_alpha_over_rank_times_b_a(folder: Path) -> None:
    write_lora(folder / "a", SIZES, lora_alpha=3)
    after, change = adapted(named(folder / "a", 0.5)), expected("", 0.5 * 3 / 2)
    for name, weight in STORED.items():
        torch.testing.assert_close(after[name], weight + change[name])
        assert not torch.equal(after[name], weight)


def test_strength_0_is_the_stored_weight_itself(folder: Path) -> None:
    write_lora(folder / "a", SIZES)
    after = adapted(named(folder / "a", 0))
    assert all(after[name] is STORED[name] for name in STORED)


def test_only_its_own_layers_change(folder: Path) -> None:
    write_lora(folder / "a", {"out": SIZES["out"]})
    after = adapted(named(folder / "a", 1))
    assert after["blocks.0.qkv.weight"] is STORED["blocks.0.qkv.weight"]
    change = adapting([named(folder / "a", 1)], SIZES, "toy")
    bias = torch.ones(3)
    assert change("out.bias", bias) is bias


def test_two_add_in_their_order(folder: Path) -> None:
    write_lora(folder / "a", SIZES, name="a")
    write_lora(folder / "b", SIZES, name="b")
    one, two = named(folder / "a", 0.75), named(folder / "b", -2)
    both = adapted(one, two)
    for name, weight in STORED.items():
        change = expected("a", 0.75 / 2)[name] + expected("b", -2 / 2)[name]
        torch.testing.assert_close(both[name], weight + change)


def test_half_precision_is_added_to_in_float32(folder: Path) -> None:
    write_lora(folder / "a", SIZES)
    change = adapting([named(folder / "a", 1)], SIZES, "toy")
    halves = STORED["out.weight"].half()
    assert change("out.weight", halves).dtype == torch.float32
    assert torch.equal(change("out.weight", halves), change("out.weight", STORED["out.weight"]))


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 1 / 2),
        ({"lora_alpha": 8}, 4),
        ({"lora_alpha": 8, "use_rslora": True}, 8 / math.sqrt(2)),
        ({"alpha_pattern": {"qkv": 6}}, 3),
        ({"alpha_pattern": {"blocks.0.qkv": 6}}, 3),
        ({"alpha_pattern": {"out": 6}}, 1 / 2),
    ],
)
def test_the_scale_is_as_peft_has_it(folder: Path, config: dict[str, object], scale: float) -> None:
    assert read(write_lora(folder / "a", SIZES, **config)).parts["blocks.0.qkv"].scale == scale


@pytest.mark.parametrize("prefix", ["", PEFT, "transformer.", "diffusion_model.", "unet."])
@pytest.mark.parametrize("sides", [("lora_A", "lora_B"), ("lora_down", "lora_up")])
def test_one_file_under_other_names(folder: Path, prefix: str, sides: tuple[str, str]) -> None:
    tensors = pair("out", 3, 5)
    down, up = tensors.values()
    names = [f"{prefix}out.{side}.weight" for side in sides]
    save_file(dict(zip(names, (down, up), strict=True)), folder / "one.safetensors")
    plain = adapted(named(folder / "one.safetensors", 1))["out.weight"]
    torch.testing.assert_close(plain, STORED["out.weight"] + up @ down)

    with_alpha = {**dict(zip(names, (down, up), strict=True)), f"{prefix}out.alpha": torch.tensor(4.0)}
    save_file(with_alpha, folder / "one.safetensors")
    scaled = adapted(named(folder / "one.safetensors", 1))["out.weight"]
    torch.testing.assert_close(scaled, STORED["out.weight"] + 2 * up @ down)


def test_a_networks_linear_layers() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Conv2d(1, 1, 1), nn.Sequential(nn.Linear(5, 7, bias=False)))
    assert layers(network) == {"0": (3, 2), "2.0": (7, 5)}


# What it is known by


def test_its_fingerprint_is_of_what_decides_its_numbers(folder: Path) -> None:
    first = named(write_lora(folder / "a", SIZES), 1).fingerprint
    assert (
        named(write_lora(folder / "elsewhere", SIZES, peft_version="9", revision="x"), 1).fingerprint == first
    )
    others = [
        write_lora(folder / "b", SIZES, lora_alpha=2),
        write_lora(folder / "c", SIZES, name="c"),
        write_lora(folder / "d", SIZES, use_rslora=True),
    ]
    assert len({first, *(named(other, 1).fingerprint for other in others)}) == 4


def test_one_that_changed_since_it_was_named_is_refused(folder: Path) -> None:
    use = named(write_lora(folder / "a", SIZES), 1)
    write_lora(folder / "a", SIZES, name="other")
    with pytest.raises(UserError, match="is not the LoRA any more that this film was begun with"):
        adapted(use)


@pytest.mark.parametrize(
    ("written", "path", "strength"),
    [
        ("a", "a", 1),
        ("a:0.5", "a", 0.5),
        ("a:-1", "a", -1),
        ("./a:1e-1", "a", 0.1),
        ("odd:0.5", "odd:0.5", 1),
        ("odd:0.5:2", "odd:0.5", 2),
        (f"a/{WEIGHTS}:0", f"a/{WEIGHTS}", 0),
    ],
)
def test_path_and_strength(folder: Path, written: str, path: str, strength: float) -> None:
    write_lora(folder / "a", SIZES)
    write_lora(folder / "odd:0.5", SIZES)
    use = parse(written)
    assert (use.path, use.strength) == (folder / path, strength)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("b", "there is no file or folder"),
        ("aa", "did you mean 'a'?"),
        ("a:strong", "'strong' is no strength, in a:strong; write a number, as a:0.8"),
        ("a:nan", "the strength nan is out of range; -10 to 10"),
        ("a:inf", "the strength inf is out of range"),
        ("a:10.5", "the strength 10.5 is out of range; -10 to 10"),
        (r"C:\loras\b", r"there is no file or folder"),
    ],
)
def test_no_path_or_no_strength(folder: Path, written: str, message: str) -> None:
    write_lora(folder / "a", SIZES)
    with pytest.raises(UserError) as error:
        parse(written)
    assert message in str(error.value)


# What is refused


def test_of_another_model_by_its_layers(folder: Path) -> None:
    path = write_lora(folder / "a", {"blocks.0.kv": (6, 4), **SIZES})
    assert refused(path) == (
        f"{path / WEIGHTS}: is for another model than toy, which has no layer 'blocks.0.kv'; the nearest is "
        "blocks.0.qkv (1 of the LoRA's 3 layers are unknown)"
    )


def test_of_another_model_by_what_it_says(folder: Path) -> None:
    path = write_lora(folder / "a", SIZES, base_model_name_or_path="opensora-v1.2")
    assert refused(path) == f"{path / WEIGHTS}: was trained on 'opensora-v1.2', not on toy"
    for base in ("toy", "somebody/toy-on-the-hub", "", None):
        check(read(write_lora(folder / "a", SIZES, base_model_name_or_path=base)), SIZES, "toy")


def test_of_other_sizes(folder: Path) -> None:
    path = write_lora(folder / "a", {**SIZES, "out": (3, 7)})
    assert refused(path) == (
        f"{path / WEIGHTS}: is for a model of other sizes than toy: its out takes 7 numbers to 3, toy's 5 to "
        "3 (1 of the LoRA's 2 layers differ)"
    )


def test_for_a_model_that_takes_none(folder: Path) -> None:
    path = write_lora(folder / "a", SIZES)
    with pytest.raises(UserError, match=r"still takes no LoRA; leave .* out"):
        check(read(path), {}, "still")


@pytest.mark.parametrize("name", ["adapter_model.bin", "my.pt", "my.ckpt"])
def test_a_pickle_is_never_opened(folder: Path, name: str) -> None:
    (folder / "a").mkdir()
    torch.save({"x": torch.ones(1)}, folder / "a" / name)
    for path in (folder / "a", folder / "a" / name):
        assert refused(path) == (
            f"{folder / 'a' / name} is a pickle, which could run code, so it was not opened; save the LoRA "
            "as safetensors (peft: `safe_serialization=True`)"
        )


def test_a_pickle_under_safetensors_name_is_no_safetensors(folder: Path) -> None:
    torch.save({"x": torch.ones(1)}, folder / "a.safetensors")
    assert "is no whole safetensors file" in refused("a.safetensors")


def test_a_model_is_no_lora(folder: Path) -> None:
    path = write_lora(folder / "a", SIZES)
    (path / CONFIG).unlink()
    (path / plugins.FOLDER_FILE).write_text("{}")
    assert refused(path) == f"{path} is a model, not a LoRA; give it as `model:` or with --model"


def test_a_lora_is_no_model(folder: Path) -> None:
    write_lora(folder / "a", SIZES)
    with pytest.raises(UserError, match="a is a LoRA, not a model; give it as `lora:` in the timeline"):
        plugins.backend("./a")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "holds no LoRA; its tensors would be named lora_A and lora_B"),
        ({"out.weight": (3, 5)}, "'out.weight' is no part of a plain LoRA of linear layers"),
        ({"out.lora_A.weight": (2, 5)}, "'out' has no lora_B; the file is not whole"),
        ({"out.lora_B.weight": (2, 5)}, "'out' has no lora_A; the file is not whole"),
        (
            {"out.lora_A.weight": (2, 5), "out.lora_B.weight": (3, 4)},
            "'out' has lora_A of rank 2 and lora_B of rank 4",
        ),
        (
            {"out.lora_A.weight": (2, 5, 1, 1)},
            "'out.lora_A.weight' is no part of a plain LoRA of linear layers",
        ),
        (
            {"out.lora_magnitude_vector": (3,)},
            "'out.lora_magnitude_vector' is no part of a plain LoRA of linear layers",
        ),
        ({"out.lora_B.bias": (3,)}, "'out.lora_B.bias' is no part of a plain LoRA of linear layers"),
    ],
)
def test_what_is_no_plain_lora(folder: Path, tensors: dict[str, tuple[int, ...]], message: str) -> None:
    save_file({name: torch.ones(shape) for name, shape in tensors.items()}, folder / "a.safetensors")
    assert refused("a.safetensors") == f"a.safetensors: {message}"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[]", "is not the configuration of a LoRA, as peft writes it"),
        ("{", "is not the configuration of a LoRA, as peft writes it"),
        ('{"peft_type": "LOHA"}', "is of the kind 'LOHA'; only plain LoRA can be rendered with"),
        ('{"lora_alpha": "much"}', "lora_alpha 'much' is not a number"),
        ('{"alpha_pattern": {"(a+)+$": 2}}', "alpha_pattern '(a+)+$' names no layer of the LoRA"),
    ],
)
def test_a_configuration_that_is_none(folder: Path, config: str, message: str) -> None:
    path = write_lora(folder / "a", SIZES)
    (path / CONFIG).write_text(config)
    assert refused(path) == f"{path / CONFIG}: {message}"


def test_files_that_are_none(folder: Path) -> None:
    (folder / "empty").mkdir()
    assert (
        refused("empty")
        == f"empty holds no {WEIGHTS}; a LoRA's folder is as peft's save_pretrained writes it"
    )
    (folder / "a.txt").write_text("")
    assert refused("a.txt") == f"a.txt is no safetensors file; a LoRA is one, or a folder with {WEIGHTS}"
    (folder / "torn.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    assert refused("torn.safetensors").startswith("torn.safetensors: is no whole safetensors file")


def test_the_one_file_of_a_folder_is_it(folder: Path) -> None:
    path = write_lora(folder / "a", SIZES, lora_alpha=6)
    (path / WEIGHTS).rename(path / "pytorch_lora_weights.safetensors")
    assert locate(path) == (
        path / "pytorch_lora_weights.safetensors",
        json.loads((path / CONFIG).read_text()),
    )
    assert read(path).parts["out"].scale == 3


def test_nothing_is_read_before_it_fits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_lora(folder / "a", SIZES)
    content = load_file(path / WEIGHTS)
    assert len(content) == 4
    monkeypatch.setattr(lora, "difference", lambda *numbers: pytest.fail("read"))
    check(read(path), SIZES, "toy")
