"""`growprune transcribe`."""

import json
import sys
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import typer

from growprune.cli.messages import print_error
from growprune.cli.models import AnyRecognizer, open_recognizer
from growprune.cli.recognizers import decoder_for
from growprune.data import file_pieces, pipe_pieces
from growprune.decoding import Decoder, Hypothesis
from growprune.errors import DataError, GrowPruneError, ModelFileError
from growprune.pipelines import Recognizer, TextStream

_STANDARD_INPUT = Path("-")


def transcribe(
    model: Annotated[Path, typer.Argument(help="A packed model, or a finished run's folder.")],
    files: Annotated[
        list[Path],
        typer.Argument(help="Sound files: WAV, FLAC, SPHERE, OGG, MP3; - with --stream."),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, with words' times in seconds.")
    ] = False,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Write while the audio arrives; - is standard input."),
    ] = False,
    beam: Annotated[int, typer.Option(min=1, help="Prefixes kept; 1 decodes greedily.")] = 1,
    lm_order: Annotated[
        int,
        typer.Option(min=0, help="Order of an n-gram model of the training transcripts; 0: none."),
    ] = 0,
) -> None:
    """Write down what is said in sound files.

    A file that cannot be used is named with the reason; the others are transcribed all the same.
    Standard input is WAV, or raw 16-bit little-endian samples of one channel at the model's rate.

    Example: growprune transcribe model.safetensors a.wav b.flac --json
    """
    if stream and not as_json and (beam > 1 or lm_order):
        raise typer.BadParameter(
            "with a beam, text already written may still change; add --json, which writes every "
            "version as a line of its own"
        )
    if _STANDARD_INPUT in files and not stream:
        raise typer.BadParameter("- is standard input, which is read with --stream")
    recognizer = open_recognizer(model)
    decoder = decoder_for(recognizer, model, beam, lm_order)
    listen = _stream if stream else _transcribe
    failures = [file for file in files if not _tried(listen, recognizer, file, decoder, as_json)]
    if failures:
        raise DataError(f"{len(failures)} of {len(files)} files could not be transcribed")


def _tried(listen: Any, *arguments: Any) -> bool:
    try:
        listen(*arguments)
    except ModelFileError:
        raise
    except GrowPruneError as error:
        print_error(error)
        return False
    return True


def _transcribe(recognizer: AnyRecognizer, file: Path, decoder: Decoder, as_json: bool) -> None:
    found = recognizer.transcribe(file, decoder)
    if as_json:
        _print_json(file, found.text, words=_words(found))
    else:
        typer.echo(f"{file}\t{found.text}")


def _stream(recognizer: AnyRecognizer, file: Path, decoder: Decoder, as_json: bool) -> None:
    if not isinstance(recognizer, Recognizer):
        raise ModelFileError(
            "--stream needs a packed model; make one with: growprune export RUN -o "
            "model.safetensors"
        )
    hearing = recognizer.stream(decoder)
    pieces = _until_interrupted(_pieces(file, recognizer.sample_rate))
    show = _show_lines if as_json else _show_growing
    show(file, hearing, pieces)


def _show_growing(file: Path, hearing: TextStream, pieces: Iterator[np.ndarray]) -> None:
    """One line, as `_transcribe` writes it, letter by letter."""
    written = ""
    _print_now(f"{file}\t")
    try:
        for piece in pieces:
            text = hearing.push(piece)
            _print_now(text[len(written) :])
            written = text
        _print_now(hearing.finish().text[len(written) :])
    finally:
        _print_now("\n")


def _show_lines(file: Path, hearing: TextStream, pieces: Iterator[np.ndarray]) -> None:
    """A JSON object for every version of the text, and one for the final text."""
    written = ""
    for piece in pieces:
        text = hearing.push(piece)
        if text != written:
            _print_json(file, text, seconds=round(hearing.seconds, 3), final=False)
            written = text
    found = hearing.finish()
    seconds = round(hearing.seconds, 3)
    _print_json(file, found.text, seconds=seconds, final=True, words=_words(found))


def _pieces(file: Path, sample_rate: int) -> Iterator[np.ndarray]:
    if file == _STANDARD_INPUT:
        return pipe_pieces(cast(BufferedReader, sys.stdin.buffer), sample_rate)
    return file_pieces(file, sample_rate)


def _until_interrupted(pieces: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The pieces up to a Ctrl-C, which ends a live recording as the end of a file does."""
    try:
        yield from pieces
    except KeyboardInterrupt:
        return


def _print_now(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _print_json(file: Path, text: str, **details: Any) -> None:
    _print_now(json.dumps({"file": str(file), "text": text} | details) + "\n")


def _words(found: Hypothesis) -> list[dict[str, Any]]:
    return [
        {"word": word.text, "start": round(word.start, 3), "end": round(word.end, 3)}
        for word in found.words
    ]
