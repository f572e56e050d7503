"""`growprune evaluate`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from growprune.data import Corpus, open_corpus
from growprune.tasks.speech import (
    Decoder,
    Evaluation,
    Recognizer,
    evaluate_run,
    language_model,
    measure_latency,
)
from growprune.training import load_local, read_record, write_record


def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.")],
    data: Annotated[
        Path | None, typer.Option(help="The corpus, where it is not the one trained on.")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="A split to score; repeatable. Default: dev and test.")
    ] = None,
    beam: Annotated[int, typer.Option(min=1, help="Prefixes kept; 1 decodes greedily.")] = 1,
    lm_order: Annotated[
        int,
        typer.Option(min=0, help="Order of an n-gram model of the training transcripts; 0: none."),
    ] = 0,
    lm_weight: Annotated[float, typer.Option(help="Weight of the n-gram model.")] = 0.5,
    word_bonus: Annotated[float, typer.Option(help="Bonus per word with an n-gram model.")] = 1.0,
    show: Annotated[
        int, typer.Option(min=0, help="Print this many transcripts that have errors.")
    ] = 5,
) -> None:
    """Word and character error rates, and latency; entered in each run's record.

    Latency is measured on one thread, all runs by turns in this one process.

    Example: growprune evaluate runs/an4-lstm-seed0 runs/an4-hlstm-gp-seed0 --beam 16 --lm-order 2
    """
    console = Console()
    recognizers = [Recognizer.from_run(run) for run in runs]
    corpora = [open_corpus(data or load_local(run)["data"]) for run in runs]
    splits = split or ["dev", "test"]
    for run, recognizer, corpus in zip(runs, recognizers, corpora, strict=True):
        decoder = _decoder(corpus, beam, lm_order, lm_weight, word_bonus)
        with console.status(f"transcribing {', '.join(splits)} with {run}"):
            found = {name: evaluate_run(recognizer, corpus, name, decoder) for name in splits}
        _enter(run, {name + _suffix(beam, lm_order): row.scores for name, row in found.items()})
        _show(console, run, found, show)
    if beam == 1 and lm_order == 0:
        with console.status("measuring latency"):
            latencies = measure_latency(recognizers, corpora[0], splits[-1])
        for run, latency in zip(runs, latencies, strict=True):
            _enter(run, {}, latency)
            console.print(f"{run}: {latency['milliseconds']:.1f} ms per utterance", highlight=False)


def _decoder(
    corpus: Corpus, beam: int, lm_order: int, lm_weight: float, word_bonus: float
) -> Decoder:
    model = None
    if lm_order:
        if beam == 1:
            raise typer.BadParameter("a language model needs --beam 2 or more")
        model = language_model((row.text for row in corpus.split("train")), lm_order)
    return Decoder(beam, model, lm_weight, word_bonus)


def _suffix(beam: int, lm_order: int) -> str:
    """What a score's name in the record says of its decoding: nothing for greedy."""
    if beam == 1:
        return ""
    return f"/beam {beam}" + (f", {lm_order}-gram" if lm_order else "")


def _enter(
    run: Path, scores: dict[str, dict[str, float]], latency: dict[str, object] | None = None
) -> None:
    record = read_record(run)
    record["scores"] |= scores
    if latency is not None:
        record["latency"] = latency
    write_record(run, record)


def _show(console: Console, run: Path, found: dict[str, Evaluation], show: int) -> None:
    table = Table(title=str(run))
    for heading in ("split", "utterances", "words", "WER", "CER", "sub", "del", "ins"):
        table.add_column(heading, justify="right")
    for name, row in found.items():
        counts = row.words
        table.add_row(
            name,
            str(len(row.transcripts)),
            str(counts.reference_units),
            f"{row.wer:.2%}",
            f"{row.cer:.2%}",
            str(counts.substitutions),
            str(counts.deletions),
            str(counts.insertions),
        )
    console.print(table)
    wrong = [t for row in found.values() for t in row.transcripts if t.text != t.reference]
    for transcript in wrong[:show]:
        console.print(f"  said    {transcript.reference}", highlight=False)
        console.print(f"  written {transcript.text}\n", highlight=False)
