"""`growprune transcribe`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from growprune.data import open_corpus
from growprune.errors import DataError, GrowPruneError
from growprune.tasks.speech import Decoder, Recognizer, language_model
from growprune.training import load_local


def transcribe(
    run: Annotated[Path, typer.Argument(help="A finished run's folder.")],
    files: Annotated[list[Path], typer.Argument(help="Sound files: WAV, FLAC, SPHERE, OGG, MP3.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, with words' times in seconds.")
    ] = False,
    beam: Annotated[int, typer.Option(min=1, help="Prefixes kept; 1 decodes greedily.")] = 1,
    lm_order: Annotated[
        int,
        typer.Option(min=0, help="Order of an n-gram model of the training transcripts; 0: none."),
    ] = 0,
) -> None:
    """Write down what is said in sound files.

    A file that cannot be used is named with the reason; the others are transcribed all the same.

    Example: growprune transcribe runs/an4-hlstm-gp-seed0 a.wav b.flac --json
    """
    recognizer = Recognizer.from_run(run)
    model = None
    if lm_order:
        corpus = open_corpus(load_local(run)["data"])
        model = language_model((row.text for row in corpus.split("train")), lm_order)
    decoder = Decoder(max(beam, 16) if lm_order else beam, model)
    failures = [file for file in files if not _transcribe(recognizer, file, decoder, as_json)]
    if failures:
        raise DataError(f"{len(failures)} of {len(files)} files could not be transcribed")


def _transcribe(recognizer: Recognizer, file: Path, decoder: Decoder, as_json: bool) -> bool:
    try:
        found = recognizer.transcribe(file, decoder)
    except GrowPruneError as error:
        Console(stderr=True, soft_wrap=True).print(f"[red]error:[/red] {error}", highlight=False)
        return False
    if as_json:
        words = [
            {"word": word.text, "start": round(word.start, 3), "end": round(word.end, 3)}
            for word in found.words
        ]
        typer.echo(json.dumps({"file": str(file), "text": found.text, "words": words}))
    else:
        typer.echo(f"{file}\t{found.text}")
    return True
