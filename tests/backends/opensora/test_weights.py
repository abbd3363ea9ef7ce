from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from longvid.backends.checkpoints import Problems
from longvid.backends.opensora.weights import check, load, open_checkpoint
from longvid.errors import UserError

ROWS = 5


class Embedder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.y_proj = nn.Linear(4, 3)
        self.register_buffer("y_embedding", torch.empty(ROWS, 4))


class Network(nn.Module):
    """Names as the transformer has them, a buffer and a scalar among them."""

    def __init__(self) -> None:
        super().__init__()
        self.y_embedder = Embedder()
        self.blocks = nn.ModuleList(nn.Linear(3, 3, bias=False) for _ in range(3))
        self.scale = nn.Parameter(torch.empty(()))


def empty() -> Network:
    with torch.device("meta"):
        return Network()


def random_state(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(t.shape, generator=generator) for name, t in empty().state_dict().items()}


def shard(folder: Path, state: dict[str, Tensor], suffix: str, shards: int = 2) -> Path:
    """A folder as transformers and ColossalAI write it, with an index."""
    folder.mkdir()
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    weight_map = {}
    for i in range(shards):
        part = dict(list(state.items())[i::shards])
        file = f"{stem}-{i + 1:05}-of-{shards:05}.{suffix}"
        (save_file if suffix == "safetensors" else torch.save)(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / f"{stem}.{suffix}.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map})
    )
    return folder


def loaded(path: Path) -> dict[str, Tensor]:
    network = empty()
    load(network, open_checkpoint(path))
    return network.state_dict()


def same(has: dict[str, Tensor], wants: dict[str, Tensor]) -> None:
    assert list(has) == list(wants)
    for name, tensor in wants.items():
        assert torch.equal(has[name], tensor), name


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_load_as_the_whole_does(tmp_path: Path, suffix: str) -> None:
    state = random_state()
    same(loaded(shard(tmp_path / "sharded", state, suffix)), state)
    whole = tmp_path / f"model.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(state, whole)
    same(loaded(whole), state)
    same(loaded(tmp_path), state)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": random_state(1), "ema": state, "optimizer": {"state": {0: torch.ones(1)}}},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {f"_orig_mod.module.{name}": tensor for name, tensor in state.items()},
        lambda state: {**state, "pos_embed": torch.ones(3), "pos_embed_temporal": torch.ones(3)},
        lambda state: {name: nn.Parameter(tensor) for name, tensor in state.items()},
    ],
    ids=["plain", "state_dict", "averaged", "nested", "ddp", "compiled", "old", "parameters"],
)
def test_pickles_as_people_have_them(tmp_path: Path, wrap) -> None:
    state = random_state()
    torch.save(wrap(state), tmp_path / "ema.pt")
    same(loaded(tmp_path), state)
    torch.save(wrap(state), tmp_path / "ema.pt", _use_new_zipfile_serialization=False)
    same(loaded(tmp_path / "ema.pt"), state)


@pytest.mark.parametrize("rows", [2, ROWS + 3])
def test_a_null_caption_of_another_length_is_repeated_or_cut(tmp_path: Path, rows: int) -> None:
    state = random_state()
    state["y_embedder.y_embedding"] = torch.randn(rows, 4)
    save_file(state, tmp_path / "model.safetensors")
    stored = state["y_embedder.y_embedding"]
    wanted = torch.cat([stored[:ROWS], stored[-1:].expand(max(ROWS - rows, 0), -1)])
    assert torch.equal(loaded(tmp_path)["y_embedder.y_embedding"], wanted)


def test_what_is_loaded_has_the_networks_dtype_and_nothing_else_changes(tmp_path: Path) -> None:
    state = random_state()
    half = {name: tensor.to(torch.bfloat16) for name, tensor in state.items()}
    save_file(half, tmp_path / "model.safetensors")
    same(loaded(tmp_path), {name: tensor.float() for name, tensor in half.items()})

    save_file(state, tmp_path / "model.safetensors")
    network = empty().to(torch.bfloat16)
    network.scale = nn.Parameter(torch.empty((), device="meta"), requires_grad=False)
    load(network, open_checkpoint(tmp_path))
    assert network.scale.dtype == torch.float32 and not network.scale.requires_grad
    assert network.blocks[0].weight.requires_grad
    same(network.state_dict() | {"scale": state["scale"]}, half | {"scale": state["scale"]})


def test_the_loaded_network_no_longer_needs_the_file(tmp_path: Path) -> None:
    """A mapped file would follow its changes, and kill the process where it shrinks."""
    state = random_state()
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    has = loaded(path)
    with open(path, "r+b") as file:
        file.write(bytes(path.stat().st_size))
    same(has, state)


def test_headers_alone_say_what_is_there(tmp_path: Path) -> None:
    state = {"a": torch.zeros(2, 3, dtype=torch.float16), "b": torch.zeros(())}
    save_file(state, tmp_path / "model.safetensors")
    torch.save(state, tmp_path / "model.pt")
    for name in ("model.safetensors", "model.pt"):
        checkpoint = open_checkpoint(tmp_path / name)
        assert {name: (t.shape, t.dtype) for name, t in checkpoint.tensors.items()} == {
            "a": ((2, 3), torch.float16),
            "b": ((), torch.float32),
        }
        assert checkpoint.files == (tmp_path / name,)


def test_differences_are_named(tmp_path: Path) -> None:
    state = random_state()
    save_file(state, tmp_path / "good.safetensors")
    assert not check(empty(), open_checkpoint(tmp_path / "good.safetensors"))
    for i in range(3):
        del state[f"blocks.{i}.weight"]
    del state["scale"]
    state |= {"lora": torch.ones(1), "y_embedder.y_proj.bias": torch.ones(7)}
    state["y_embedder.y_embedding"] = torch.ones(ROWS, 3)
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    found = check(empty(), open_checkpoint(path))
    assert found == Problems(
        ("scale", "blocks.0.weight", "blocks.1.weight", "blocks.2.weight"),
        ("lora",),
        (("y_embedder.y_embedding", (5, 3), (5, 4)), ("y_embedder.y_proj.bias", (7,), (3,))),
    )
    assert found.lines() == [
        "missing scale",
        "missing blocks.0.weight",
        "missing blocks.1.weight",
        "missing blocks.2.weight",
        "unexpected lora",
        "misshapen y_embedder.y_embedding: [5, 3], not [5, 4]",
        "misshapen y_embedder.y_proj.bias: [7], not [3]",
    ]
    with pytest.raises(UserError) as error:
        load(empty(), open_checkpoint(path))
    assert str(error.value) == (
        f"{path}: does not fit the model: 4 missing: scale, blocks.0.weight, blocks.1.weight, …; "
        "1 unexpected: lora; 2 misshapen: y_embedder.y_embedding [5, 3], not [5, 4], "
        "y_embedder.y_proj.bias [7], not [3]; `longvid models check` lists all"
    )


class Trap:
    """Runs a command where it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("modern", [True, False])
def test_nothing_in_a_pickle_is_run(tmp_path: Path, modern: bool) -> None:
    path, sprung = tmp_path / "model.pt", tmp_path / "sprung"
    content = {**random_state(), "extra": Trap(f"touch {sprung}")}
    torch.save(content, path, _use_new_zipfile_serialization=modern)
    for read in (open_checkpoint, loaded):
        with pytest.raises(UserError) as error:
            read(path)
        assert str(error.value) == (
            f"{path}: holds more than tensors (posix.system), so it was not loaded and nothing in it was "
            "run; save the state dict alone, best as safetensors"
        )
    assert not sprung.exists()


@pytest.mark.parametrize(
    "place", ["../outside.safetensors", "/etc/outside.safetensors", "a\\b", "C:outside", ".", "", 3]
)
def test_an_index_names_files_of_its_folder_only(tmp_path: Path, place: object) -> None:
    save_file(random_state(), tmp_path / "outside.safetensors")
    folder = tmp_path / "model"
    folder.mkdir()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(random_state(), place)}))
    with pytest.raises(UserError) as error:
        open_checkpoint(folder)
    said = f"{index}: names the file {place!r}, which is not in its folder; it was not opened"
    assert str(error.value) == said


def test_an_index_that_cannot_be_followed(tmp_path: Path) -> None:
    folder = shard(tmp_path / "model", random_state(), "safetensors")
    index = folder / "model.safetensors.index.json"
    said = json.loads(index.read_text())

    def refused() -> str:
        with pytest.raises(UserError) as error:
            open_checkpoint(folder)
        return str(error.value)

    said["weight_map"]["elsewhere"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(said))
    shard_path = folder / "model-00001-of-00002.safetensors"
    assert refused() == f"{shard_path}: holds no elsewhere, which the index of {folder} says it does"
    shard_path.unlink()
    assert refused() == f"{index}: names {shard_path.name}, which is not there; copy every shard"
    for text in ("{", "[]", "{}", '{"weight_map": ["a"]}', '{"weight_map": {"a": ["b"]}}'):
        index.write_text(text)
        assert refused() == f"{index}: is no index of a checkpoint: it has no weight_map"


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(UserError) as error:
            open_checkpoint(path)
        return str(error.value).removeprefix(f"{path}: ")

    assert refused(tmp_path / "none") == "no such file or folder"
    assert refused(tmp_path) == "holds no weights, such as model.safetensors"
    inner = shard(tmp_path / "model", random_state(), "bin")
    assert refused(tmp_path) == f"holds no weights; did you mean {inner}?"

    for name in ("a.safetensors", "b.safetensors"):
        save_file(random_state(), tmp_path / name)
    assert refused(tmp_path) == (
        "holds 2 checkpoints (a.safetensors, b.safetensors, …); name one of the files"
    )

    cut = tmp_path / "a.safetensors"
    os.truncate(cut, cut.stat().st_size - 4)
    assert refused(cut).startswith("is no whole safetensors file (")
    save_file({"a": torch.ones(2, dtype=torch.int64)}, cut)
    assert refused(cut).startswith("a is stored as I64; weights are one of F64, F32")
    torch.save(random_state(), tmp_path / "c.pt")
    os.truncate(tmp_path / "c.pt", 2000)
    assert refused(tmp_path / "c.pt") == "is no whole PyTorch checkpoint; copy it again"
    (tmp_path / "c.pt").write_text("hello")
    assert refused(tmp_path / "c.pt") == "is no whole PyTorch checkpoint; copy it again"
    torch.save({"step": 3}, tmp_path / "c.pt")
    assert refused(tmp_path / "c.pt") == "holds no tensors"
    torch.save([torch.ones(1)], tmp_path / "c.pt")
    assert refused(tmp_path / "c.pt") == "holds no tensors"


def test_a_network_that_keeps_what_no_checkpoint_holds_is_found_out(tmp_path: Path) -> None:
    network = empty()
    network.register_buffer("angles", torch.empty(2, device="meta"), persistent=False)
    save_file(random_state(), tmp_path / "model.safetensors")
    with pytest.raises(AssertionError, match="angles"):
        load(network, open_checkpoint(tmp_path))
