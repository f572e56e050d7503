"""`growprune data`: which corpora there are, and how to get one ready."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from growprune.data import CORPORA, Alphabet
from growprune.data import prepare as prepare_corpus

app = typer.Typer(help="List corpora, and get one ready for training.", no_args_is_help=True)


@app.command("list")
def list_corpora() -> None:
    """Show the known corpora, their terms, and how to get them.

    Example: growprune data list
    """
    table = Table("name", "what", "licence", "how to get it")
    for corpus in CORPORA:
        table.add_row(corpus.name, corpus.what, corpus.licence, corpus.source)
    console = Console()
    console.print(table)
    console.print(
        "Any other corpus: a folder with train.jsonl, dev.jsonl and test.jsonl, a JSON object per "
        "line with audio_filepath, text and, if known, duration."
    )


@app.command("prepare")
def prepare(
    source: Annotated[str, typer.Argument(help="A corpus's folder, or a known one's name.")],
    out: Annotated[Path, typer.Option(help="Where the checked manifests go.")],
    letters: Annotated[
        str | None, typer.Option(help="Letters that transcripts may use, e.g. ' ABC'.")
    ] = None,
) -> None:
    """Read every recording of a corpus once and write checked manifests.

    Example: growprune data prepare an4 --out data/an4
    """
    alphabet = Alphabet(letters) if letters else None
    console = Console()
    with Progress(console=console, transient=True) as bars:
        bar = bars.add_task(source, total=None)

        def advance(done: int, wanted: int | None) -> None:
            bars.update(bar, completed=done, total=wanted)

        corpus = prepare_corpus(source, out, alphabet=alphabet, progress=advance)
    for split, utterances in corpus.splits.items():
        seconds = sum(row.duration or 0.0 for row in utterances)
        console.print(
            f"{out / split}.jsonl: {len(utterances)} utterances, {seconds / 60:.1f} min",
            highlight=False,
            soft_wrap=True,
        )
