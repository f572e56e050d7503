"""What pages of figures share: Markdown, means over seeds, where a row comes from, plots."""

import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from growprune.files import replacing
from growprune.reports import Record
from growprune.reports.record import Hardware


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the first one the head; all columns but the first are flush right."""
    head, *others = rows
    rule = ("---", *["---:"] * (len(head) - 1))
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *others))


def by_shape(
    rows: Sequence[dict[str, Any]], columns: Sequence[str], cells: Callable[[Any], Sequence[str]]
) -> str:
    """A table for each time, batch and width, as Markdown."""
    shape = ("time", "batch", "width")
    parts = []
    for values, found in itertools.groupby(rows, lambda row: tuple(row[key] for key in shape)):
        title = ", ".join(f"{key} {value}" for key, value in zip(shape, values, strict=True))
        parts += [f"## {title}", markdown([columns, *map(cells, found)])]
    return "\n\n".join(parts) + "\n"


def spread(values: Sequence[float]) -> str:
    """Mean and sample standard deviation, as far as there are any."""
    if len(values) < 2:
        return "".join(f"{value:.1f}" for value in values)
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def minutes(runs: Sequence[Record]) -> str:
    """How long training took, on average; of runs on several kinds of devices on each."""
    devices: dict[str, list[float]] = {}
    for run in runs:
        devices.setdefault(run.hardware.device, []).append(run.seconds / 60)
    parts = [f"{statistics.mean(taken):.0f}" for taken in devices.values()]
    if len(parts) == 1:
        return parts[0]
    return ", ".join(f"{part} ({device})" for part, device in zip(parts, devices, strict=True))


def origin(name: str, runs: Sequence[Record]) -> str:
    """Seeds, data, commits and machines of a row's runs."""
    seeds = ", ".join(str(run.seed) for run in runs)
    learnt = " and ".join(runs[0].learnt_splits)
    commits = ", ".join(dict.fromkeys((run.commit or "?")[:10] for run in runs))
    machines = [machine(run.hardware) for run in runs]
    return (
        f"{name}: seed {seeds}; learnt from {learnt}; commit {commits}"
        f"{' with local changes' if any(run.dirty for run in runs) else ''}; "
        f"{' and '.join(dict.fromkeys(machines))}"
    )


def machine(hardware: Hardware) -> str:
    """Where a run took place, in words."""
    processor = f"{hardware.cpu}, {hardware.threads} thread(s)"
    return processor if hardware.device == "cpu" else f"{hardware.device} beside {processor}"


@contextmanager
def plot_over_weights(path: Path, weights: str, score: str) -> Iterator[Axes]:
    """Axes to draw on, named so; written as PNG at the end."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    yield axes
    axes.set_xlabel(weights)
    axes.set_ylabel(score)
    axes.grid(color="0.9")
    axes.legend(fontsize=7)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
