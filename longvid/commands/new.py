"""`longvid new`: a commented timeline to start from."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from longvid.errors import UserError

STARTER = """\
# A film for longvid.
#   longvid plan FILE      what this becomes, and what it costs
#   longvid render FILE    the film
#   longvid schema         the JSON schema from which editors complete these keys

title: A boat at sea
model: diorama               # comes with longvid; `longvid doctor` lists what is installed
seed: 7                      # the same seed gives the same film
style: slow pan              # goes behind every prompt
# guidance: 3                # how strictly prompts are followed; 1 turns it off
# negative: in the rain      # what to keep out
# output: {scale: 3, crf: 20}

# Shots flow into each other: a prompt changes at the nearest border of two chunks of frames.
# Times are seconds, 1m30s, 0:01:30.5 or, in frames, 120f.
shots:
  - prompt: a red boat drifting right on a calm sea at dawn
    seconds: 8

  - prompt: a red boat drifting right at sea in a storm
    seconds: 8
    blend_seconds: 2         # fade into this prompt rather than switch

  - prompt: a white star hanging still over a city at night
    seconds: 6
    cut: true                # a hard cut, exact to the frame
    seed: 11                 # noise of this shot's own
"""


def new(file: Annotated[Path, typer.Argument(help="The timeline to write.", show_default=False)]) -> None:
    """Write a commented timeline to start from. Never overwrites a file."""
    try:
        with file.open("x", encoding="utf-8", newline="\n") as opened:
            opened.write(STARTER)
    except FileExistsError:
        raise UserError(f"{file}: is there already; give another name") from None
    except FileNotFoundError:
        raise UserError(f"{file}: there is no folder {file.parent}; make it first") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be written: {error.strerror}") from error
    typer.echo(f"wrote {file}; see what it becomes: longvid plan {shlex.quote(str(file))}")
