"""Looking at diorama: films of three random prompts each, their contact sheet, and how smooth they flow.

`python -m longvid.training.samples OUT [--weights DIR]`. The prompts are drawn from a seed that no training
clip uses, and each says scene, time of day and weather, so that a person can count what was obeyed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from longvid.backends.diorama import captions, world
from longvid.rendering import render
from longvid.video import reader, sheet

SHOT_CHUNKS, SHOTS = 5, 3
SHOT_SECONDS = Fraction(SHOT_CHUNKS * world.CHUNK_FRAMES, world.FPS)
COUNTED = ("scene", "time", "weather")


def draw_prompt(rng: np.random.Generator) -> str:
    """A caption that names scene, time and weather."""
    while True:
        prompt, said = captions.compose(world.draw_spec(rng), rng)
        if all(said[name] is not None for name in COUNTED):
            return prompt


def flow(pictures: Iterable[NDArray[np.uint8]]) -> dict[str, float]:
    """Frame differences (mean absolute, 0..255) at the switches of prompt and in the 2 s after them, the
    largest of each over the film's median difference: at 1 a switch is no step at all."""
    steps = np.array([np.abs(b.astype(np.int16) - a).mean() for a, b in pairwise(pictures)])
    switches = [SHOT_CHUNKS * world.CHUNK_FRAMES * shot for shot in range(1, SHOTS)]
    median = float(np.median(steps))
    return {
        "at_switch": round(float(max(steps[s - 1] for s in switches)) / median, 2),
        "after_switch": round(
            float(max(steps[s - 1 : s + 2 * world.FPS].max() for s in switches)) / median, 2
        ),
        "median_difference": round(median, 3),
    }


def main(
    out: Annotated[Path, typer.Argument(help="Folder for the films and the sheet.")],
    weights: Annotated[str, typer.Option(help="Model: a registered name or a folder.")] = "diorama",
    films: Annotated[int, typer.Option(min=1)] = 12,
    seed: int = 1000,
    steps: int | None = None,
    guidance: float | None = None,
) -> None:
    """Render films of three prompts; write sheet.png (four frames a shot, a film a row) and films.json."""
    out.mkdir(parents=True, exist_ok=True)
    rows, report = [], []
    for i in range(films):
        rng = np.random.default_rng((seed, i))
        prompts = [draw_prompt(rng) for _ in range(SHOTS)]
        timeline = {"seed": i, "shots": [{"prompt": p, "seconds": float(SHOT_SECONDS)} for p in prompts]}
        timeline |= {"guidance": guidance} if guidance is not None else {}
        path = out / f"film-{i:02}.mp4"
        render(timeline, path, model=weights, steps=steps, overwrite=True, fresh=True)
        offsets = [0.2 * float(SHOT_SECONDS), 0.45 * float(SHOT_SECONDS), 0.7 * float(SHOT_SECONDS)]
        offsets.append(0.95 * float(SHOT_SECONDS))
        times = [shot * float(SHOT_SECONDS) + offset for shot in range(SHOTS) for offset in offsets]
        rows.append(sheet.strip(path, times, world.WIDTH_PX))
        report.append(
            {"film": path.name, "prompts": prompts} | flow(pixels for _, pixels in reader.frames(path))
        )
        typer.echo(json.dumps(report[-1]))
    sheet.write_png(rows, out / "sheet.png")
    (out / "films.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    typer.run(main)
