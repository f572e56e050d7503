"""Train named variations of a recipe, several seeds of each, and compare them on dev.

    python benchmarks/search.py trials.toml --data ../an4 --out runs/search --jobs 2
    python benchmarks/search.py trials.toml --out runs/search --table

The file names the trials:

    recipe = "an4-hlstm-gp"         # a name or a path
    set = ["training.epochs=60"]    # for every trial, as after `growprune train --set`

    [trials.half]
    set = ["plan.prune.final_density=0.5"]
    seeds = [0, 1, 2]               # [0] where not given

    [trials.wide]
    summary = "more units"          # in words, for tables
    set = ["model.recurrent.hidden_size=512"]

Each seed of a trial is a `growprune train --resume` in OUT/TRIAL-seedN, with what it says in
OUT/TRIAL-seedN.log. What is finished is left alone and what was interrupted goes on, so the same
command may be given again at any time, with more trials in the file, too. A run that fails is
reported, and the others go on. OUT/table.md is made from the records; test splits are never looked
at.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError
from rich.console import Console
from rich.progress import Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from growprune.cli.messages import print_error
from growprune.errors import GrowPruneError, RecipeError
from growprune.files import make_folder, write_text
from growprune.reports import Comparison, Record, comparison_table, read_record
from growprune.settings import Settings, settings_error
from growprune.tasks import TASKS, open_recipe
from growprune.training import Recipe

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
WEIGHTS = ("Weights, whole model", "Weights, recurrent layers")
LOSS, TIME, ABSENT = "Train loss", "Training time", "-"

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$")]


class Trial(Settings):
    """What one trial changes, in words if wanted, and the seeds it is trained with."""

    summary: str = ""
    set: tuple[str, ...] = ()
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)


class Search(Settings):
    """A file of trials."""

    recipe: str
    set: tuple[str, ...] = ()
    trials: dict[Name, Trial] = Field(min_length=1)


@dataclass(frozen=True)
class Run:
    """One seed of a trial.

    Attributes:
        trial: its name.
        recipe: resolved, with all that the file sets.
        seed: as given to `growprune train`.
        folder: the run's; its log lies beside it.
    """

    trial: str
    recipe: Recipe
    seed: int
    folder: Path

    @property
    def log(self) -> Path:
        """Where it writes what it says."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def record(self, copy: Path | None = None) -> Record | None:
        """What the finished run left, of its scores those of dev; None if it is of other settings.

        Args:
            copy: of its record, to be read instead of the one in the folder.

        Raises:
            CheckpointError: the record is damaged.
        """
        path = copy or self.folder / "record.json"
        if not path.is_file():
            return None
        record = read_record(path)
        if not self.recipe.is_of(record.recipe) or record.seed != self.seed:
            return None
        recipe = self.recipe.model_dump(mode="json")  # with settings younger than the record
        return record.model_copy(update={"recipe": recipe, "scores": {"dev": record.scores["dev"]}})


@dataclass(frozen=True)
class Child:
    """A run's training under way."""

    run: Run
    process: subprocess.Popen[bytes]
    bar: TaskID

    def last_line(self, start: str = "") -> str:
        """The last that it said and that begins so."""
        lines = self.run.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return next(
            (line for line in reversed(lines) if line.strip() and line.startswith(start)), ""
        )


def main() -> None:
    args = parse_arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, to end the children
    console = Console()
    try:
        search = read_search(args.trials)
        runs = open_runs(search, args.out)
        failed = 0 if args.table else train(search, runs, args, console)
        text = table(search, runs)
        write_text(args.out / "table.md", text)
    except GrowPruneError as error:
        print_error(error)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on")
        sys.exit(130)
    print(text)
    sys.exit(1 if failed else 0)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trials", type=Path, help="a TOML file of trials")
    parser.add_argument("--data", type=Path, help="the corpus, as for growprune train")
    parser.add_argument("--features", type=Path, help="of its images, for captioning")
    parser.add_argument("--out", type=Path, required=True, help="a folder for runs and table.md")
    parser.add_argument("--jobs", type=int, default=1, help="how many to train at once")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of all jobs")
    parser.add_argument(
        "--only", default="*", help="train only trials of such a name, as in 'wide-*'"
    )
    parser.add_argument("--table", action="store_true", help="train nothing, write the table")
    args = parser.parse_args()
    if args.data is None and not args.table:
        parser.error("name the corpus with --data, or give --table to train nothing")
    if args.jobs < 1 or args.threads < 1:
        parser.error("--jobs and --threads start at 1")
    return args


def read_search(path: Path) -> Search:
    """The file of trials.

    Raises:
        RecipeError: it cannot be read, is not TOML, or has a key that does not exist.
    """
    try:
        return Search.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror}); name a TOML file") from None
    except ValidationError as error:
        raise settings_error(error, Search, str(path)) from None
    except ValueError as error:
        raise RecipeError(f"{path}: not valid TOML ({error}); correct it") from None


def open_runs(search: Search, out: Path) -> list[Run]:
    """Every seed of every trial, in the file's order; what is wrong with one shows before any runs.

    Raises:
        RecipeError: a trial's recipe is not valid, or learns from the test split.
    """
    runs = []
    for name, trial in search.trials.items():
        try:
            recipe = open_recipe(search.recipe, (*search.set, *trial.set))
        except RecipeError as error:
            raise RecipeError(f"trial {name}: {error}") from None
        if "test" in getattr(getattr(recipe, "data", None), "train_splits", ()):
            raise RecipeError(
                f"trial {name}: learns from the test split; keep it for final figures"
            )
        seeds = dict.fromkeys(trial.seeds)
        runs += [Run(name, recipe, seed, out / f"{name}-seed{seed}") for seed in seeds]
    return runs


def train(search: Search, runs: Sequence[Run], args: argparse.Namespace, console: Console) -> int:
    """Train what has no record yet; returns how many runs failed.

    Raises:
        RecipeError: no trial has a name such as `args.only`.
        DataError: `args.out` cannot be written.
    """
    chosen = [run for run in runs if fnmatchcase(run.trial, args.only)]
    if not chosen:
        raise RecipeError(f"no trial is named {args.only!r}; there are {', '.join(search.trials)}")
    make_folder(args.out)
    waiting = [run for run in chosen if run.record() is None]
    children: list[Child] = []
    failed = 0
    with _progress(console) as bars:
        whole = bars.add_task("")
        try:
            while waiting or children:
                while waiting and len(children) < args.jobs:
                    run = waiting.pop(0)
                    children.append(Child(run, _start(search, run, args), bars.add_task("")))
                time.sleep(0.2)
                ended = [child for child in children if child.process.poll() is not None]
                children = [child for child in children if child not in ended]
                failed += sum(_failed(child, bars) for child in ended)
                for child in children:
                    said = f"{child.run.folder.name}  {child.last_line('epoch')}"
                    bars.update(child.bar, description=said)
                done = len(chosen) - len(waiting) - len(children)
                bars.update(whole, description=f"{done} of {len(chosen)} runs")
        finally:
            for child in children:
                child.process.terminate()
            for child in children:
                child.process.wait()
    return failed


def _progress(console: Console) -> Progress:
    line = Column(no_wrap=True, overflow="ellipsis")
    said = TextColumn("{task.description}", markup=False, table_column=line)
    return Progress(TimeElapsedColumn(), said, console=console, transient=True)


def _start(search: Search, run: Run, args: argparse.Namespace) -> subprocess.Popen[bytes]:
    """A process that trains, with its share of the threads."""
    command: list[str | Path] = [sys.executable, "-m", "growprune", "train", search.recipe]
    command += ["--data", args.data, "--out", run.folder, "--seed", str(run.seed), "--resume"]
    command += ["--features", args.features] if args.features else []
    for value in (*search.set, *search.trials[run.trial].set):
        command += ["--set", value]
    environment = os.environ | dict.fromkeys(THREADS, str(max(1, args.threads // args.jobs)))
    with run.log.open("ab") as log:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


def _failed(child: Child, bars: Progress) -> bool:
    """Report a run that has ended, and say whether it failed."""
    bars.remove_task(child.bar)
    failed = child.process.returncode != 0
    said = f"failed: {child.last_line()} ({child.run.log})" if failed else "done"
    line = f"{child.run.folder.name}  {said}"
    bars.console.print(line, highlight=False, markup=False, soft_wrap=True)
    return failed


def table(search: Search, runs: Sequence[Run]) -> str:
    """The trials in the order of their dev metric, the best first, as Markdown."""
    task = TASKS[runs[0].recipe.task]
    found = {n: {run.seed: run.record() for run in runs if run.trial == n} for n in search.trials}
    records = {name: [record for record in of.values() if record] for name, of in found.items()}
    order = sorted(records, key=lambda n: _rank(records[n], task.metric, task.mode))
    compared = {name: comparison_table(records[name]) for name in order if records[name]}
    cells = {name: _cells(compared.get(name), records[name]) for name in order}
    scores = {metric: None for row in cells.values() for metric in row if metric.startswith("Dev ")}
    columns = (*WEIGHTS, *scores, LOSS, TIME)
    made = Comparison(
        columns=("Seeds", *columns),
        rows=tuple(
            (name, (_seeds(found[name]), *(cells[name].get(column, ABSENT) for column in columns)))
            for name in order
        ),
        notes=tuple(_note(search, name, compared.get(name)) for name in order),
    )
    return f"# Trials of {search.recipe}\n\n{_reading(search, task.metric)}\n\n{made.markdown()}"


def _rank(records: Sequence[Record], metric: str, mode: str) -> float:
    """The mean dev metric as a number that is lowest for the best; infinity where there is none."""
    values = [r.scores["dev"][metric] for r in records if "dev" not in r.learnt_splits]
    if not values:
        return float("inf")
    return statistics.fmean(values) * (1 if mode == "min" else -1)


def _cells(compared: Comparison | None, records: Sequence[Record]) -> Mapping[str, str]:
    """What the records say, by column."""
    if compared is None:
        return {}
    losses = [loss for r in records if (loss := r.epochs[-1].train_loss) is not None]
    spread = f" ± {statistics.stdev(losses):.3f}" if len(losses) > 1 else ""
    return {metric: cell for metric, (cell,) in compared.rows} | {
        LOSS: f"{statistics.fmean(losses):.3f}{spread}" if losses else ABSENT
    }


def _seeds(found: Mapping[int, Record | None]) -> str:
    """Seeds that are in the table, and those that are not yet."""
    done = [str(seed) for seed, record in found.items() if record]
    missing = [str(seed) for seed, record in found.items() if not record]
    parts = [", ".join(done)] if done else []
    return "; ".join(parts + ([f"no {', '.join(missing)} yet"] if missing else []))


def _note(search: Search, name: str, compared: Comparison | None) -> str:
    """What a trial changes, and what its figures depend on."""
    changes = " ".join(f"`{value}`" for value in search.trials[name].set) or "nothing changed"
    summary = search.trials[name].summary
    said = f"{summary} ({changes})" if summary else changes
    return f"{name}: {said}" + (f". {compared.notes[0]}" if compared else "")


def _reading(search: Search, metric: str) -> str:
    common = " ".join(f"`{value}`" for value in search.set)
    with_common = f" with {common}" if common else ""
    return (
        f"Every trial: `{search.recipe}`{with_common}. Sorted by dev {metric}, the best first. "
        "Weights are active ones; the train loss is the last epoch's. Several seeds: mean ± sample "
        "standard deviation."
    )


if __name__ == "__main__":
    main()
