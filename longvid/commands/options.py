"""Arguments that several commands take, so that each means the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from longvid.progress import Choice

File = Annotated[Path, typer.Argument(help="The timeline, a YAML file.", show_default=False)]
Work = Annotated[
    Path, typer.Argument(help="A film's work directory, such as film.longvid.", show_default=False)
]
Model = Annotated[str | None, typer.Option(help="A model's name, or a checkpoint's folder (with a slash).")]
Seed = Annotated[int | None, typer.Option(help="Seed of the film, in place of the timeline's.")]
Steps = Annotated[int | None, typer.Option(help="Denoising steps of each chunk; a multiple of the window.")]
Guidance = Annotated[
    float | None, typer.Option(help="How strictly every shot follows its prompt; 1 turns it off.")
]
Method = Annotated[
    str | None,
    typer.Option(
        help="How the window moves: progressive, replace, replace-noised, fifo or chained; with options "
        "behind a colon, as progressive:overlap=0,chunk=1."
    ),
]
Draft = Annotated[bool, typer.Option("--draft", help="Half the steps, with the same noise: a quick look.")]
Lora = Annotated[
    list[str] | None,
    typer.Option(
        "--lora",
        metavar="PATH[:STRENGTH]",
        help="A LoRA's folder or safetensors file, in place of the timeline's; may be given again.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"], typer.Option(help="What the network computes in.")
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile the network first: minutes once, faster after that.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors.")]
Progress = Annotated[
    Choice, typer.Option(help="auto: live on a terminal, plain lines elsewhere. All on stderr.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file that no render here made.")]
