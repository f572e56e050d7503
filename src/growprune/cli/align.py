"""`growprune data align`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from growprune.cli.models import remembered
from growprune.data import open_corpus, write_words


def align(
    run: Annotated[Path, typer.Argument(help="A finished recogniser's run.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file of words to write, JSON.")],
    data: Annotated[
        Path | None, typer.Option(help="The corpus, where it is not the one trained on.")
    ] = None,
) -> None:
    """Find where each word of the training utterances is said, for data.mix_words of a recipe.

    Only the splits that the run learnt from are read.

    Example: growprune data align runs/an4-lstm-seed0 --out an4-words.json
    """
    from growprune.tasks.speech import Recognizer, align_run

    recognizer = Recognizer.from_run(run)
    words = align_run(recognizer, open_corpus(data or remembered(run, "data")))
    write_words(out, words)
    count = sum(map(len, words.values()))
    Console().print(
        f"{out}: {count} words of {len(words)} utterances", highlight=False, soft_wrap=True
    )
