"""Training the denoiser: what a batch holds, what the loss counts, and that a stopped run goes on exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from longvid.backends.diorama import captions, text
from longvid.backends.diorama.denoiser import DenoiserSize
from longvid.training import denoiser
from longvid.training.clips import Clips
from longvid.training.denoiser import (
    CHUNK_LATENTS,
    OBJECT_WEIGHT,
    WINDOW_UNITS,
    Batch,
    LatentClips,
    Recipe,
    average_gradients,
    draw_batch,
    train_denoiser,
    velocity_error,
    weighted_loss,
)
from longvid.training.windows import Window

SIZE = DenoiserSize(
    latent_channels=3,
    latent_height=4,
    latent_width=4,
    conv=8,
    width=96,
    depth=1,
    heads=2,
    text_width=text.WIDTH,
)
CLIPS, CHUNKS = 8, 6
SCENES = tuple(captions.VALUES["scene"])
CONTEXT, START = Window("progressive", 0, 2, True), Window("progressive", WINDOW_UNITS - 2, 2, False)


def spec(scene: int) -> captions.Spec:
    return dict.fromkeys(captions.VALUES) | {"scene": scene}


@pytest.fixture
def data() -> LatentClips:
    """Clip i goes from scene i mod 4 to the next in chunks 2 and 3, every fourth not at all; its latents'
    first channel tells clip and frame."""
    rng = np.random.default_rng(0)
    frames = CHUNKS * CHUNK_LATENTS
    latents = torch.from_numpy(rng.standard_normal((CLIPS, 3, frames, 4, 4)))
    latents[:, 0] = (torch.arange(CLIPS)[:, None] * frames + torch.arange(frames))[..., None, None]
    switches = np.arange(CLIPS)[:, None] % 4 > 0
    chunk = np.arange(CHUNKS)
    return LatentClips(
        latents=latents.half(),
        object_cells=torch.from_numpy(rng.random((CLIPS, frames, 4, 4)) < 0.4),
        spec_index=(switches & (chunk >= 2)).astype(np.int64),
        settled=~(switches & ((chunk == 2) | (chunk == 3))),
        specs=[[spec(i % 4)] + [spec((i + 1) % 4)] * (i % 4 > 0) for i in range(CLIPS)],
        training=range(CLIPS - 2),
        held_out=range(CLIPS - 2, CLIPS),
    )


@pytest.fixture
def encoder() -> text.AttributeEncoder:
    torch.manual_seed(0)
    return text.AttributeEncoder().eval()


@pytest.fixture(autouse=True)
def plain_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caption is its scene's name."""
    monkeypatch.setattr(captions, "compose", lambda said, rng: (SCENES[said["scene"]], said))


def batches(data: LatentClips, encoder: text.AttributeEncoder, window: Window, dropout: float) -> list[Batch]:
    rng = np.random.default_rng(0)
    return [draw_batch(data, data.training, window, 4, encoder, rng, dropout) for _ in range(20)]


def places(batch: Batch) -> list[tuple[int, int]]:
    """Clip and first chunk of each window, as the latents tell."""
    numbers = batch.clean[:, 0, :, 0, 0].long()
    assert torch.equal(numbers, numbers[:, :1] + torch.arange(numbers.shape[1]))
    frames = [divmod(number, CHUNKS * CHUNK_LATENTS) for number in numbers[:, 0].tolist()]
    assert all(frame % CHUNK_LATENTS == 0 for _, frame in frames)
    return [(clip, frame // CHUNK_LATENTS) for clip, frame in frames]


def starts(data: LatentClips, encoder: text.AttributeEncoder, window: Window) -> set[tuple[int, int]]:
    return {place for batch in batches(data, encoder, window, 0.0) for place in places(batch)}


def test_a_window_without_context_never_begins_in_a_transition(
    data: LatentClips, encoder: text.AttributeEncoder
) -> None:
    everywhere = {(clip, start) for clip in data.training for start in range(CHUNKS - 1)}
    settled = {(clip, start) for clip, start in everywhere if data.settled[clip, start]}
    assert len(settled) == len(everywhere) - 2 * 4
    assert starts(data, encoder, START) == settled
    assert starts(data, encoder, CONTEXT) == {(clip, start) for clip, start in everywhere if start < 4}


@pytest.mark.parametrize("window", [CONTEXT, START])
def test_mix_and_cells_follow_the_clip(
    data: LatentClips, encoder: text.AttributeEncoder, window: Window
) -> None:
    chunks = window.chunks
    for batch in batches(data, encoder, window, 0.0):
        for row, (clip, start) in enumerate(places(batch)):
            captions_in_force = data.spec_index[clip, start : start + chunks].repeat(CHUNK_LATENTS)
            assert batch.mix[row].tolist() == np.eye(2)[captions_in_force].tolist()
            latents = slice(start * CHUNK_LATENTS, (start + chunks) * CHUNK_LATENTS)
            assert torch.equal(batch.clean[row], data.latents[clip, :, latents].float())
            assert torch.equal(batch.object_cells[row], data.object_cells[clip, latents])


@pytest.mark.parametrize("chunks", [1, 2, 3, 4])
def test_every_batch_holds_about_as_many_latents(
    data: LatentClips, encoder: text.AttributeEncoder, chunks: int
) -> None:
    window = Window("uniform", 0, chunks, False)
    batch = draw_batch(data, data.training, window, 4, encoder, np.random.default_rng(0), 0.0)
    assert batch.clean.shape == (round(20 / chunks), 3, chunks * CHUNK_LATENTS, 4, 4)


@pytest.mark.parametrize(("dropout", "dropped"), [(0.0, {False}), (0.5, {False, True}), (1.0, {True})])
def test_a_dropped_caption_is_the_null_prompt_before_and_after_the_switch(
    data: LatentClips, encoder: text.AttributeEncoder, dropout: float, dropped: set[bool]
) -> None:
    with torch.inference_mode():
        scenes, null = encoder(text.tokenize(SCENES)), encoder(text.tokenize([""]))
    seen = set()
    for batch in batches(data, encoder, CONTEXT, dropout):
        for tokens, (clip, _) in zip(batch.tokens, places(batch), strict=True):
            after = (clip + (clip % 4 > 0)) % 4
            drop = torch.allclose(tokens, null.expand(2, -1, -1), atol=1e-6)
            torch.testing.assert_close(tokens, null.expand(2, -1, -1) if drop else scenes[[clip % 4, after]])
            seen.add(drop)
    assert seen == dropped


def test_cells_that_the_object_touches() -> None:
    """Cells of 8 px, over the four frames of a latent: an edge on a cell's border doesn't touch it."""
    box = np.zeros((1, 12, 4), np.float32)
    box[0, 0] = (8, 8, 16, 16)
    box[0, 3] = (15.5, 0, 24.5, 7)
    box[0, 8] = (-30, 60, 200, 90)
    box[0, 9] = (-20, 8, -1, 16)
    cells = denoiser._object_cells(box)
    assert cells.shape == (1, 3, 8, 12)
    assert cells[0, 0].nonzero().tolist() == [[0, 1], [0, 2], [0, 3], [1, 1]]
    assert not cells[0, 1].any()
    assert cells[0, 2].nonzero().tolist() == [[7, column] for column in range(12)]


def test_latent_clips_know_a_chunk_by_its_first_frame() -> None:
    frames = np.arange(64)
    clips = Clips(
        frames=np.zeros((1, 64, 0, 0, 3), np.uint8),
        box=np.zeros((1, 64, 4), np.float32),
        spec_index=(frames >= 32)[None].astype(np.int64),
        settled=((frames < 32) | (frames >= 49))[None],
        specs=[[spec(0), spec(1)]],
    )
    latent = LatentClips.of(clips, torch.ones(1, 3, 16, 4, 4))
    assert latent.latents.dtype == torch.float16
    assert latent.spec_index.tolist() == [[0, 0, 1, 1]]
    assert latent.settled.tolist() == [[True, True, False, False]]


def hand_batch() -> Batch:
    """One sample of two latents of 1 x 2 cells, the first clean context, the object in the last cell."""
    return Batch(
        clean=torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 2, 1, 2),
        object_cells=torch.tensor([[False, True], [False, True]]).view(1, 2, 1, 2),
        times=torch.tensor([[0.0, 0.25]]),
        counts=torch.tensor([[False, True]]),
        tokens=torch.zeros(1, 2, 7, text.WIDTH),
        mix=torch.ones(1, 2, 2) / 2,
    )


def test_the_loss_counts_the_object_more_and_context_not_at_all() -> None:
    error = torch.tensor([[100.0, 100.0], [1.0, 5.0]]).view(1, 2, 1, 2).requires_grad_()
    loss = weighted_loss(error, hand_batch())
    weight = 1 + OBJECT_WEIGHT
    assert loss.item() == pytest.approx((1 + 5 * weight) / (1 + weight))
    loss.backward()
    expected = torch.tensor([[0, 0], [1, weight]]) / (1 + weight)
    torch.testing.assert_close(error.grad, expected.view(1, 2, 1, 2))


def test_the_network_is_asked_for_the_velocity_of_rectified_flow() -> None:
    batch, noise = hand_batch(), torch.tensor([[9.0, 8.0], [7.0, 0.0]]).view(1, 1, 2, 1, 2)
    shown: list[Tensor] = []

    class Straight(nn.Module):
        def forward(self, x: Tensor, t: Tensor, tokens: Tensor, mix: Tensor) -> Tensor:
            shown.append(x)
            return noise - batch.clean + 2

    assert velocity_error(Straight(), batch, noise).unique().tolist() == [4.0]
    assert shown[0].flatten().tolist() == [1.0, 2.0, 0.75 * 3 + 0.25 * 7, 0.75 * 4]


def test_context_is_shown_clean(data: LatentClips, encoder: text.AttributeEncoder) -> None:
    for batch in batches(data, encoder, CONTEXT, 0.1):
        assert not batch.times[:, :CHUNK_LATENTS].any()
        assert not batch.counts[:, :CHUNK_LATENTS].any()
        assert batch.counts[:, CHUNK_LATENTS:].all()


def test_the_rate_warms_up_stays_and_cools_down() -> None:
    recipe = Recipe(100, 0, 40, 1, 0, 1, lr=2.0, warmup_steps=10)
    assert [recipe.rate(step) for step in (0, 4, 9, 10, 60, 70, 80, 99)] == [0.2, 1, 2, 2, 2, 1.5, 1, 0.05]
    assert replace(recipe, steps=1000, cooldown_steps=500).rate(999) == 2 * 0.01


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    data: LatentClips, encoder: text.AttributeEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denoiser, "SIZE", SIZE)
    recipe = Recipe(5, 1, 2, 1, 0, 1, checkpoint_steps=2)

    def train(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        train_denoiser(data, encoder, folder, recipe, 0, lambda line: None)

    train(tmp_path / "whole")
    losses: list[Tensor] = []

    def stopping(error: Tensor, batch: Batch) -> Tensor:
        losses.append(error)
        if len(losses) == 4:
            raise KeyboardInterrupt
        return weighted_loss(error, batch)

    with monkeypatch.context() as patch:
        patch.setattr(denoiser, "weighted_loss", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "stopped")
    assert torch.load(tmp_path / "stopped" / "checkpoint.pt", weights_only=True)["step"] == 2
    train(tmp_path / "stopped")
    whole, stopped = (load_file(tmp_path / run / "denoiser.safetensors") for run in ("whole", "stopped"))
    assert whole.keys() == stopped.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, stopped[name]), name
    assert len((tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()) == 3


def one_of_two(rank: int, folder: Path) -> None:
    """A process whose gradients are 1 and, in the first process only, 4."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    model = nn.Linear(3, 2)
    model.weight.grad = torch.full((2, 3), 1.0 + rank)
    model.bias.grad = None if rank else torch.tensor([4.0, 6.0])
    average_gradients(model, 2)
    torch.save([p.grad for p in model.parameters()], folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_processes_share_the_mean_of_their_gradients(tmp_path: Path) -> None:
    spawn(one_of_two, (tmp_path,), 2)
    for rank in (0, 1):
        weight, bias = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert weight.tolist() == [[1.5] * 3] * 2
        assert bias.tolist() == [2.0, 3.0]
