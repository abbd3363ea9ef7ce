"""How strong diorama is, in numbers: `python -m longvid.training.strength OUT [--model FOLDER]`.

    OUT/films/asked-00.mp4 ...   a minute of six prompts each
    OUT/films/long-00.mp4 ...    ten minutes of one prompt
    OUT/report.json              every figure
    OUT/README.md                the same as tables, for the model's card
    OUT/sheet.png                a film a row: two frames of each prompt, twelve of ten minutes

Clips, prompts and noise come of a seed that no training uses, and prompts are in held-out words. Films that
are there are not rendered again. Seams are measured on frames as they are decoded, all else on those of the
MP4, as they are watched; how much moves, in the size in which the judge looks, in films as in the world.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from longvid import devices, digests
from longvid.backends import Runtime
from longvid.backends.diorama import FILES, NAME, WEIGHTS, canvas, captions, world
from longvid.backends.diorama.captions import VALUES, Spec
from longvid.backends.diorama.codec import LATENT_FRAMES
from longvid.backends.diorama.dataset import SWITCH_SHARE, object_weights
from longvid.backends.diorama.film import DioramaFilm
from longvid.errors import RenderError
from longvid.evaluation import frames as clean
from longvid.evaluation.appearance import UNITS, appearance, difference, luma
from longvid.evaluation.judge import CLIP_FRAMES, SETTLING_FRAMES, Judge, small
from longvid.evaluation.processes import Here, environment, threads_each
from longvid.evaluation.provenance import Provenance, provenance
from longvid.evaluation.seams import seam_ratio
from longvid.exits import reported
from longvid.files import replacing, write
from longvid.locks import refused
from longvid.training import figures
from longvid.training.figures import COUNTED, Followed, mean, psnr
from longvid.training.reconstruction import as_video
from longvid.video import post, sheet, source

SHOTS, SHOT_SECONDS = 6, 10
LONG_SECONDS, WINDOW_SECONDS = 600, 10
CODEC_CHUNKS = 6
"""Of a clip that the codec gives back: 8 s."""
WORLDS = 4
"""Draws of the world that a prompt's film is compared with."""
CODEC, SPECS, WORDS, WORLD, LONG = range(5)
"""What a generator draws for."""
FRAME_PX = 96
"""Width of a frame on the sheet."""


# What is asked for


@dataclass(frozen=True)
class Asked:
    """A prompt for a world of this ``spec``; ``said``: what of it the prompt names."""

    prompt: str
    spec: Spec
    said: Spec


def ask(spec: Spec, rng: np.random.Generator) -> Asked:
    """A caption of the spec in held-out words, that leaves nothing of it open: what is not COUNTED goes
    without saying in its first value."""
    while True:
        prompt, said = captions.compose_held_out(spec, rng)
        if all(said[name] == spec[name] or (name not in COUNTED and spec[name] == 0) for name in VALUES):
            return Asked(prompt, spec, said)


def ask_film(film: int, seed: int) -> list[Asked]:
    """A film's prompts. Every second film asks for the worlds of the one before in reverse, in other words:
    with what one begins the other ends, so that last against first compares like with like."""
    rng = np.random.default_rng((seed, SPECS, film // 2))
    specs = [world.draw_spec(rng) for _ in range(SHOTS)]
    words = np.random.default_rng((seed, WORDS, film))
    return [ask(spec, words) for spec in (specs[::-1] if film % 2 else specs)]


def ask_long(film: int, seed: int) -> list[Asked]:
    """One prompt: with an object, which could fade, and for a time of day that stays."""
    rng = np.random.default_rng((seed, LONG, film))
    while True:
        spec = world.draw_spec(rng)
        if spec["shape"] is not None and spec["time"] != world.PASSING:
            return [ask(spec, rng)]


def timeline(asked: Sequence[Asked], seconds: int, seed: int) -> dict[str, Any]:
    """A film of these prompts, each for so long."""
    shots = [{"prompt": each.prompt, "seconds": seconds} for each in asked]
    return {"size": [canvas.WIDTH_PX, canvas.HEIGHT_PX], "seed": seed, "shots": shots}


def render(timelines: Mapping[Path, Mapping[str, Any]], model: str, jobs: int) -> None:
    """The films that are not there yet, on the CPU, so many at a time. Raises RenderError with the last line
    of a render."""
    run = Here(environment(threads_each(jobs)))

    def one(film: Path) -> None:
        written = film.with_suffix(".yaml")
        write(written, json.dumps(timelines[film], indent=1).encode())
        ran = run(
            ("render", str(written), "--output", str(film), "--model", model, "--device", "cpu", "--quiet")
        )
        if ran.code:
            raise RenderError(f"{film}: {ran.last_line}")

    with ThreadPoolExecutor(jobs) as pool:
        try:
            deque(pool.map(one, timelines), maxlen=0)
        except BaseException:
            run.stop()
            raise


# What is seen


@torch.inference_mode()
def measure_codec(folder: Path, clips: int, seed: int) -> dict[str, Any]:
    """PSNR in dB of held-out clips as the codec gives them back, ``plain`` and ``eased`` as films are: the
    ``mean``, the ``worst`` clip, and the mean inside ``objects``' boxes; and the mean of clips' seam ratios
    between latents, of either and of the ``world`` itself. In float32."""
    codec = DioramaFilm.load(folder, Runtime(torch.device("cpu"), torch.float32)).codec()
    whole: dict[str, list[float]] = {"plain": [], "eased": []}
    objects: dict[str, list[float]] = {"plain": [], "eased": []}
    seams: dict[str, list[float | None]] = {"world": [], "plain": [], "eased": []}
    for clip in range(clips):
        drawn = world.draw_clip(np.random.default_rng((seed, CODEC, clip)), CODEC_CHUNKS, SWITCH_SHARE)
        latents = codec.encode(as_video(torch.from_numpy(drawn.frames))[None])
        decoded = {"plain": codec.network.decode(latents), "eased": codec.decode(latents, {})[0]}
        inside = object_weights(drawn.boxes) > 1
        seams["world"].append(between_latents(changes(drawn.frames)))
        for how, video in decoded.items():
            shown = post.finish(video[0])
            seams[how].append(between_latents(changes(shown)))
            whole[how].append(psnr(shown, drawn.frames))
            if inside.any():
                objects[how].append(psnr(shown, drawn.frames, inside))
    return {
        "clips": clips,
        "psnr": {
            how: {"mean": fmean(found), "worst": min(found), "objects": mean(objects[how])}
            for how, found in whole.items()
        },
        "seams": {how: mean(found) for how, found in seams.items()},
    }


def changes(frames: Iterable[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Mean absolute difference of each frame from the one before, of 255; the first nan."""
    return np.array([np.nan, *(difference(before, after) for before, after in pairwise(frames))])


def between_latents(change: NDArray[np.float64], left_out: frozenset[int] = frozenset()) -> float | None:
    """The seam ratio, where every latent is as long."""
    return seam_ratio(change, range(LATENT_FRAMES, len(change), LATENT_FRAMES), left_out)


@dataclass(frozen=True)
class Seen:
    """Of each shot of a film, behind its settling: ``change``, the mean from frame to frame, of 255, and
    ``clips``, what the judge names in each two seconds. ``switches``: the change at each new prompt, over the
    film's median, None where it stands still. ``seams``: between ``latents``, to the change inside them, and
    between ``chunks``, to that between other latents. ``compute_seconds``: for the whole film."""

    change: list[float]
    switches: list[float | None]
    clips: list[list[Spec]]
    seams: dict[str, float | None]
    compute_seconds: float
    threads: int


def look(film: Path, judge: Judge) -> Seen:
    """At a film that was rendered here."""
    found = source.probe(film)
    made = provenance(found)
    assert made.take is not None and made.cost is not None, film
    watched = [small(frame) for frame in source.frames(found)]
    change = changes(watched)
    median = float(np.nanmedian(change))
    shots = [slice(shot.start_frame, shot.end_frame) for shot in made.shots]
    return Seen(
        change=[float(change[shot][SETTLING_FRAMES:].mean()) for shot in shots],
        switches=[float(change[shot.start]) / median if median else None for shot in shots[1:]],
        clips=[list(judge.look(watched[shot]))[-(-SETTLING_FRAMES // CLIP_FRAMES) :] for shot in shots],
        seams=film_seams(made),
        compute_seconds=made.cost.seconds * float(found.seconds),
        threads=made.take.run["threads"],
    )


def film_seams(made: Provenance) -> dict[str, float | None]:
    """Of frames as they are decoded, but for where another prompt begins."""
    assert made.take is not None and made.borders is not None
    cpu = torch.device("cpu")
    change = changes(clean.from_latents(made.take, clean.codec_of(made.take, cpu), cpu))
    inside = {frame for frame in range(len(change)) if frame % LATENT_FRAMES}
    return {
        "latents": between_latents(change, made.planned),
        "chunks": seam_ratio(change, made.borders, made.planned | inside),
    }


def world_change(spec: Spec, numbers: Sequence[int]) -> float:
    """The world's own change from frame to frame, as long as a shot is settled; the mean of several draws."""
    rng = np.random.default_rng(numbers)
    frames = SHOT_SECONDS * world.FPS - SETTLING_FRAMES
    drawn = (world.render(world.Story((spec,)), frames, rng).frames for _ in range(WORLDS))
    return fmean(float(np.nanmean(changes(map(small, each)))) for each in drawn)


def drift(film: Path) -> dict[str, Any]:
    """Of how its frames look (`appearance.UNITS`), and how much they change from one to the next, once it has
    settled."""
    looks = []

    def watched() -> Iterator[NDArray[np.uint8]]:
        for pixels in source.frames(source.probe(film)):
            looks.append(appearance(pixels, luma(pixels)))
            yield small(pixels)

    change = changes(watched())
    statistics = {**dict(zip(UNITS, np.array(looks).T, strict=True)), "change": change}
    for values in statistics.values():
        values[:SETTLING_FRAMES] = np.nan  # what is still on its way is no spread
    return figures.measure_drift(statistics, WINDOW_SECONDS * world.FPS)


def measure_films(asked: Mapping[Path, Sequence[Asked]], judge: Judge, seed: int) -> dict[str, Any]:
    """The films of `ask_film`, which have been rendered, in order."""
    seen, films, worlds = [], [], list[float]()
    for number, (film, prompts) in enumerate(asked.items()):
        if number % 2:
            worlds.reverse()  # of the film before
        else:
            worlds = [world_change(each.spec, (seed, WORLD, number, i)) for i, each in enumerate(prompts)]
        one = look(film, judge)
        said = [each.said for each in prompts]
        films.append([Followed(*row) for row in zip(said, one.clips, one.change, worlds, strict=True)])
        seen.append(one)
    return {
        "seams": {kind: mean(one.seams[kind] for one in seen) for kind in ("latents", "chunks")},
        "following": figures.measure_following(films),
        "motion": figures.measure_motion(films),
        "switches": [one.switches for one in seen],
        "compute": {
            "seconds": fmean(one.compute_seconds for one in seen),
            "threads": max(one.threads for one in seen),
        },
        "prompts": [
            [
                {"prompt": each.prompt, "shares": one.shares, "change": one.change, "world": one.world_change}
                for each, one in zip(prompts, film, strict=True)
            ]
            for prompts, film in zip(asked.values(), films, strict=True)
        ],
    }


def main(
    out: Annotated[Path, typer.Argument(help="Folder for films, report and sheet.")],
    model: Annotated[Path | None, typer.Option(help="A folder of weights, in place of longvid's.")] = None,
    films: Annotated[int, typer.Option(min=2, help="Minutes of six prompts; an even number.")] = 16,
    long_films: Annotated[int, typer.Option(min=1, help="Films of ten minutes.")] = 2,
    clips: Annotated[int, typer.Option(min=1, help="Clips that the codec gives back.")] = 48,
    seed: Annotated[int, typer.Option(min=0, help="One that no training uses.")] = 2026,
    jobs: Annotated[int, typer.Option(min=1, help="Films at a time, which share the cores.")] = 1,
) -> None:
    """Measure diorama's codec and films; write report.json, README.md and sheet.png. On the CPU."""
    if films % 2:
        raise typer.BadParameter("they come two by two; give an even number", param_hint="--films")
    devices.keep_memory()
    judge = Judge.load()
    folder = out / "films"
    with refused(folder, "give another folder as OUT"):
        folder.mkdir(parents=True, exist_ok=True)
    asked = {folder / f"asked-{film:02}.mp4": ask_film(film, seed) for film in range(films)}
    long = {folder / f"long-{film:02}.mp4": ask_long(film, seed) for film in range(long_films)}
    kinds = ((asked, SHOT_SECONDS), (long, LONG_SECONDS))
    timelines = {
        film: timeline(each, seconds, seed + number)
        for kind, seconds in kinds
        for number, (film, each) in enumerate(kind.items())
    }
    render(timelines, NAME if model is None else str(model.absolute()), jobs)
    weights = model or WEIGHTS
    same = digests.sha256(weights / FILES[0]).startswith(judge.accuracy.codec)
    report = {
        "films": films,
        "seed": seed,
        "judge": dict(judge.accuracy.decoded) if same else {},  # who was measured by one codec's clips
        "codec": measure_codec(weights, clips, seed),
        **measure_films(asked, judge, seed),
        "drift": [{"prompt": each[0].prompt, "statistics": drift(film)} for film, each in long.items()],
    }
    write(out / "report.json", (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
    write(out / "README.md", figures.card(report).encode())
    strips = [
        sheet.strip(film, halves(len(each) * seconds), FRAME_PX)
        for kind, seconds in kinds
        for film, each in kind.items()
    ]
    with replacing(out / "sheet.png") as partial:
        sheet.write_png(strips, partial)
    typer.echo(figures.card(report), nl=False)


def halves(seconds: int) -> list[float]:
    """The middles of both halves of each of a film's prompts, in seconds; of one prompt's film as many."""
    return [seconds * (2 * place + 1) / (4 * SHOTS) for place in range(2 * SHOTS)]


if __name__ == "__main__":
    with reported():
        typer.run(main)
