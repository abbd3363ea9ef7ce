"""What memory is estimated, against what the networks allocate when they run without a number."""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from longvid.backends import FilmSpec
from longvid.backends.opensora import OpenSora, backend, memory
from longvid.backends.opensora.config import TransformerSize, VAESize
from longvid.backends.opensora.stdit3 import Reading, STDiT3, cast
from longvid.backends.opensora.streaming import Packed, Stream, stream_blocks
from longvid.backends.opensora.vae import VideoAutoencoder, decode_tiled
from tests.nvidia import install_nvidia_smi
from tests.planning import longvid

SPEC = FilmSpec((424, 240), Fraction(24), 6, {})
GB = 10**9
DTYPES = {2: torch.bfloat16, 4: torch.float32}


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenSora:
    """The model of the published sizes, none of whose weights is here."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return backend(None)


class Alive(TorchDispatchMode):
    """The most bytes that tensors made inside have held together."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        given = {storage(tensor)._cdata for tensor in tensors((args, kwargs))}
        for new in {storage(tensor)._cdata: storage(tensor) for tensor in tensors(result)}.values():
            if new._cdata not in given:
                self.bytes += new.nbytes()
                weakref.finalize(new, self.let_go, new.nbytes())
        self.peak = max(self.peak, self.bytes)
        return result

    def let_go(self, count: int) -> None:
        self.bytes -= count


def tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def storage(tensor: Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()


def held_bytes(network: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))


@pytest.fixture
def _a_card_s_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card's kernels never write the scores out; the meta device would."""

    def attention(q: Tensor, k: Tensor, v: Tensor, **plain: Any) -> Tensor:
        kernel: Callable[..., tuple[Tensor, ...]] = torch.ops.aten._scaled_dot_product_efficient_attention
        return kernel(q, k, v, None, False)[0]

    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)


# Each estimate is at least what is found, and at most 1.3 times it.


@pytest.mark.parametrize(("size", "window"), [((424, 240), 6), ((424, 240), 2), ((1280, 720), 6)])
@pytest.mark.parametrize("value_bytes", [2, 4])
@pytest.mark.usefixtures("_a_card_s_attention")
def test_a_step(size: tuple[int, int], window: int, value_bytes: int) -> None:
    """At the published sizes, and on the meta device, where tensors have sizes and no numbers."""
    with torch.device("meta"), torch.inference_mode():
        network = cast(STDiT3(TransformerSize()), DTYPES[value_bytes]).eval()
        frames = 5 * (window + 1)
        x, t = torch.empty(1, 4, frames, size[1] // 8, size[0] // 8), torch.empty(1, frames)
        embeddings = torch.empty(300, 4096)
        with Alive() as projected:
            boat, storm = network.project(embeddings), network.project(embeddings)
        keys = 2 * projected.bytes  # those of the null prompts are as large
        reads = [Reading(frames - 5, ((boat, 1.0),)), Reading(5, ((boat, 0.5), (storm, 0.5)))]
        with Alive() as step:
            network(x, t, 24.0, (240, 426), reads)
    spec = replace(SPEC, size=size, window=window)
    assert memory.keys_bytes(TransformerSize(), value_bytes) == keys
    assert 1 <= memory.denoising_bytes(TransformerSize(), spec, value_bytes) / step.peak <= 1.3


@pytest.mark.parametrize(
    ("size", "frames", "tile_cells"),
    [
        ((424, 240), 4, None),
        ((424, 240), 1, None),
        ((424, 240), 1, memory.TILE_CELLS),
        ((1280, 720), 4, None),
        ((1280, 720), 1, None),
    ],
)
@pytest.mark.parametrize("value_bytes", [2, 4])
@pytest.mark.usefixtures("_a_card_s_attention")
def test_a_chunk_that_is_decoded(
    size: tuple[int, int], frames: int, tile_cells: int | None, value_bytes: int
) -> None:
    with torch.device("meta"), torch.inference_mode():
        autoencoder = VideoAutoencoder(VAESize()).eval()
        autoencoder.place(torch.device("meta"), DTYPES[value_bytes])
        autoencoder.micro_batch_size = frames
        z = torch.empty(1, 4, 5, size[1] // 8, size[0] // 8)
        with Alive() as decoding:
            if tile_cells is None:
                autoencoder.decode(z, 17)
            else:
                decode_tiled(autoencoder, z, 17, tile_cells, tile_cells // 4)
    spec = replace(SPEC, size=size)
    estimate = memory.decoding_bytes(VAESize(), spec, value_bytes, frames, tile_cells)
    assert 1 <= estimate / decoding.peak <= 1.3


@pytest.mark.parametrize("value_bytes", [2, 4])
def test_weights(value_bytes: int) -> None:
    with torch.device("meta"):
        network = cast(STDiT3(TransformerSize()), DTYPES[value_bytes])
        autoencoder = VideoAutoencoder(VAESize())
    estimate = memory.transformer_bytes(TransformerSize(), value_bytes, blocks_stay=True)
    assert estimate == pytest.approx(held_bytes(network), rel=0.01)
    assert memory.vae_values(VAESize()) == pytest.approx(held_bytes(autoencoder) / 4, rel=0.01)


def test_weights_of_streamed_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the device: the two buffers, and all that is no block."""
    seen: list[Stream] = []

    def remember(self: Stream, groups: list[Packed], device: torch.device) -> None:
        seen.append(self)
        begin(self, groups, device)

    begin = Stream.__init__
    monkeypatch.setattr(Stream, "__init__", remember)
    size = TransformerSize(hidden_size=192, depth=3, num_heads=4, caption_channels=64, model_max_length=20)
    network = stream_blocks(STDiT3(size), torch.device("cpu"))
    (stream,) = seen
    buffers = sum(buffer.nbytes for buffer in stream.buffers)
    parts = [part for name, part in network.named_children() if not name.endswith("_blocks")]
    found = buffers + sum(map(held_bytes, parts))
    assert memory.transformer_bytes(size, 4, blocks_stay=False) == pytest.approx(found, rel=0.05)


def test_the_text_encoder(published: OpenSora) -> None:
    config = Path("there is none")
    size = TransformerSize()
    assert 19.05 * GB <= memory.text_bytes(config, "auto", size) <= 19.4 * GB  # its files: 9.45 + 9.6 GB
    assert 4.8 * GB <= memory.text_bytes(config, "8bit", size) <= 5.2 * GB
    assert 2.8 * GB <= memory.text_bytes(config, "4bit", size) <= 3.2 * GB


# The ladder


def names(model: OpenSora, value_bytes: int = 2, **changes: Any) -> list[str]:
    return [rung.name for rung in model.rungs(replace(SPEC, **changes), value_bytes)]


@pytest.mark.parametrize("value_bytes", [2, 4])
def test_each_rung_takes_less(published: OpenSora, value_bytes: int) -> None:
    ladder = published.rungs(SPEC, value_bytes)
    assert [rung.name for rung in ladder] == [held.name for held in memory.HOLDINGS]
    assert all(below.peak_bytes < above.peak_bytes for above, below in pairwise(ladder))
    assert [rung.name for rung in ladder if not rung.exact] == ["tiled"]
    assert [rung.decodes_beside for rung in ladder] == [True, True, False, False, False]


@pytest.mark.parametrize("choice", ["auto", "cpu", "8bit", "4bit"])
@pytest.mark.parametrize("size", [(424, 240), (1280, 720), (256, 256)])
@pytest.mark.parametrize("value_bytes", [2, 4])
def test_no_rung_takes_more_than_the_one_before(
    published: OpenSora, size: tuple[int, int], value_bytes: int, choice: str
) -> None:
    ladder = published.rungs(replace(SPEC, size=size, options={"text_encoder": choice}), value_bytes)
    assert all(below.peak_bytes <= above.peak_bytes for above, below in pairwise(ladder))


def test_what_would_change_nothing_is_left_out(published: OpenSora) -> None:
    assert "t5-off" not in names(published, options={"text_encoder": "cpu"})
    assert "t5-off" not in names(published, options={"text_encoder": "4bit"})
    assert "tiled" not in names(published, size=(256, 256))


def test_where_t5_computes(published: OpenSora) -> None:
    def places(choice: str) -> list[bool]:
        ladder = published.rungs(replace(SPEC, options={"text_encoder": choice}), 2)
        return [rung.says.startswith("T5 on the card, ") for rung in ladder]

    assert places("auto") == [True, False, False, False, False]
    assert places("cpu") == [False] * 4
    assert places("8bit") == [True] * 4


def test_without_weights_no_t5_is_held(published: OpenSora) -> None:
    assert published.with_random_weights().rungs(SPEC, 2)[0].peak_bytes < 8 * GB
    assert published.rungs(SPEC, 2)[0].peak_bytes > 19 * GB


def test_a_rung_that_is_none() -> None:
    with pytest.raises(ValueError, match="no rung 'cellar'; there is resident, t5-off, "):
        memory.holding("cellar")


# The command


@pytest.mark.parametrize(
    ("free_mib", "chosen"),
    [(23_000, "resident"), (7_500, "t5-off"), (5_000, "vae-off"), (3_000, "streamed"), (500, "tiled")],
)
@pytest.mark.usefixtures("published")
def test_plan_asks_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_mib: int, chosen: str
) -> None:
    install_nvidia_smi(monkeypatch, tmp_path / "bin", f"0, GPU-1, NVIDIA Fake, 24000, {free_mib}")
    monkeypatch.setenv("COLUMNS", "150")
    film = tmp_path / "film.yaml"
    film.write_text("model: opensora-v1.2\nshots: [{prompt: a red boat, seconds: 4}]\n")
    ran = longvid("plan", film)
    assert (ran.code, ran.err) == (0, "")
    (line,) = (line for line in ran.out.splitlines() if "chosen" in line)
    assert line.split()[0] == chosen
    assert f"NVIDIA Fake: {(free_mib << 20) / 1e9:.1f} of 25.2 GB free" in ran.out
    assert ("tiled" in ran.out) and ("(changes pixels)" in ran.out)
    said = json.loads(longvid("plan", film, "--json").out)
    assert said["memory"]["chosen"] == chosen
    assert said["memory"]["card"]["free_bytes"] == free_mib << 20


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, longvid.backends.opensora; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "numpy", "diffusers", "transformers"} & set(loaded.split())
