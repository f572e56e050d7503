"""The `growprune` program: its commands, and errors as one readable line.

What needs torch or draws pictures is imported by the commands when they run: packed models are
used where torch is not installed, and without waiting for it.
"""

import sys
from collections.abc import Sequence

import typer

from growprune import __version__
from growprune.cli import (
    align,
    bench,
    caption,
    data,
    demo,
    evaluate,
    export,
    report,
    train,
    transcribe,
)
from growprune.cli.messages import print_error
from growprune.errors import GrowPruneError

app = typer.Typer(
    name="growprune",
    help="Train LSTMs that are small, fast and accurate by growing and pruning connections.\n\n"
    "Example: growprune demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"growprune {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show the whole trace of an error."),
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


data.app.command("align")(align.align)
app.add_typer(data.app, name="data")
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("transcribe")(transcribe.transcribe)
app.command("caption")(caption.caption)
app.command("export")(export.export)
app.command("bench")(bench.bench)
app.command("report")(report.report)
app.command("demo")(demo.demo)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program; an error a user can act on becomes one line and exit status 1."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "--debug" in words:
        words.remove("--debug")
        app(words)
        return
    try:
        app(words)
    except GrowPruneError as error:
        print_error(error)
        sys.exit(1)
