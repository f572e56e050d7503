"""The latency benchmark's record as Markdown and pictures."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cells import share_of
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from growprune.files import replacing

Row = Mapping[str, Any]

REFERENCE = "onnxruntime"
_COLORS = {  # Okabe and Ito, told apart by colour-blind readers too
    ("growprune", "blocks"): ("#0072B2", "o-", "ours, 16x1 blocks"),
    ("growprune", "csr"): ("#009E73", "s-", "ours, single weights (CSR)"),
    ("SciPy CSR", "sparse"): ("#CC79A7", "^-", "SciPy CSR"),
}
_DENSE = {
    "growprune": "#0072B2",
    "onnxruntime": "#D55E00",
    "onnxruntime int8": "#E69F00",
    "OpenVINO": "#56B4E9",
    "torch.nn.LSTM": "#999999",
    "torch compiled": "#444444",
}


def summary(record: Mapping[str, Any], width: int) -> str:
    """Microseconds a step and ratios to onnxruntime at one width, and recognisers, as Markdown."""
    rows = record["cells"]
    told = _measured_on(record["machine"])
    lines = [f"{told} In brackets: times as fast as onnxruntime's dense layer.", ""]
    for time, what in ((100, "a step of a sequence of 100"), (1, "a lone step")):
        chosen = [row for row in rows if row["width"] == width and row["time"] == time]
        dense = {row["engine"]: row for row in chosen if row["layout"] == "dense"}
        if REFERENCE not in dense:
            continue
        kept = list(dict.fromkeys(row["kept"] for row in chosen))
        lines.append(_line([f"LSTM-{width}, {what}", *(f"{share} kept" for share in kept)]))
        lines.append(_line(["---", *("---:" for _ in kept)]))
        base = dense[REFERENCE]
        for (engine, layout), (_, _, label) in _COLORS.items():
            found = {r["kept"]: r for r in chosen if (r["engine"], r["layout"]) == (engine, layout)}
            cells = [_cell(found.get(share), base) for share in kept]
            if found:
                lines.append(_line([label, *cells]))
        for engine, row in dense.items():
            label = "ours, dense" if engine == "growprune" else engine
            lines.append(_line([label, _cell(row, base), *("" for _ in kept[1:])]))
        lines.append("")
    if record["recognizers"]:
        lines += [*_recognizer_lines(record), ""]
    return "\n".join(lines)


def report(record: Mapping[str, Any]) -> str:
    """The whole record as Markdown."""
    parts = [
        "# Latency of packed models",
        _measured_on(record["machine"]),
        _limits(record["limits"]),
    ]
    rows = record["cells"]
    parts += [
        _cell_table(rows, width, time)
        for width in sorted({row["width"] for row in rows})
        for time in sorted({row["time"] for row in rows})
    ]
    if rows:
        parts.append("![Latency against connections kept](latency.png)")
    if record["recognizers"]:
        parts.append(_recognizer_table(record))
    if record["cold_start"]:
        parts.append(_start_table(record["cold_start"]))
    parts += [f"Left out: {text}" for text in record["left_out"]]
    return "\n\n".join(parts) + "\n"


def plot(record: Mapping[str, Any], path: Path) -> None:
    """Microseconds a step against the share of connections kept, one panel a width and mode."""
    rows = record["cells"]
    widths, times = (sorted({row[key] for row in rows}) for key in ("width", "time"))
    figure = Figure(figsize=(1.5 + 4.5 * len(widths), 1.5 + 3.6 * len(times)), layout="constrained")
    grid = figure.subplots(len(times), len(widths), sharex=True, sharey=True, squeeze=False)
    for axes_row, time in zip(grid, times, strict=True):
        for axes, width in zip(axes_row, widths, strict=True):
            _draw(axes, [r for r in rows if r["width"] == width and r["time"] == time])
            what = "a lone step" if time == 1 else f"a step of a sequence of {time}"
            axes.set_title(f"LSTM-{width}, {what}", fontsize=10)
        axes_row[0].set_ylabel("microseconds a step")
    for axes in grid[-1]:
        axes.set_xlabel("connections kept")
    handles, labels = grid[0][0].get_legend_handles_labels()
    columns = min(2 * len(widths), 4)
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, fontsize=9, frameon=False
    )
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


def _draw(axes: Axes, rows: Sequence[Row]) -> None:
    shares = sorted({row["kept"] for row in rows}, key=share_of)
    for (engine, layout), (color, style, label) in _COLORS.items():
        found = [row for row in rows if (row["engine"], row["layout"]) == (engine, layout)]
        found.sort(key=lambda row: share_of(row["kept"]))
        if found:
            axes.plot(*_points(found), style, color=color, label=label, markersize=4)
    for row in rows:
        if row["layout"] == "dense" and row["engine"] in _DENSE:
            label = "ours, dense" if row["engine"] == "growprune" else f"{row['engine']}, dense"
            axes.axhline(
                _microseconds(row), color=_DENSE[row["engine"]], lw=1, ls="--", label=label
            )
        if row["layout"] == "dense" and row["engine"] == REFERENCE:
            ends = [share_of(shares[0]), 1.0]
            axes.plot(
                ends,
                [end * _microseconds(row) for end in ends],
                ":",
                color=_DENSE[REFERENCE],
                label=f"in proportion to {REFERENCE}'s dense",
            )
    blocks = [row for row in rows if row["layout"] == "blocks"]
    blocks.sort(key=lambda row: share_of(row["kept"]))
    if blocks:
        limits = [1e6 * row["limit"] for row in blocks]
        axes.plot(_points(blocks)[0], limits, color="black", lw=1, label="limit for blocks")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator([share_of(share) for share in shares]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels(shares, fontsize=8)
    axes.grid(color="0.9", lw=0.6)


def _points(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    return [share_of(row["kept"]) for row in rows], [_microseconds(row) for row in rows]


def _cell_table(rows: Sequence[Row], width: int, time: int) -> str:
    """Ours at every density, with the ratio to every other engine."""
    chosen = [row for row in rows if row["width"] == width and row["time"] == time]
    dense = {row["engine"]: row for row in chosen if row["layout"] == "dense"}
    sparse = {row["kept"]: row for row in chosen if row["layout"] == "sparse"}
    what = "a lone step" if time == 1 else f"a step of a sequence of {time}"
    peers = [name for name in dense if name != "growprune"]
    headings = [f"{name} {_microseconds(dense[name]):.3g} us" for name in peers]
    if "growprune" in dense:
        headings.append(f"ours dense {_microseconds(dense['growprune']):.3g} us")
    fixed = ["kept", "layout", "us", "quartiles", "KB moved", "kFLOP", "in", "of the limit"]
    lines = [
        f"## LSTM-{width}, {what}",
        "",
        "How many times faster than each engine; SciPy CSR with the same connections.",
        "",
        _line([*fixed, *headings, *(["SciPy CSR"] if sparse else [])]),
        _line(["---:"] * (len(fixed) + len(headings) + bool(sparse))),
    ]
    for row in chosen:
        if row["engine"] == "growprune":
            others = [*(dense[name] for name in peers), dense.get("growprune")]
            ratios = [_ratio(other, row) for other in others if other is not None]
            if sparse:
                ratios.append(_ratio(sparse[row["kept"]], row))
            lines.append(_line([*_fixed_cells(row), *ratios]))
    return "\n".join(lines)


def _fixed_cells(row: Row) -> list[str]:
    seconds = row["seconds"]
    return [
        row["kept"],
        row["layout"],
        f"{_microseconds(row):.3g}",
        f"{1e6 * seconds['low']:.3g}-{1e6 * seconds['high']:.3g}",
        f"{row['bytes'] / 1000:.0f}",
        f"{row['flops'] / 1000:.0f}",
        row["level"],
        f"{row['limit'] / seconds['median']:.0%}",
    ]


def _recognizer_table(record: Mapping[str, Any]) -> str:
    return "\n".join(["## Whole recognisers", "", *_recognizer_lines(record)])


def _recognizer_lines(record: Mapping[str, Any]) -> list[str]:
    lines = [
        f"Milliseconds of compute per second of speech; {record['speech']}.",
        "",
        _line(["recogniser", "network alone", "with features and decoding"]),
        _line(["---", "---:", "---:"]),
    ]
    for row in record["recognizers"]:
        cells = (f"{1000 * row[key]['median']:.2f}" for key in ("network", "whole"))
        lines.append(_line([row["name"], *cells]))
    return lines


def _start_table(rows: Sequence[Row]) -> str:
    lines = [
        "## Cold start",
        "",
        "A process of its own from its start to its end: import, load, first result.",
        "",
        _line(["program", "seconds", "peak memory, MB"]),
        _line(["---", "---:", "---:"]),
    ]
    lines += [_line([r["name"], f"{r['seconds']:.3f}", f"{r['megabytes']:.0f}"]) for r in rows]
    return "\n".join(lines)


def _limits(limits: Mapping[str, Any]) -> str:
    rates = ", ".join(
        f"{level['name']} {level['bytes_per_second'] / 1e9:.0f} GB/s" for level in limits["levels"]
    )
    return (
        f"Limits measured in the same process: copying in {rates} (bytes read and written); "
        f"{limits['flops_per_second'] / 1e9:.0f} GFLOP/s in a large matrix product. The limit of a "
        "layer is the longer of moving its bytes at the rate of the cache that holds them and of "
        "its operations; a kernel that reads without writing can beat it."
    )


def _measured_on(machine: Mapping[str, Any]) -> str:
    return (
        f"{machine['cpu']}, {machine['threads']} thread, {machine['kernel']} kernels, "
        f"commit {machine['commit']}; {_versions(machine['versions'])}. Written by "
        "`benchmarks/latency.py`; medians over interleaved rounds, all in one process; connections "
        "drawn at random, the width being the seed."
    )


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _microseconds(row: Row) -> float:
    return 1e6 * row["seconds"]["median"]


def _ratio(other: Row, ours: Row) -> str:
    return f"{other['seconds']['median'] / ours['seconds']['median']:.2f}"


def _cell(row: Row | None, base: Row) -> str:
    if row is None:
        return ""
    return f"{_microseconds(row):.3g} us ({_ratio(base, row)}x)"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
