"""What each step of the method and each trick is worth on AN4, as Markdown and a plot.

The trials and their texts are those of an4-steps.toml; the figures are of dev.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from search import Search, open_runs, read_search
from tables import plot_over_weights

from growprune.errors import DataError
from growprune.reports import Record, comparison_table

TRIALS = Path(__file__).with_name("an4-steps.toml")
WHOLE = "whole"
OTHERS = ("small-dense-lstm", "small-dense-gru", "small-dense-hlstm", "sparse-lstm", "narrower")
CURVES = {
    "single connections": ("half", WHOLE, "twice"),
    "blocks of 16": ("half-blocks", "blocks"),
}
Trials = Mapping[str, Sequence[Record]]
"""Finished runs of each trial, by its name."""


def steps(out: Path) -> str:
    """Sections on the trials whose records lie in `out`/steps; nothing where there are none.

    Raises:
        DataError: a record is not of a trial, or there are some, but none of the whole method.
        CheckpointError: a record is damaged.
    """
    search = read_search(TRIALS)
    trials = read_trials(search, out / "steps")
    if not trials:
        return ""
    if WHOLE not in trials:
        raise DataError(f"{out / 'steps'}: nothing to compare with; copy {WHOLE}-seed0.json there")
    curves = tuple(chain(*CURVES.values()))
    changes = [name for name in search.trials if name not in (*curves, *OTHERS)]
    sections = [
        "## What each step and each trick is worth",
        table(search, trials, (WHOLE, *changes)),
        notes(search, trials),
        "## Other networks with as many weights",
        table(search, trials, (WHOLE, *OTHERS)),
        "## Fewer and more connections",
        table(search, trials, curves),
        "![Dev WER against weights](steps.png)",
    ]
    plot(trials, out / "steps.png")
    return "\n" + "\n\n".join(sections) + "\n"


def read_trials(search: Search, folder: Path) -> Trials:
    """The trials that have records named TRIAL-seedN.json in the folder, in the file's order.

    Raises:
        DataError: a record is not of a trial as the file has it now.
        CheckpointError: a record is damaged.
    """
    runs = {run.folder.name: run for run in open_runs(search, folder)}
    found: dict[str, list[Record]] = {name: [] for name in search.trials}
    for path in sorted(folder.glob("*.json")):
        run = runs.get(path.stem)
        record = run.record(path) if run else None
        if run is None or record is None:
            raise DataError(f"{path}: not of a trial that {TRIALS.name} has now; train it again")
        found[run.trial].append(record)
    return {name: records for name, records in found.items() if records}


def table(search: Search, trials: Trials, names: Sequence[str]) -> str:
    """A row for each of these trials that is finished."""
    rows = [("trial", "what", "seeds", "weights", "dev WER"), ("---", "---", *["---:"] * 3)]
    for name in names:
        if name in trials:
            seeds = ", ".join(str(record.seed) for record in trials[name])
            rows.append((name, search.trials[name].summary, seeds, *figures(trials, name)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def figures(trials: Trials, name: str) -> tuple[str, str]:
    """Weights, and the word error rate with its difference to the whole method's."""
    alone = dict(comparison_table(trials[name]).rows)
    beside = (
        alone if name == WHOLE else dict(comparison_table([*trials[WHOLE], *trials[name]]).rows)
    )
    return alone["Weights, whole model"][0], beside["Dev WER"][-1]


def notes(search: Search, trials: Trials) -> str:
    """How to read the tables, and where their figures come from."""
    records = list(chain(*trials.values()))
    dev = records[0].data.splits["dev"].utterances
    common = " ".join(f"`{value}`" for value in search.set)
    commits = _distinct(f"{(r.commit or '?')[:10]}{' changed' * r.dirty}" for r in records)
    machines = _distinct(f"{r.hardware.cpu}, {r.hardware.threads} thread(s)" for r in records)
    return "\n".join(
        (
            f"- Word error rates of dev ({dev} utterances), greedy; in brackets the difference to "
            f'"{WHOLE}". Several seeds: mean ± sample standard deviation.',
            "- Weights: active connections and biases of the whole recogniser.",
            f"- Every trial: `{search.recipe}` with {common}, and what benchmarks/{TRIALS.name} "
            f"sets for it; commit {commits}; {machines}",
        )
    )


def plot(trials: Trials, path: Path) -> None:
    """Dev error against the weights of the recogniser."""
    with plot_over_weights(path, "weights of the recogniser", "dev WER, greedy (%)") as axes:
        for label, names in [*CURVES.items(), *((name, (name,)) for name in OTHERS)]:
            points = [_point(trials[name]) for name in names if name in trials]
            if points:
                marker = "x" if label in OTHERS else "o"
                weights, errors, spreads = zip(*points, strict=True)
                axes.errorbar(weights, errors, spreads, marker=marker, capsize=3, label=label)
        axes.set_ylim(bottom=0)


def _point(records: Sequence[Record]) -> tuple[float, float, float]:
    """Weights, and mean and spread of the word error rate in percent."""
    errors = [100 * record.scores["dev"]["wer"] for record in records]
    weights = statistics.fmean(record.cost.weights.whole for record in records)
    return weights, statistics.fmean(errors), statistics.stdev(errors) if errors[1:] else 0.0


def _distinct(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))
