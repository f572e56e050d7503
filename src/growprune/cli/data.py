"""`growprune data`: which corpora there are, and how to get one ready."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from growprune.cli.encoders import Encoder, open_encoder
from growprune.cli.messages import print_error
from growprune.data import (
    CORPORA,
    LITE0,
    Alphabet,
    FeatureWriter,
    holds_captions,
    image_files,
    open_captions,
    open_image,
)
from growprune.data import prepare as prepare_corpus
from growprune.errors import DataError

app = typer.Typer(
    help="List corpora, get one ready for training, compute features of images.\n\n"
    "Example: growprune data list",
    no_args_is_help=True,
)

_AT_ONCE = 32
"""Rows of features that go to the disk together; an interruption costs no more."""


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
    for corpus in CORPORA:
        if corpus.by_hand:
            steps = "\n".join(corpus.by_hand)
            console.print(f"{corpus.name}, by hand:\n{steps}\n", highlight=False, soft_wrap=True)
    console.print(
        "Any other speech: a folder with train.jsonl, dev.jsonl and test.jsonl, a JSON object per "
        "line with audio_filepath, text and, if known, duration.\n"
        "Any other images: a captions.csv beside them, a row for each caption with the columns "
        "file, caption and, if there are splits, split."
    )


@app.command("prepare")
def prepare(
    source: Annotated[str, typer.Argument(help="A corpus's folder, or a known one's name.")],
    out: Annotated[Path, typer.Option(help="Where the checked manifests go.")],
    letters: Annotated[
        str | None, typer.Option(help="Letters that transcripts may use, e.g. ' ABC'.")
    ] = None,
) -> None:
    """Read every recording of a corpus of speech once and write checked manifests.

    Captioned images need no preparing: see growprune data features.

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


@app.command("features")
def features(
    images: Annotated[
        Path, typer.Argument(help="A folder of pictures, or a corpus: its folder or its list.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The table's folder.")],
    encoder: Annotated[
        str,
        typer.Option(help="Which network; torchvision:NAME, timm:NAME, or an encoder's ONNX file."),
    ] = LITE0,
    pool: Annotated[
        int | None, typer.Option(help="2: means of a picture's quarters, not of the whole.")
    ] = None,
) -> None:
    """Compute the features of pictures, once, into a table that training reads.

    Pictures that are in the table already are left alone, so an interrupted run goes on where it
    stopped. One that cannot be used is named with the reason and left out.

    Example: growprune data features flickr8k -o flickr8k-features
    """
    if pool is not None and encoder.endswith(".onnx"):
        raise typer.BadParameter("an encoder's file has a pool of its own; leave out --pool")
    paths, absent = _pictures(images)
    network = open_encoder(encoder, pool or 1)
    description = {"name": network.name, "pool": network.pool}
    writer = FeatureWriter(out, network.width, description)
    try:
        failed = absent + _compute(paths, network, writer)
    except KeyboardInterrupt:
        Console(stderr=True).print(
            f"interrupted with {len(writer.done)} pictures done; the same command goes on"
        )
        raise typer.Exit(130) from None
    Console().print(
        f"{out}: features of {len(writer.done)} pictures, {network.width} numbers each, by "
        f"{network.name}",
        highlight=False,
        soft_wrap=True,
    )
    if failed:
        raise DataError(
            f"{failed} of {len(paths) + absent} pictures are left out; put them right and run the "
            "command again, or do without them"
        )


def _pictures(images: Path) -> tuple[dict[str, Path], int]:
    """Pictures by the names that their features will have, and how many are not there."""
    if images.is_dir() and not holds_captions(images):
        return _by_name(image_files(images)), 0
    corpus = open_captions(images)
    listed = corpus.split("all")
    absent = [image.name for image in listed if image.path is None]
    if absent:
        shown = ", ".join(absent[:3]) + (f" and {len(absent) - 3} more" if absent[3:] else "")
        print_error(
            DataError(
                f"{corpus.folder}: {len(absent)} of {len(listed)} pictures are not there "
                f"({shown}); put them beside their list, or into a folder images there"
            )
        )
    return {image.name: image.path for image in listed if image.path is not None}, len(absent)


def _by_name(paths: list[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(path.name, path)
        if other != path:
            raise DataError(
                f"{path}: has the name of {other}, by which its features would be found; rename one"
            )
    return found


def _compute(paths: Mapping[str, Path], encoder: Encoder, writer: FeatureWriter) -> int:
    """Append the features of pictures that are not in the table; returns how many failed."""
    wanted = {name: path for name, path in paths.items() if name not in writer.done}
    rows: dict[str, np.ndarray] = {}
    failed = 0
    with _bars() as bars:
        bar = bars.add_task("features", total=len(paths), completed=len(paths) - len(wanted))
        for name, path in wanted.items():
            try:
                (rows[name],) = encoder.encode([open_image(path)])
            except DataError as error:
                failed += 1
                print_error(error, bars.console)
            if len(rows) == _AT_ONCE:
                _append(writer, rows)
            bars.advance(bar)
        _append(writer, rows)
    return failed


def _append(writer: FeatureWriter, rows: dict[str, np.ndarray]) -> None:
    """Write rows to the disk, and forget them."""
    if rows:
        writer.append(list(rows), np.stack(list(rows.values())))
        rows.clear()


def _bars() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
