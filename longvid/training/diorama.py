"""Making diorama's weights from nothing: `python -m longvid.training.diorama OUT`.

Five steps, each left out when its file is there already, so that a stopped run goes on: clips of the world,
the codec, its decoder once more, the text encoder, the denoiser; then OUT/weights holds what ships.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Annotated

import torch
import torch.distributed as dist
import typer
from safetensors.torch import load_file, save_file
from torch.multiprocessing.spawn import spawn

from longvid.devices import keep_memory
from longvid.plugins import FOLDER_FILE
from longvid.training.clips import Clips, load_clips, render_clips
from longvid.training.codec import encode, load_codec, measure_codec, train_codec, train_decoder
from longvid.training.denoiser import SIZE, LatentClips, Recipe, load_encoder, train_denoiser, train_text


def say(line: str) -> None:
    typer.echo(line, err=True)


def train_in_process(rank: int, folder: Path, recipe: Recipe, port: int) -> None:
    keep_memory()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // recipe.processes))
    if recipe.processes > 1:
        dist.init_process_group(
            "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=recipe.processes
        )
    latents = load_file(folder / "latents.safetensors")["latents"]
    data = LatentClips.of(load_clips(folder / "clips"), latents)
    train_denoiser(data, load_encoder(folder / "text.safetensors"), folder, recipe, rank, say)
    if recipe.processes > 1:
        dist.destroy_process_group()


def prepare(
    folder: Path, clips: int, codec_steps: int, decoder_steps: int, text_steps: int, seed: int, processes: int
) -> Clips:
    """Clips, codec, latents and text encoder, each made unless it is there."""
    made = (folder / "clips" / "specs.json").exists()
    world = load_clips(folder / "clips") if made else render_clips(folder / "clips", clips, seed, processes)
    if not (folder / "autoencoder.safetensors").exists():
        train_codec(world, folder / "autoencoder.safetensors", codec_steps, seed, report=say)
    if not (folder / "latents.safetensors").exists():
        latents = encode(load_codec(folder / "autoencoder.safetensors"), world, range(len(world.specs)))
        save_file({"latents": latents.half().contiguous()}, folder / "latents.safetensors")
    if not (folder / "codec.safetensors").exists():
        codec = load_codec(folder / "autoencoder.safetensors")
        latents = load_file(folder / "latents.safetensors")["latents"]
        train_decoder(
            codec, world, latents, folder / "codec.safetensors", decoder_steps, seed + 1, report=say
        )
        figures = measure_codec(codec, world)
        say(json.dumps(figures))
        (folder / "codec.json").write_text(json.dumps(figures))
    if not (folder / "text.safetensors").exists():
        train_text(folder / "text.safetensors", text_steps, seed, say)
    return world


def package(folder: Path) -> None:
    """Half-precision copies of the three networks and the backend's name, as the package ships them."""
    weights = folder / "weights"
    weights.mkdir(exist_ok=True)
    for name, metadata in (("codec", None), ("text", None), ("denoiser", SIZE.to_metadata())):
        tensors = load_file(folder / f"{name}.safetensors")
        save_file(
            {k: v.half().contiguous() for k, v in tensors.items()}, weights / f"{name}.safetensors", metadata
        )
    (weights / FOLDER_FILE).write_text(json.dumps({"backend": "diorama"}) + "\n")
    say(f"{weights}: {sum(f.stat().st_size for f in weights.iterdir()) / 1e6:.1f} MB")


def main(
    out: Annotated[Path, typer.Argument(help="Folder for clips, checkpoints and weights (about 6 GB).")],
    clips: Annotated[int, typer.Option(min=20, help="Clips of 8 s to render; 5 % are held out.")] = 3200,
    codec_steps: Annotated[int, typer.Option(min=1)] = 2400,
    decoder_steps: Annotated[int, typer.Option(min=1)] = 2600,
    text_steps: Annotated[int, typer.Option(min=1)] = 1000,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of the denoiser.")] = 11500,
    short_steps: Annotated[
        int, typer.Option(min=0, help="How many of them, at first, are on short windows.")
    ] = 2000,
    cooldown_steps: Annotated[
        int, typer.Option(min=1, help="How many of them, at last, lower the rate.")
    ] = 4000,
    batch: Annotated[int, typer.Option(min=1, help="Full windows a step and process.")] = 4,
    seed: int = 0,
    processes: Annotated[int, typer.Option(min=1, help="Processes that share the steps.")] = 2,
) -> None:
    """Render the world, train codec, text encoder and denoiser, and write the weights that longvid ships."""
    out.mkdir(parents=True, exist_ok=True)
    keep_memory()
    torch.set_num_threads(os.cpu_count() or 1)
    prepare(out, clips, codec_steps, decoder_steps, text_steps, seed, processes)
    recipe = Recipe(steps, short_steps, cooldown_steps, batch, seed, processes)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if processes == 1:
        train_in_process(0, out, recipe, port)
    else:
        spawn(train_in_process, (out, recipe, port), processes)
    package(out)


if __name__ == "__main__":
    typer.run(main)
