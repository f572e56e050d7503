"""What each step of the method and each trick is worth on a corpus, as Markdown and a plot.

The trials and their texts are those of a file of `search.py`; the figures are of dev.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from search import Search, open_runs, read_search
from tables import plot_over_weights

from growprune.errors import DataError
from growprune.reports import Record, comparison_table

WHOLE = "whole"
Trials = Mapping[str, Sequence[Record]]
"""Finished runs of each trial, by its name."""


@dataclass(frozen=True)
class Steps:
    """Trials of a recipe, one change at a time from the whole method.

    Attributes:
        file: the trials.
        others: trials of other networks with as many weights.
        curves: trials with fewer and more connections, from the fewest, by what a curve is of.
        score: what a record calls the figure compared.
        column: what tables call it.
        scored: what it is, in words.
        weights: whose weights are told, "whole" or "recurrent".
        counted: whose these are, in words.
        folder: where records lie, within that of all results; its plot is beside it.
        heading: of the first section.
    """

    file: Path
    others: tuple[str, ...]
    curves: Mapping[str, tuple[str, ...]]
    score: str
    column: str
    scored: str
    weights: str
    counted: str
    folder: str = "steps"
    heading: str = "What each step and each trick is worth"

    def sections(self, out: Path) -> str:
        """Sections on the trials whose records lie in `out`; nothing where there are none.

        Raises:
            DataError: a record is not of a trial, or there are some, but none of the whole method.
            CheckpointError: a record is damaged.
        """
        search = read_search(self.file)
        trials = self.read(search, out / self.folder)
        if not trials:
            return ""
        if WHOLE not in trials:
            raise DataError(
                f"{out / self.folder}: nothing to compare with; copy {WHOLE}-seed0.json there"
            )
        points = dict.fromkeys(chain(*self.curves.values()))
        alone = {WHOLE, *self.others, *points}
        changes = [name for name in search.trials if name not in alone]
        sections = [
            f"## {self.heading}",
            self.table(search, trials, (WHOLE, *changes)),
            self.notes(search, trials),
        ]
        if self.others:
            sections.append("## Other networks with as many weights")
            sections.append(self.table(search, trials, (WHOLE, *self.others)))
        if trials.keys() & points.keys() - {WHOLE}:
            sections.append("## Fewer and more connections")
            sections.append(self.table(search, trials, tuple(points)))
            sections.append(f"![{_capital(self.column)} against weights]({self.folder}.png)")
            self.plot(trials, out / f"{self.folder}.png")
        return "\n" + "\n\n".join(sections) + "\n"

    def read(self, search: Search, folder: Path) -> Trials:
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
                raise DataError(
                    f"{path}: not of a trial that {self.file.name} has now; train it again"
                )
            found[run.trial].append(record)
        return {name: records for name, records in found.items() if records}

    def table(self, search: Search, trials: Trials, names: Sequence[str]) -> str:
        """A row for each of these trials that is finished."""
        rows = [("trial", "what", "seeds", "weights", self.column), ("---", "---", *["---:"] * 3)]
        for name in names:
            if name in trials:
                seeds = ", ".join(str(record.seed) for record in trials[name])
                rows.append((name, search.trials[name].summary, seeds, *self.figures(trials, name)))
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def figures(self, trials: Trials, name: str) -> tuple[str, str]:
        """Weights, and the score with its difference to the whole method's."""
        alone = dict(comparison_table(trials[name]).rows)
        beside = (
            alone if name == WHOLE else dict(comparison_table([*trials[WHOLE], *trials[name]]).rows)
        )
        layers = {"whole": "whole model", "recurrent": "recurrent layers"}[self.weights]
        return alone[f"Weights, {layers}"][0], beside[_capital(self.column)][-1]

    def notes(self, search: Search, trials: Trials) -> str:
        """How to read the tables, and where their figures come from."""
        records = list(chain(*trials.values()))
        dev = records[0].data.splits["dev"]
        size = f"{dev.images} images" if dev.images else f"{dev.utterances} utterances"
        settings = (" ".join(value.split()) for value in search.set)  # on one line each
        common = " ".join(f"`{setting}`" for setting in settings)
        common = f" with {common}" if common else ""
        commits = _distinct(f"{(r.commit or '?')[:10]}{' changed' * r.dirty}" for r in records)
        machines = _distinct(f"{r.hardware.cpu}, {r.hardware.threads} thread(s)" for r in records)
        return "\n".join(
            (
                f"- {self.scored} of dev ({size}), greedy; in brackets the difference to "
                f'"{WHOLE}". Several seeds: mean ± sample standard deviation.',
                f"- Weights: active connections and biases of the {self.counted}.",
                f"- Every trial: `{search.recipe}`{common}, and what "
                f"benchmarks/{self.file.name} sets for it; commit {commits}; {machines}",
            )
        )

    def plot(self, trials: Trials, path: Path) -> None:
        """The score against the weights."""
        with plot_over_weights(
            path, f"weights of the {self.counted}", f"{self.column}, greedy, x 100"
        ) as axes:
            for label, names in [*self.curves.items(), *((name, (name,)) for name in self.others)]:
                points = [self.point(trials[name]) for name in names if name in trials]
                if points:
                    marker = "x" if label in self.others else "o"
                    weights, scores, spreads = zip(*points, strict=True)
                    axes.errorbar(weights, scores, spreads, marker=marker, capsize=3, label=label)
            axes.set_ylim(0, 1.05 * axes.dataLim.y1)

    def point(self, records: Sequence[Record]) -> tuple[float, float, float]:
        """Weights, and mean and spread of the score, times a hundred."""
        scores = [100 * record.scores["dev"][self.score] for record in records]
        weights = [getattr(record.cost.weights, self.weights) for record in records]
        spread = statistics.stdev(scores) if scores[1:] else 0.0
        return statistics.fmean(weights), statistics.fmean(scores), spread


def _distinct(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
