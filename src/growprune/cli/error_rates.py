"""Recognisers in `growprune evaluate`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from growprune.cli.models import AnyRecognizer, enter, remembered, torch_on_one_thread
from growprune.data import Corpus, open_corpus
from growprune.decoding import Decoder, language_model
from growprune.metrics import Evaluation
from growprune.pipelines import Recognizer, evaluate, measure_latency


@dataclass(frozen=True)
class Decoding:
    """How transcripts are decoded: see `Decoder`; `lm_order` 0 is without a language model."""

    beam: int
    lm_order: int
    lm_weight: float
    word_bonus: float

    def decoder(self, corpus: Corpus) -> Decoder:
        """The decoder, its language model made of the corpus's training split."""
        model = None
        if self.lm_order:
            if self.beam == 1:
                raise typer.BadParameter("a language model needs --beam 2 or more")
            model = language_model((row.text for row in corpus.split("train")), self.lm_order)
        return Decoder(self.beam, model, self.lm_weight, self.word_bonus)

    @property
    def suffix(self) -> str:
        """What a score's name in the record says of it: nothing for greedy."""
        if self.beam == 1:
            return ""
        return f"/beam {self.beam}" + (f", {self.lm_order}-gram" if self.lm_order else "")


def evaluate_recognizers(
    recognizers: Mapping[Path, AnyRecognizer],
    data: Path | None,
    splits: Sequence[str],
    decoding: Decoding,
    show: int,
    console: Console,
) -> None:
    """Score splits and measure latency; see `growprune evaluate`."""
    corpora = {path: open_corpus(data or remembered(path, "data")) for path in recognizers}
    for path, recognizer in recognizers.items():
        decoder = decoding.decoder(corpora[path])
        with console.status(f"transcribing {', '.join(splits)} with {path}"):
            found = {name: _evaluate(recognizer, corpora[path], name, decoder) for name in splits}
        enter(path, scores={name + decoding.suffix: row.scores for name, row in found.items()})
        _show(console, path, found, show)
    if decoding.beam == 1 and decoding.lm_order == 0:
        with console.status("measuring latency"), torch_on_one_thread(recognizers.values()):
            corpus = next(iter(corpora.values()))
            latencies = measure_latency(list(recognizers.values()), corpus, splits[-1])
        for path, latency in zip(recognizers, latencies, strict=True):
            enter(path, latency=latency)
            console.print(
                f"{path}: {latency['milliseconds']:.1f} ms per utterance ({latency['engine']})",
                highlight=False,
                soft_wrap=True,
            )


def _evaluate(
    recognizer: AnyRecognizer, corpus: Corpus, split: str, decoder: Decoder
) -> Evaluation:
    if isinstance(recognizer, Recognizer):
        return evaluate(recognizer, corpus, split, decoder)
    from growprune.tasks.speech import evaluate_run

    return evaluate_run(recognizer, corpus, split, decoder)


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
