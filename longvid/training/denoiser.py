"""Training diorama's text encoder and denoiser on the latents of its world."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from einops import rearrange, reduce
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from longvid.backends.diorama import captions, codec, text, world
from longvid.backends.diorama.denoiser import Denoiser, DenoiserSize
from longvid.training.average import copy_weights, update_average
from longvid.training.clips import Clips
from longvid.training.muon import Muon
from longvid.training.windows import SHARES, Window, draw_times, draw_window

CHUNK_LATENTS, WINDOW_UNITS, STEPS = 4, 4, 16
OBJECT_WEIGHT = 3.0
"""A latent cell that the object touches counts 1 + this."""
CAPTION_DROPOUT = 0.1
SIZE = DenoiserSize(
    latent_channels=codec.CHANNELS,
    latent_height=world.HEIGHT_PX // codec.PIXEL_STRIDE,
    latent_width=world.WIDTH_PX // codec.PIXEL_STRIDE,
    conv=96,
    width=192,
    depth=6,
    heads=3,
    text_width=text.WIDTH,
)


def train_text(out: Path, steps: int, seed: int, report: Callable[[str], None]) -> text.AttributeEncoder:
    """Teach the encoder to name what random captions say; write its weights."""
    torch.manual_seed(seed)
    encoder, rng = text.AttributeEncoder(), np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps, pct_start=0.1)
    for step in range(steps):
        loss = torch.stack([nn.functional.cross_entropy(x, y) for x, y in _named(encoder, rng, 256)]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 200 == 0 or step + 1 == steps:
            report(f"text: step {step + 1} of {steps}, loss {loss.item():.4f}")
    with torch.inference_mode():
        right = [(x.argmax(-1) == y).float().mean().item() for x, y in _named(encoder.eval(), rng, 4000)]
    report(
        "text: right on fresh captions "
        + ", ".join(f"{n} {r:.4f}" for n, r in zip(captions.VALUES, right, strict=True))
    )
    save_file(encoder.state_dict(), out)
    return encoder


def _named(
    encoder: text.AttributeEncoder, rng: np.random.Generator, count: int
) -> list[tuple[Tensor, Tensor]]:
    """Logits and truth of each attribute over fresh captions."""
    pairs = [
        captions.fragment(rng) if rng.random() < 0.2 else captions.compose(world.draw_spec(rng), rng)
        for _ in range(count)
    ]
    truth = [
        [len(v) if (said := spec[n]) is None else said for n, v in captions.VALUES.items()]
        for _, spec in pairs
    ]
    logits = encoder.logits(text.tokenize([caption for caption, _ in pairs]))
    return list(zip(logits, torch.tensor(truth).T, strict=True))


@dataclass(frozen=True)
class LatentClips:
    """latents [n c f h w] half; object_cells [n f h w] bool; spec_index and settled [n k], as they are at a
    chunk's first frame."""

    latents: Tensor
    object_cells: Tensor
    spec_index: NDArray[np.int64]
    settled: NDArray[np.bool_]
    specs: list[list[captions.Spec]]
    training: range
    held_out: range

    @staticmethod
    def of(clips: Clips, latents: Tensor) -> LatentClips:
        first = slice(None, None, world.CHUNK_FRAMES)
        return LatentClips(
            latents.half(),
            _object_cells(clips.box),
            np.asarray(clips.spec_index[:, first]),
            np.asarray(clips.settled[:, first]),
            clips.specs,
            clips.training,
            clips.held_out,
        )


def _object_cells(box: NDArray[np.float32]) -> Tensor:
    """Latent cells [n f h w] that the object's box [n frames 4] touches in any of a latent's frames."""
    groups = rearrange(np.asarray(box), "n (f t) edge -> edge n f t 1 1", t=codec.LATENT_FRAMES)
    left, top, right, bottom = groups
    x = np.arange(SIZE.latent_width) * codec.PIXEL_STRIDE
    y = np.arange(SIZE.latent_height)[:, None] * codec.PIXEL_STRIDE
    inside = (x + codec.PIXEL_STRIDE > left) & (x < right) & (y + codec.PIXEL_STRIDE > top) & (y < bottom)
    return torch.from_numpy(inside.any(2))


@dataclass(frozen=True)
class Batch:
    clean: Tensor
    """[b c f h w]"""
    object_cells: Tensor
    """[b f h w]"""
    times: Tensor
    """[b f]"""
    counts: Tensor
    """[b f], False for clean context"""
    tokens: Tensor
    """[b 2 a v], a clip's captions before and after its transition"""
    mix: Tensor
    """[b f 2]"""


def draw_batch(
    data: LatentClips,
    clips: range,
    window: Window,
    size: int,
    encoder: text.AttributeEncoder,
    rng: np.random.Generator,
    dropout: float,
) -> Batch:
    """About as many latents in every batch: `size` full windows with context.

    A window without context does not begin in a transition: what came before could not be known.
    """
    k = window.chunks
    count = max(1, round(size * (WINDOW_UNITS + 1) / k))
    places: list[tuple[int, int]] = []
    while len(places) < count:
        clip, start = clips[rng.integers(len(clips))], int(rng.integers(data.spec_index.shape[1] - k + 1))
        if window.context or data.settled[clip, start]:
            places.append((clip, start))
    said: list[str] = []
    mix = torch.zeros(count, k, 2)
    for row, (clip, start) in enumerate(places):
        drop = rng.random() < dropout
        specs = data.specs[clip]
        said += ["" if drop else captions.compose(specs[min(i, len(specs) - 1)], rng)[0] for i in range(2)]
        mix[row, range(k), data.spec_index[clip, start : start + k].tolist()] = 1.0
    with torch.inference_mode():
        tokens = rearrange(encoder(text.tokenize(said)), "(b p) a v -> b p a v", p=2).clone()
    spans = [(clip, slice(start * CHUNK_LATENTS, (start + k) * CHUNK_LATENTS)) for clip, start in places]
    times, counts = draw_times(rng, window, count, WINDOW_UNITS, CHUNK_LATENTS, STEPS)
    return Batch(
        torch.stack([data.latents[clip, :, span] for clip, span in spans]).float(),
        torch.stack([data.object_cells[clip, span] for clip, span in spans]),
        times,
        counts,
        tokens,
        mix.repeat_interleave(CHUNK_LATENTS, 1),
    )


def velocity_error(model: nn.Module, batch: Batch, noise: Tensor) -> Tensor:
    """Squared error of the velocity [b f h w], mean over channels; noise like batch.clean."""
    t = batch.times[:, None, :, None, None]
    with torch.autocast("cpu", torch.bfloat16):
        velocity: Tensor = model((1 - t) * batch.clean + t * noise, batch.times, batch.tokens, batch.mix)
    return (velocity.float() - (noise - batch.clean)).square().mean(1)


def weighted_loss(error: Tensor, batch: Batch) -> Tensor:
    """Mean of the error [b f h w] over what carries loss, the object's cells counting more."""
    weight = batch.counts[..., None, None] * (1 + OBJECT_WEIGHT * batch.object_cells)
    return (error * weight).sum() / weight.sum()


@dataclass(frozen=True)
class Recipe:
    """`short_steps` of the steps come first, on short windows without context, which teach the text and how a
    picture forms; the rate falls linearly over the last `cooldown_steps`. `batch` is full windows a process.
    A checkpoint and a line of figures are written every `checkpoint_steps` and at the end."""

    steps: int
    short_steps: int
    cooldown_steps: int
    batch: int
    seed: int
    processes: int
    lr: float = 3e-3
    warmup_steps: int = 30
    average: float = 0.998
    checkpoint_steps: int = 500

    def rate(self, step: int) -> float:
        left = (self.steps - step) / max(1, self.cooldown_steps)
        return self.lr * min(1.0, (step + 1) / self.warmup_steps) * min(1.0, max(0.01, left))


def optimizers(model: Denoiser, lr: float) -> list[torch.optim.Optimizer]:
    """Muon on the transformer's matrices and the convolutions, AdamW on the rest at 0.6 of the rate."""
    muon = [
        p
        for name, p in model.named_parameters()
        if p.ndim in (2, 4)
        and min(p.shape[:2]) >= 96
        and name.startswith(("blocks", "patch", "conv", "merge"))
    ]
    known = set(map(id, muon))
    rest = [p for p in model.parameters() if id(p) not in known]
    return [
        Muon(muon, lr=lr, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=0.6 * lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def short_window(rng: np.random.Generator) -> Window:
    return Window("uniform", 0, int(rng.choice([1, 2], p=[0.7, 0.3])), False)


def train_denoiser(
    data: LatentClips,
    encoder: text.AttributeEncoder,
    folder: Path,
    recipe: Recipe,
    rank: int,
    report: Callable[[str], None],
) -> None:
    """Train, going on from `folder`/checkpoint.pt where there is one; write `folder`/denoiser.safetensors.

    Each step's draws come from (seed, rank, step), so that a run that was stopped goes on as if it had not
    been. Every process draws the same kind of window, and gradients are averaged over them.
    """
    torch.manual_seed(recipe.seed)
    model = Denoiser(SIZE)
    opts = optimizers(model, recipe.lr)
    average = copy_weights(model)
    base = [[group["lr"] / recipe.lr for group in o.param_groups] for o in opts]
    begin, spent = 0, 0.0
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        average, begin, spent = saved["average"], saved["step"], saved["seconds"]
        for o, state in zip(opts, saved["optimizers"], strict=True):
            o.load_state_dict(state)
    clock, losses = time.monotonic() - spent, []
    for step in range(begin, recipe.steps):
        shared = np.random.default_rng((recipe.seed, step))
        rng = np.random.default_rng((recipe.seed, 1 + rank, step))
        short = step < recipe.short_steps
        window = short_window(shared) if short else draw_window(shared, WINDOW_UNITS, SHARES)
        batch = draw_batch(data, data.training, window, recipe.batch, encoder, rng, CAPTION_DROPOUT)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        noise = torch.randn(batch.clean.shape, generator=generator)
        loss = weighted_loss(velocity_error(model, batch, noise), batch)
        model.zero_grad()
        loss.backward()
        if recipe.processes > 1:
            average_gradients(model, recipe.processes)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o, shares in zip(opts, base, strict=True):
            for group, share in zip(o.param_groups, shares, strict=True):
                group["lr"] = recipe.rate(step) * share
            o.step()
        losses.append(loss.item())
        update_average(average, model, step, recipe.average)
        last = step + 1 == recipe.steps
        if rank == 0 and ((step + 1) % recipe.checkpoint_steps == 0 or last):
            seconds = time.monotonic() - clock
            figures = measure_denoiser(average, data, encoder)
            loss_mean = round(float(np.mean(losses[-200:])), 4)
            row = {"step": step + 1, "seconds": round(seconds), "loss": loss_mean} | figures
            with (folder / "metrics.jsonl").open("a") as lines:
                lines.write(json.dumps(row) + "\n")
            report(json.dumps(row))
            save_file(average, folder / "denoiser.safetensors", SIZE.to_metadata())
            partial = checkpoint.with_suffix(".partial")
            torch.save(
                {
                    "model": model.state_dict(),
                    "average": average,
                    "optimizers": [o.state_dict() for o in opts],
                    "step": step + 1,
                    "seconds": seconds,
                },
                partial,
            )
            partial.rename(checkpoint)


def average_gradients(model: nn.Module, processes: int) -> None:
    """Give every process the mean of all processes' gradients; one that a process lacks counts as 0."""
    parameters = list(model.parameters())
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= processes
    for p, gradient in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.grad = gradient.view_as(p)


CHECKS: dict[str, Window] = {
    "steady": Window("progressive", 0, WINDOW_UNITS, True),
    "start": Window("progressive", WINDOW_UNITS - 1, 1, False),
    "uniform": Window("uniform", 0, WINDOW_UNITS, False),
}


@torch.inference_mode()
def measure_denoiser(
    weights: dict[str, Tensor], data: LatentClips, encoder: text.AttributeEncoder
) -> dict[str, float]:
    """Unweighted velocity error on held-out clips, whole and on the object's cells, by kind of window; and
    the text check: the error at t = 0.95 without context under the right, another clip's and no caption."""
    model = Denoiser(SIZE).eval()
    model.load_state_dict(weights)
    figures: dict[str, float] = {}
    for name, window in CHECKS.items():
        rng, errors = np.random.default_rng(5), []
        for i in range(2):
            batch = draw_batch(data, data.held_out, window, 8, encoder, rng, 0.0)
            noise = torch.randn(batch.clean.shape, generator=torch.Generator().manual_seed(i))
            error = velocity_error(model, batch, noise)
            counts = batch.counts[..., None, None].expand_as(error)
            errors.append((error[counts].mean().item(), error[counts & batch.object_cells].mean().item()))
        whole, cells = np.mean(errors, 0)
        figures |= {name: round(float(whole), 4), f"{name}_object": round(float(cells), 4)}
    early = Window("uniform", 0, 2, False)
    batch = draw_batch(data, data.held_out, early, 16, encoder, np.random.default_rng(9), 0.0)
    batch = replace(batch, times=torch.full_like(batch.times, 0.95))
    noise = torch.randn(batch.clean.shape, generator=torch.Generator().manual_seed(9))
    null = encoder(text.tokenize([""]))[None].expand_as(batch.tokens)
    for name, tokens in (("right", batch.tokens), ("shuffled", batch.tokens.roll(1, 0)), ("null", null)):
        error = velocity_error(model, replace(batch, tokens=tokens), noise)
        figures[f"text_{name}"] = round(reduce(error, "b f h w -> ", "mean").item(), 4)
    return figures


def load_encoder(path: Path) -> text.AttributeEncoder:
    encoder = text.AttributeEncoder()
    encoder.load_state_dict(load_file(path))
    return encoder.eval()


def describe(recipe: Recipe) -> str:
    return json.dumps(asdict(recipe))
