"""The comparison of runs: rows of figures, for Markdown and for the terminal."""

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from growprune.reports.record import Flops, Latency, Record, Split, check_record, group_by_recipe

_Write = Callable[[float, float | None], str]
_Compare = Callable[[float, float], str]

_ABSENT = "-"
_OTHER_CORPUS = ": "  # in the name of a score, after the corpus's
_PREFIXES = ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"), (1, ""))


@dataclass(frozen=True)
class Comparison:
    """Figures of several recipes side by side.

    Attributes:
        columns: one name per recipe; its seeds are merged.
        rows: metric and one cell per column, such as `("Test WER", ("12.9 %", "8.7 % (-4.2)"))`.
        notes: one line per column about seeds, data, code and hardware, and how to read the table.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    notes: tuple[str, ...]

    def markdown(self) -> str:
        """The table as GitHub Markdown, with the notes as a list below it."""
        lines = [("", *self.columns), ("---", *("---:" for _ in self.columns))]
        lines += [(metric, *cells) for metric, cells in self.rows]
        table = "\n".join(f"| {' | '.join(map(_escape, line))} |" for line in lines)
        notes = "\n".join(f"- {_escape(note)}" for note in self.notes)
        return f"{table}\n\n{notes}\n"


def comparison_table(records: Sequence[Mapping[str, Any] | Record]) -> Comparison:
    """Compare runs with the first one's recipe; runs that differ only in their seed are merged.

    Several seeds are given as mean ± sample standard deviation. Costs carry their ratio to the
    first column, scores their difference, that of error rates in percentage points.

    Args:
        records: parsed `record.json` files, in the order of the columns.

    Raises:
        CheckpointError: a record is damaged.
        ValueError: there are no records.
    """
    if not records:
        raise ValueError("there is nothing to compare: give at least one record")
    checked = [
        record if isinstance(record, Record) else check_record(record, f"record {number}")
        for number, record in enumerate(records, start=1)
    ]
    groups = group_by_recipe(checked)
    rows = [_row(metric, list(groups.values())) for metric in _metrics(checked)]
    notes = [_note(name, group) for name, group in groups.items()]
    return Comparison(
        columns=tuple(groups),
        rows=tuple(row for row in rows if set(row[1]) != {_ABSENT}),
        notes=(*notes, *_reading(groups)),
    )


def print_comparison(records: Sequence[Mapping[str, Any] | Record], console: Console) -> None:
    """Print the comparison on a terminal; arguments and errors as for `comparison_table`."""
    comparison = comparison_table(records)
    table = Table("", title="Comparison", title_justify="left")
    for column in comparison.columns:
        table.add_column(column, justify="right")
    for metric, cells in comparison.rows:
        table.add_row(metric, *cells)
    console.print(table, highlight=False)
    for note in comparison.notes:
        console.print(note, style="dim", highlight=False, markup=False)


@dataclass(frozen=True)
class _Metric:
    """A row: where its value stands in a record, and how it and its comparison are written."""

    name: str
    value: Callable[[Record], float | None]
    write: _Write
    compare: _Compare


def _metrics(records: Sequence[Record]) -> list[_Metric]:
    """The rows, in order; error rates of every split that a record scores."""
    return [
        _Metric("Weights, recurrent layers", lambda r: r.cost.weights.recurrent, _amount, _ratio),
        _Metric("... if dense", lambda r: r.cost.weights.recurrent_dense, _amount, _ratio),
        _Metric("Weights, whole model", lambda r: r.cost.weights.whole, _amount, _ratio),
        _Metric("... if dense", lambda r: r.cost.weights.whole_dense, _amount, _ratio),
        *(_flops(unit, part) for unit in _UNITS for part in _PARTS),
        _latency("Latency per utterance, median", "speech", "milliseconds"),
        *_caption_latencies(records),
        *_scores(records),
        _Metric("Training time", lambda r: r.seconds / 60, _minutes, _ratio),
    ]


def _flops(unit: str, part: str) -> _Metric:
    def value(record: Record) -> float | None:
        flops: Flops | None = getattr(record.cost, f"flops_per_{unit}")
        return None if flops is None else getattr(flops, part)

    return _Metric(f"FLOPs per {_UNITS[unit]}, {_PARTS[part]}", value, _amount, _ratio)


def _caption_latencies(records: Sequence[Record]) -> Iterator[_Metric]:
    """Two rows per engine; one that is not named is whichever a record was evaluated with."""
    engines = dict.fromkeys(engine for record in records for engine in record.latencies)
    for engine in (None, *engines):
        place = "median" if engine is None else engine
        yield _latency(f"Latency per caption, {place}", "captioning", "milliseconds", engine)
        yield _latency("... with beam 3", "captioning", "milliseconds_beam_3", engine)


def _latency(name: str, task: str, key: str, engine: str | None = None) -> _Metric:
    def value(record: Record) -> float | None:
        latency = record.latencies.get(engine) if engine else _lone_latency(record)
        return None if latency is None or record.task != task else getattr(latency, key)

    return _Metric(name, value, _milliseconds, _ratio)


def _lone_latency(record: Record) -> Latency | None:
    """The only figure there is."""
    return None if record.latencies else record.latency


def _scores(records: Sequence[Record]) -> list[_Metric]:
    """Rows per scored split: dev, test, then others such as "test/beam", then other corpora."""
    order = {"dev": 0, "test": 1}
    splits = sorted(
        {split for record in records for split in record.scores},
        key=lambda split: (_OTHER_CORPUS in split, order.get(split, 2), split),
    )

    def metric(split: str, key: str) -> _Metric:
        name, write, compare = _SCORES[key]
        title = f"{split if _OTHER_CORPUS in split else split[0].upper() + split[1:]} {name}"
        return _Metric(title, lambda r: _score(r, split, key), write, compare)

    return [metric(split, key) for split in splits for key in _SCORES]


def _score(record: Record, split: str, key: str) -> float | None:
    """A score; none on a split that was learnt from."""
    if split.partition("/")[0] in record.learnt_splits:
        return None
    return record.scores.get(split, {}).get(key)


def _row(metric: _Metric, groups: Sequence[Sequence[Record]]) -> tuple[str, tuple[str, ...]]:
    means: list[float | None] = []
    cells = []
    for group in groups:
        values = [value for value in map(metric.value, group) if value is not None]
        mean = statistics.fmean(values) if values else None
        means.append(mean)
        spread = statistics.stdev(values) if len(values) > 1 else None
        cell = _ABSENT if mean is None else metric.write(mean, spread)
        if len(means) > 1 and mean is not None and means[0] is not None:
            cell += f" ({metric.compare(mean, means[0])})"
        cells.append(cell)
    return metric.name, tuple(cells)


def _amount(mean: float, spread: float | None) -> str:
    """A count with three significant digits and a decimal prefix: "2.59 M", "412 k"."""
    scale, prefix = next(((s, p) for s, p in _PREFIXES if abs(mean) >= 0.9995 * s), (1, ""))
    return _with_spread(mean / scale, None if spread is None else spread / scale) + prefix


def _milliseconds(mean: float, spread: float | None) -> str:
    return f"{_with_spread(mean, spread)} ms"


def _minutes(mean: float, spread: float | None) -> str:
    return f"{_with_spread(mean, spread)} min"


def _percent(mean: float, spread: float | None) -> str:
    return f"{_pair(100 * mean, None if spread is None else 100 * spread, 1)} %"


def _fraction(mean: float, spread: float | None) -> str:
    return _pair(mean, spread, 3)


def _with_spread(mean: float, spread: float | None) -> str:
    """Three significant digits, and the spread to the same decimal place; 0 spread is left out."""
    # A mean such as 9.996 will be written as 10.0, hence the margin.
    digits = 0 if mean == 0 else max(0, 2 - math.floor(math.log10(1.0005 * abs(mean))))
    return _pair(mean, spread or None, digits)


def _pair(mean: float, spread: float | None, digits: int) -> str:
    return f"{mean:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def _ratio(value: float, first: float) -> str:
    if value == first:
        return "same"
    if value == 0 or first == 0:
        return f"{_ABSENT}x"
    factor, word = (first / value, "less") if value < first else (value / first, "more")
    return f"{factor:.{2 if factor < 2 else 1}f}x {word}"


def _points(value: float, first: float) -> str:
    return f"{100 * (value - first):+.1f}"


def _difference(value: float, first: float) -> str:
    return f"{value - first:+.3f}"


_UNITS = {"second": "second of audio", "caption": "caption"}
_PARTS = {
    "recurrent": "recurrent layers",
    "recurrent_measured": "recurrent layers, zeros skipped",
    "whole": "whole model",
    "whole_measured": "whole model, zeros skipped",
}
_SCORES: dict[str, tuple[str, _Write, _Compare]] = {
    "wer": ("WER", _percent, _points),
    "cer": ("CER", _percent, _points),
    "cider_d": ("CIDEr-D", _fraction, _difference),
    "bleu_4": ("BLEU-4", _fraction, _difference),
    "rouge_l": ("ROUGE-L", _fraction, _difference),
}


def _note(name: str, group: Sequence[Record]) -> str:
    """Seeds, data, code and hardware of one column; what differs between its runs is listed."""
    parts = [
        f"seed{'s' if len(group) > 1 else ''} {_distinct(str(r.seed) for r in group)}",
        f"data {_distinct(_data(r) for r in group)}",
        f"commit {_distinct(_commit(r) for r in group)}",
        _distinct(_software(r) for r in group),
        _distinct(_hardware(r) for r in group),
    ]
    latency = _distinct(_measured(found) for r in group for found in _latencies(r))
    return f"{name}: " + "; ".join(parts + ([f"latency by {latency}"] if latency else []))


def _latencies(record: Record) -> Iterable[Latency]:
    """What the table shows of a record."""
    return record.latencies.values() or ([record.latency] if record.latency else [])


def _distinct(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _data(record: Record) -> str:
    splits = record.data.splits
    sizes = [f"{_size(split)} {name}" for name, split in splits.items()]
    things = "images" if any(split.images for split in splits.values()) else "utterances"
    text = f"{record.data.name} ({', '.join(sizes)} {things})" if sizes else record.data.name
    learnt = record.learnt_splits
    return text if learnt == ("train",) else f"{text}, learnt from {' and '.join(learnt)}"


def _size(split: Split) -> int | None:
    return split.images or split.utterances


def _commit(record: Record) -> str:
    commit = "unknown" if record.commit is None else record.commit[:10]
    return f"{commit} with uncommitted changes" if record.dirty else commit


def _software(record: Record) -> str:
    versions = record.versions
    return " and ".join(
        f"{key} {versions[key]}" for key in ("growprune", "torch") if key in versions
    )


def _hardware(record: Record) -> str:
    hardware = record.hardware
    threads = f"{hardware.threads} thread{'s' if hardware.threads > 1 else ''}"
    cores = f" of {hardware.cores} cores" if hardware.cores else ""
    return f"{hardware.cpu}, {threads}{cores}, on {hardware.device}"


def _measured(latency: Latency) -> str:
    threads = f"{latency.threads} thread{'s' if latency.threads > 1 else ''}"
    over = "" if latency.audio_seconds is None else f" over {latency.audio_seconds:.1f} s of audio"
    return f"{latency.engine}, {threads}, {latency.runs} runs{over}"


def _reading(groups: Mapping[str, Sequence[Record]]) -> list[str]:
    """How to read the cells, as far as it is needed."""
    lines = ["Weights: active connections and biases. FLOPs: two per active connection and use."]
    if len(groups) > 1:
        lines.append(
            f"In brackets: factor to {next(iter(groups))}; for scores, the difference, in "
            "percentage points where they are error rates."
        )
    if any(len(group) > 1 for group in groups.values()):
        lines.append("Several seeds: mean ± standard deviation over the seeds.")
    return lines


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|")
