"""`growprune demo`: the whole job in a few minutes, on data made on the spot."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from growprune.cli.demo import captioning, speech


class Task(StrEnum):
    """What is demonstrated."""

    speech = "speech"
    captioning = "captioning"


_RUN = {Task.speech: speech.run, Task.captioning: captioning.run}


def demo(
    task: Annotated[Task, typer.Argument(help="What to demonstrate.")] = Task.speech,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where data, runs and report go; demo or, for captioning, demo-captioning "
            "if not given."
        ),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Repeat finished parts too.")] = False,
) -> None:
    """Make data, train a dense LSTM and a grown-and-pruned H-LSTM, pack them, compare.

    speech: recordings by eSpeak NG of spelled names, numbers and dates in many voices.
    captioning: pictures of shapes in many colours, sizes and places, with sentences about them.

    The two models train side by side, a core each. Finished parts are kept, so an interrupted demo
    goes on where it stopped.

    Example: growprune demo captioning --out pictures
    """
    default = {Task.speech: "demo", Task.captioning: "demo-captioning"}[task]
    _RUN[task](out or Path(default), fresh, Console())
