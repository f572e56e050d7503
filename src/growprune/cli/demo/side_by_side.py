"""What all demos do: train recipes at once, pack what came out, clear away earlier ones."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from growprune.errors import DataError, TrainingError

# Every training has a core to itself, where NumPy's threads would only wait for each other:
# computing features then takes three times as long.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def run_folders(out: Path, recipes: Iterable[str]) -> list[Path]:
    """A run's folder in `out` for each recipe: a shipped one's name, or a file."""
    return [out / Path(recipe).stem for recipe in recipes]


def reporter(bars: Progress, bar: TaskID) -> Callable[[int, int], None]:
    """A function of what is done and what is wanted that moves a bar."""
    return lambda done, wanted: bars.update(bar, completed=done, total=wanted)


def train(
    recipes: Sequence[str], runs: Sequence[Path], data: Sequence[str | Path], console: Console
) -> None:
    """Train all recipes at once, each in a process of its own, and show how far they are.

    Args:
        recipes: names of shipped recipes, or files.
        runs: a folder for each.
        data: arguments of `growprune train` that name the data.
        console: where each run's lines go, with the recipe's name before them.

    Raises:
        TrainingError: a training stopped.
    """
    from growprune.tasks import open_recipe

    resolved = [open_recipe(name) for name in recipes]
    width = max(len(recipe.name) for recipe in resolved)
    children = []
    try:
        with _bars(console) as bars, ThreadPoolExecutor(len(runs)) as readers:
            for source, recipe, run in zip(recipes, resolved, runs, strict=True):
                name = f"{recipe.name:<{width}}"
                console.print(f"{name}  {recipe.summary}", highlight=False, soft_wrap=True)
                children.append(_start(source, run, data))
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


def pack(runs: Sequence[Path], console: Console) -> list[Path]:
    """Pack every run's model into a file beside its folder."""
    from growprune.tasks import pack_run

    files = [run.with_suffix(".safetensors") for run in runs]
    for run, file in zip(runs, files, strict=True):
        pack_run(run, layout="auto", weights="float32").save(file)
        console.print(
            f"{file}: {file.stat().st_size / 1e6:.2f} MB", highlight=False, soft_wrap=True
        )
    return files


def clear(paths: Iterable[Path]) -> None:
    """Remove folders that earlier demos left, where they did.

    Raises:
        DataError: one cannot be removed.
    """
    for path in paths:
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise DataError(f"{path}: cannot be removed ({error.strerror})") from error


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


def _start(recipe: str, run: Path, data: Sequence[str | Path]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "growprune", "train", recipe, *data, "--out", run]
    return subprocess.Popen(
        [*map(str, command), "--resume"],
        env=os.environ | _ONE_THREAD,
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
