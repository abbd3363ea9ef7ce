"""`longvid extend`: a clip, or a film, goes on."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from longvid.commands import options
from longvid.commands.render import end, named_loras, run
from longvid.errors import UserError
from longvid.starts import Audio, Fit, Handoff


def extend(
    clip: Annotated[Path, typer.Argument(help="A film of longvid's, or any other clip.", show_default=False)],
    seconds: Annotated[
        str | None, typer.Option(metavar="TIME", help="By how much: 60, 1m30s or 0:01:30.")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="What shall be seen. Left out: a film's last prompt; for other clips, no words."),
    ] = None,
    timeline: Annotated[
        Path | None, typer.Option(help="Shots to go on with, a YAML file, in place of --seconds.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The film. Left out: a film grows itself, NAME-extended.mp4 for a clip."
        ),
    ] = None,
    handoff: Annotated[
        Handoff,
        typer.Option(
            help="context: in front of new noise. noised: also carries the motion on, and makes "
            "the last seconds anew."
        ),
    ] = "context",
    native: Annotated[
        bool, typer.Option("--native", help="All in the model's size and rate, not the clip's.")
    ] = False,
    fit: Annotated[Fit, typer.Option(help="How the clip is brought to the model's shape.")] = "crop",
    tail_only: Annotated[
        bool, typer.Option("--tail-only", help="Write what is new, without the clip.")
    ] = False,
    audio: Annotated[Audio, typer.Option(help="What becomes of the clip's sound.")] = "keep",
    model: options.Model = None,
    lora: options.Lora = None,
    seed: options.Seed = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    draft: options.Draft = False,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    compile: options.Compile = False,
    overwrite: options.Overwrite = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Move an earlier extension's work directory aside, start anew.")
    ] = False,
    progress: options.Progress = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Go on from the end of a clip, and print the film's path.

    A film of longvid's own goes on from its latents, and grows: what is finished stays as it is, and the film
    before is kept as a take. Any other clip stays untouched; the film that follows it has the clip's size,
    rate and frames, and then what is new, scaled and timed to them. After a kill `longvid resume` goes on;
    behind a clip, the same command again does too.
    """
    from longvid.progress import Noted, showing

    with showing(progress, quiet) as show:
        from longvid import timeline as timelines
        from longvid.extending import Longer, clip_request, copy_work, is_own, notes, own_request
        from longvid.request import Request
        from longvid.settings import Overrides

        shots = None if timeline is None else timelines.load(timeline)
        longer = Longer(seconds, prompt, shots, seed, guidance)
        if is_own(clip):
            said = {
                "--model": model,
                "--lora": lora,
                "--steps": steps,
                "--draft": draft,
                "--native": native,
                "--tail-only": tail_only,
                "--fit": fit != "crop",
                "--audio": audio != "keep",
                "--dtype": dtype != "auto",
                "--fresh": fresh,
            }
            for flag in (flag for flag, value in said.items() if value):
                raise UserError(
                    f"{flag}: {clip} is a film of longvid's and goes on as it was made; leave it out"
                )
            request = own_request(clip, longer, handoff)
            where = request.device if device == "auto" else device
            request = replace(request, device=where, compile=compile or request.compile)
            film = output or clip
            if output is not None:
                request.plan(request.choose().backend)  # before anything is written
                copy_work(clip, output, request)
        else:
            overrides = Overrides(seed=seed, steps=steps, guidance=guidance, draft=draft)
            asked = partial(
                Request,
                model=model,
                overrides=overrides,
                device=device,
                dtype=dtype,
                compile=compile,
                handoff=handoff,
                loras=named_loras(lora),
            )
            way = {"native": native, "fit": fit, "tail_only": tail_only, "audio": audio}
            request = clip_request(clip, longer, asked, way)
            film = output or Path(f"{clip.stem}-extended.mp4")
            if film.exists() and film.samefile(clip):
                raise UserError(f"--output {film}: is the clip itself; name another file")
            for note in notes(clip, request):
                show(Noted(note, warning=True))
        told = progress != "json"
        film, code = run(lambda: request, film, show, told=told, overwrite=overwrite, fresh=fresh)
    end(film, code)
