"""The `longvid` command: registers commands, and turns what went wrong into an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from longvid import __version__
from longvid.commands.bench import bench
from longvid.commands.clean import clean
from longvid.commands.compare import compare
from longvid.commands.doctor import doctor
from longvid.commands.evaluate import evaluate
from longvid.commands.extend import extend
from longvid.commands.finetune import finetune
from longvid.commands.finish import finish
from longvid.commands.import_ import import_
from longvid.commands.models import app as models
from longvid.commands.new import new
from longvid.commands.plan import plan
from longvid.commands.render import render, resume
from longvid.commands.schema import schema
from longvid.commands.takes import takes
from longvid.commands.verify import verify
from longvid.exits import reported

app = typer.Typer(
    name="longvid",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"longvid {__version__}")
        raise typer.Exit


@app.callback()
def longvid(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Long films from a timeline of prompts."""


# In the order of work: a timeline, its film, the film's upkeep, what can be made of it, models, this machine.
app.command()(new)
app.command("import")(import_)
for command in (
    plan,
    render,
    resume,
    takes,
    verify,
    clean,
    extend,
    finish,
    finetune,
    evaluate,
    compare,
    schema,
    bench,
    doctor,
):
    app.command()(command)
app.add_typer(models, name="models")


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line (the process's own arguments where none are given) and exit.

    Exit codes: 0 done, 1 failed while running, 2 wrong input, 3 locked by another process, each of the last
    three behind one line on stderr (exits.py); 130 after Ctrl-C. A bug is a traceback.
    """
    with reported():
        app(args)
