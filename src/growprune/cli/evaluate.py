"""`growprune evaluate`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from growprune.cli.recognizers import AnyRecognizer, open_recognizer, torch_on_one_thread
from growprune.data import Corpus, open_corpus
from growprune.decoding import Decoder, language_model
from growprune.errors import DataError
from growprune.metrics import Evaluation
from growprune.pipelines import Recognizer, measure_latency
from growprune.pipelines import evaluate as evaluate_packed


def evaluate(
    models: Annotated[list[Path], typer.Argument(help="Folders of finished runs, packed models.")],
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

    Latency is measured on one thread, all models by turns in this one process. A packed model needs
    --data, and is scored just as a run is.

    Example: growprune evaluate runs/an4-lstm-seed0 runs/an4-hlstm-gp-seed0 --beam 16 --lm-order 2
    """
    console = Console()
    recognizers = [open_recognizer(model) for model in models]
    corpora = [open_corpus(data or _trained_on(model)) for model in models]
    splits = split or ["dev", "test"]
    for model, recognizer, corpus in zip(models, recognizers, corpora, strict=True):
        decoder = _decoder(corpus, beam, lm_order, lm_weight, word_bonus)
        with console.status(f"transcribing {', '.join(splits)} with {model}"):
            found = {name: _evaluate(recognizer, corpus, name, decoder) for name in splits}
        _enter(model, {name + _suffix(beam, lm_order): row.scores for name, row in found.items()})
        _show(console, model, found, show)
    if beam == 1 and lm_order == 0:
        with console.status("measuring latency"), torch_on_one_thread(recognizers):
            latencies = measure_latency(recognizers, corpora[0], splits[-1])
        for model, latency in zip(models, latencies, strict=True):
            _enter(model, {}, latency)
            console.print(
                f"{model}: {latency['milliseconds']:.1f} ms per utterance ({latency['engine']})",
                highlight=False,
                soft_wrap=True,
            )


def _trained_on(model: Path) -> str:
    """The folder of a run's corpus."""
    if not model.is_dir():
        raise DataError(f"{model}: a packed model does not know its corpus; name one with --data")
    from growprune.training import load_local

    return load_local(model)["data"]


def _decoder(
    corpus: Corpus, beam: int, lm_order: int, lm_weight: float, word_bonus: float
) -> Decoder:
    model = None
    if lm_order:
        if beam == 1:
            raise typer.BadParameter("a language model needs --beam 2 or more")
        model = language_model((row.text for row in corpus.split("train")), lm_order)
    return Decoder(beam, model, lm_weight, word_bonus)


def _evaluate(
    recognizer: AnyRecognizer, corpus: Corpus, split: str, decoder: Decoder
) -> Evaluation:
    if isinstance(recognizer, Recognizer):
        return evaluate_packed(recognizer, corpus, split, decoder)
    from growprune.tasks.speech import evaluate_run

    return evaluate_run(recognizer, corpus, split, decoder)


def _suffix(beam: int, lm_order: int) -> str:
    """What a score's name in the record says of its decoding: nothing for greedy."""
    if beam == 1:
        return ""
    return f"/beam {beam}" + (f", {lm_order}-gram" if lm_order else "")


def _enter(
    model: Path, scores: dict[str, dict[str, float]], latency: dict[str, object] | None = None
) -> None:
    """Write figures into a run's record; a packed model has none."""
    if not model.is_dir():
        return
    from growprune.training import read_record, write_record

    record = read_record(model)
    record["scores"] |= scores
    if latency is not None:
        record["latency"] = latency
    write_record(model, record)


def _show(console: Console, model: Path, found: dict[str, Evaluation], show: int) -> None:
    table = Table(title=str(model))
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
