"""The demo of speech recognition, on what eSpeak NG says."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from growprune.cli.demo import side_by_side
from growprune.data import Corpus
from growprune.data.spoken import make_corpus
from growprune.pipelines import Recognizer, evaluate, measure_latency

RECIPES = ("demo-lstm", "demo-hlstm-gp")
"""Names of shipped recipes, or files."""


def run(out: Path, fresh: bool, console: Console) -> None:
    """Speak, train, pack, compare; see `growprune demo`."""
    from growprune.reports import print_comparison, write_report
    from growprune.training import read_record

    runs = side_by_side.run_folders(out, RECIPES)
    if fresh:
        side_by_side.clear([out / "corpus", *runs, out / "report"])
    corpus = _corpus(out / "corpus", console)
    side_by_side.train(RECIPES, runs, ["--data", out / "corpus"], console)
    files = side_by_side.pack(runs, console)
    _score(runs, files, corpus, console)
    console.print()
    print_comparison([read_record(run) for run in runs], console)
    page = write_report(runs, out / "report")
    heard = corpus.split("test")[0]
    console.print(
        f"\nreport: {page}\n"
        f"try:    growprune transcribe {files[1]} {heard.audio}\n"
        f"        (said: {heard.text})",
        highlight=False,
        soft_wrap=True,
    )


def _corpus(folder: Path, console: Console) -> Corpus:
    with Progress(console=console, transient=True) as bars:
        bar = bars.add_task("synthesising speech", total=None)
        corpus = make_corpus(folder, progress=side_by_side.reporter(bars, bar))
    sizes = ", ".join(f"{len(rows)} {name}" for name, rows in corpus.splits.items())
    console.print(f"corpus: {folder}, {sizes} utterances, no voice or sentence in two of them")
    return corpus


def _score(runs: Sequence[Path], files: Sequence[Path], corpus: Corpus, console: Console) -> None:
    """Enter the packed models' test error rates and latencies in the records."""
    from growprune.training import read_record, write_record

    recognizers = [Recognizer.load(file) for file in files]
    with console.status("scoring the test split and measuring latency"):
        latencies = measure_latency(recognizers, corpus, "test")
        for run, recognizer, latency in zip(runs, recognizers, latencies, strict=True):
            record = read_record(run)
            record["scores"]["test"] = evaluate(recognizer, corpus, "test").scores
            record["latency"] = latency
            write_record(run, record)
