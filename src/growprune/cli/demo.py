"""`growprune demo`: the whole job in a few minutes, on speech made on the spot."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from growprune.data import Corpus
from growprune.data.spoken import make_corpus
from growprune.errors import DataError
from growprune.pipelines import measure_latency

RECIPES = ("demo-lstm", "demo-hlstm-gp")


def demo(
    out: Annotated[Path, typer.Option(help="Where corpus, runs and report go.")] = Path("demo"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Repeat finished parts too.")] = False,
) -> None:
    """Synthesise a speech corpus, train a dense LSTM and a grown-and-pruned H-LSTM, compare.

    The speech is eSpeak NG's: spelled names, numbers and dates in many voices. Finished parts are
    kept, so an interrupted demo goes on where it stopped.

    Example: growprune demo --out demo
    """
    from growprune.reports import print_comparison, write_report
    from growprune.tasks import open_recipe
    from growprune.tasks.speech import SpeechTask
    from growprune.training import read_record, save_local, train

    console = Console()
    if fresh:
        _clear(out)
    corpus = _corpus(out / "corpus", console)
    runs = [out / name for name in RECIPES]
    for name, run in zip(RECIPES, runs, strict=True):
        recipe = open_recipe(name)
        console.print(f"\n[bold]{name}[/bold]: {recipe.summary}", highlight=False, soft_wrap=True)
        save_local(run, {"data": str((out / "corpus").resolve()), "seed": 0})
        train(SpeechTask(recipe, corpus), run, resume=True, console=console)
    _score(runs, corpus, console)
    console.print()
    print_comparison([read_record(run) for run in runs], console)
    page = write_report(runs, out / "report")
    heard = corpus.split("test")[0]
    console.print(
        f"\nreport: {page}\n"
        f"try:    growprune transcribe {runs[1]} {heard.audio}\n"
        f"        (said: {heard.text})",
        highlight=False,
        soft_wrap=True,
    )


def _corpus(folder: Path, console: Console) -> Corpus:
    with Progress(console=console, transient=True) as bars:
        bar = bars.add_task("synthesising speech", total=None)
        corpus = make_corpus(folder, progress=_reporter(bars, bar))
    sizes = ", ".join(f"{len(rows)} {name}" for name, rows in corpus.splits.items())
    console.print(f"corpus: {folder}, {sizes} utterances, no voice or sentence in two of them")
    return corpus


def _reporter(bars: Progress, bar: int) -> Callable[[int, int], None]:
    return lambda done, wanted: bars.update(bar, completed=done, total=wanted)  # type: ignore[arg-type]


def _score(runs: list[Path], corpus: Corpus, console: Console) -> None:
    """Enter test error rates and latencies in the records."""
    from growprune.tasks.speech import Recognizer, evaluate_run, one_thread
    from growprune.training import read_record, write_record

    recognizers = [Recognizer.from_run(run) for run in runs]
    with console.status("scoring the test split and measuring latency"):
        with one_thread():
            latencies = measure_latency(recognizers, corpus, "test")
        for run, recognizer, latency in zip(runs, recognizers, latencies, strict=True):
            record = read_record(run)
            record["scores"]["test"] = evaluate_run(recognizer, corpus, "test").scores
            record["latency"] = latency
            write_record(run, record)


def _clear(out: Path) -> None:
    """Remove what earlier demos left, and nothing else."""
    for name in ("corpus", *RECIPES, "report"):
        try:
            shutil.rmtree(out / name)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise DataError(f"{out / name}: cannot be removed ({error.strerror})") from error
