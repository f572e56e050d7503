"""`growprune demo`: the whole job in a few minutes, on speech made on the spot."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from growprune.data import Corpus
from growprune.data.spoken import make_corpus
from growprune.errors import DataError, TrainingError
from growprune.pipelines import Recognizer, evaluate, measure_latency

RECIPES = ("demo-lstm", "demo-hlstm-gp")
"""Names of shipped recipes, or files."""


def demo(
    out: Annotated[Path, typer.Option(help="Where corpus, runs and report go.")] = Path("demo"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Repeat finished parts too.")] = False,
) -> None:
    """Synthesise speech, train a dense LSTM and a grown-and-pruned H-LSTM, pack them, compare.

    The speech is eSpeak NG's: spelled names, numbers and dates in many voices. The two models
    train side by side, a core each. Finished parts are kept, so an interrupted demo goes on where
    it stopped.

    Example: growprune demo --out demo
    """
    from growprune.reports import print_comparison, write_report
    from growprune.training import read_record

    console = Console()
    if fresh:
        _clear(out)
    corpus = _corpus(out / "corpus", console)
    runs = [out / Path(recipe).stem for recipe in RECIPES]
    _train(runs, out / "corpus", console)
    files = _pack(runs, console)
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
        corpus = make_corpus(folder, progress=_reporter(bars, bar))
    sizes = ", ".join(f"{len(rows)} {name}" for name, rows in corpus.splits.items())
    console.print(f"corpus: {folder}, {sizes} utterances, no voice or sentence in two of them")
    return corpus


def _reporter(bars: Progress, bar: int) -> Callable[[int, int], None]:
    return lambda done, wanted: bars.update(bar, completed=done, total=wanted)  # type: ignore[arg-type]


def _train(runs: Sequence[Path], corpus: Path, console: Console) -> None:
    """Train all recipes at once, each in a process of its own, and show how far they are."""
    from growprune.tasks import open_recipe

    recipes = [open_recipe(name) for name in RECIPES]
    width = max(len(recipe.name) for recipe in recipes)
    children = []
    try:
        with _bars(console) as bars, ThreadPoolExecutor(len(runs)) as readers:
            for source, recipe, run in zip(RECIPES, recipes, runs, strict=True):
                name = f"{recipe.name:<{width}}"
                console.print(f"{name}  {recipe.summary}", highlight=False, soft_wrap=True)
                children.append(_start(source, run, corpus))
                bar = bars.add_task(recipe.name, total=recipe.training.epochs)
                readers.submit(_follow, children[-1], name, bars, bar)
    finally:
        for child in children:
            child.terminate()
            child.wait()
    if any(child.returncode for child in children):
        raise TrainingError(
            "a training stopped, its last line above says why; "
            "the same command goes on where the demo stopped"
        )


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs, left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _start(recipe: str, run: Path, corpus: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "growprune", "train", recipe, "--data", corpus, "--out", run]
    return subprocess.Popen(
        [*map(str, command), "--resume"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )


def _follow(child: "subprocess.Popen[str]", name: str, bars: Progress, bar: TaskID) -> None:
    """Repeat a run's lines with its name before them, and move its bar along with its epochs."""
    assert child.stdout is not None
    with child:
        for line in child.stdout:
            text = f"{name}  {line.rstrip()}"
            bars.console.print(text, highlight=False, soft_wrap=True, markup=False)
            if epoch := re.match(r"epoch +(\d+)/", line):
                bars.update(bar, completed=int(epoch[1]))


def _pack(runs: Sequence[Path], console: Console) -> list[Path]:
    """Pack every run's model into a file beside its folder."""
    from growprune.tasks import pack_run

    files = [run.with_suffix(".safetensors") for run in runs]
    for run, file in zip(runs, files, strict=True):
        pack_run(run, layout="auto", weights="float32").save(file)
        console.print(
            f"{file}: {file.stat().st_size / 1e6:.2f} MB", highlight=False, soft_wrap=True
        )
    return files


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


def _clear(out: Path) -> None:
    """Remove what earlier demos left, and nothing else."""
    names = [Path(recipe).stem for recipe in RECIPES]
    for path in (out / name for name in ("corpus", *names, "report")):
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise DataError(f"{path}: cannot be removed ({error.strerror})") from error
