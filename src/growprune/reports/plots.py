"""The report's pictures: curves over the epochs, and the connections of every matrix."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from growprune.files import replacing
from growprune.reports.record import Epoch, Record

# Colours of Okabe and Ito, told apart by colour-blind readers too.
_DEV, _TRAIN = "#0072B2", "#D55E00"
_PHASES = ("#999999", "#009E73", "#CC79A7", "#F0E442", "#56B4E9", "#E69F00")
_TINT = 0.22  # opacity of a phase's shade
_SEED_STYLES = ("-", "--", ":", "-.")
_FONT = {"size": 10}
_CELLS = 96
"""Cells along the longer side of a matrix's picture: about one per screen pixel."""


def plot_curves(groups: Mapping[str, Sequence[Record]], path: Path) -> None:
    """Draw dev scores, losses, density and time over the epochs, a column per recipe.

    Seeds share a column; phases of training are shaded. Rows share their scale over the recipes.

    Args:
        groups: runs by the name of their column, such as `group_by_recipe` returns.
        path: the PNG file to write.

    Raises:
        DataError: the file cannot be written.
    """
    epochs = [epoch for runs in groups.values() for run in runs for epoch in run.epochs]
    rows = [_draw_loss, _draw_density]
    if any(epoch.dev_cider_d is not None for epoch in epochs):
        rows.insert(0, _draw_cider_d)
    if any(epoch.dev_wer is not None for epoch in epochs):
        rows.insert(0, _draw_error_rate)
    if any(epoch.seconds is not None for epoch in epochs):
        rows.append(_draw_seconds)
    tints = dict(zip(dict.fromkeys(e.phase for e in epochs), _PHASES * len(epochs), strict=False))
    figure = Figure(figsize=(1 + 5 * len(groups), 1 + 2.4 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(groups), sharex="col", sharey="row", squeeze=False)
    for column, (name, runs) in zip(grid.T, groups.items(), strict=True):
        # A score on what was learnt must not be taken for one on something new.
        known = "\n(dev was learnt from too)" if "dev" in runs[0].learnt_splits else ""
        column[0].set_title(name + known, fontsize=12, fontweight="bold")
        for axes, draw in zip(column, rows, strict=True):
            _shade_phases(axes, runs[0].epochs, tints)
            for run, style in zip(runs, _SEED_STYLES * len(runs), strict=False):
                draw(axes, run, style)
            axes.grid(axis="y", color="0.85", linewidth=0.6)
            axes.set_axisbelow(True)
        column[-1].set_xlabel("epoch", **_FONT)
        column[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes, draw in zip(grid[:, 0], rows, strict=True):
        axes.set_ylabel(_LABELS[draw], **_FONT)
        axes.set_ylim(bottom=0)  # only now: it ends the fitting of the row's scale to its columns
    _add_legends(figure, grid, rows.index(_draw_loss), groups, tints)
    _save(figure, path)


def plot_connections(record: Record, masks: Mapping[str, NDArray[np.uint8]], path: Path) -> None:
    """Draw which connections of each matrix are active.

    A matrix of shape `(outputs, inputs, ...)` is drawn as `(outputs, inputs * ...)`; a cell shows
    the share of active connections in its block.

    Args:
        record: the run; its matrices give the order and the titles.
        masks: masks by the name of their matrix, 1 where a connection is active.
        path: the PNG file to write.

    Raises:
        DataError: the file cannot be written.
    """
    drawn = [matrix for matrix in record.matrices if matrix.name in masks]
    columns = min(4, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    figure = Figure(figsize=(1.2 + 3 * columns, 1 + 2.9 * rows), layout="constrained")
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(drawn) :]:
        axes.set_visible(False)
    for axes, matrix in zip(grid.flat, drawn, strict=False):
        mask = masks[matrix.name].reshape(matrix.shape[0], -1)
        outputs, inputs = mask.shape
        image = axes.imshow(
            block_densities(mask, _CELLS),
            cmap="viridis",
            norm=norm,
            aspect="auto",
            interpolation="nearest",
            extent=(0, inputs, outputs, 0),
        )
        axes.set_title(
            f"{_shortened(matrix.name)}\n{outputs} x {inputs}, {matrix.density:.1%}", fontsize=8
        )
        axes.set_xticks([0, inputs])
        axes.set_yticks([0, outputs])
        axes.tick_params(labelsize=8)
    for axes in grid[:, 0]:
        axes.set_ylabel("output", fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("input", fontsize=9)
    bar = figure.colorbar(image, ax=grid, shrink=0.8 if rows == 1 else 0.5, aspect=30)
    bar.set_label("active share of a cell's connections", fontsize=9)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    bar.set_ticks([0, 0.01, 0.05, 0.1, 0.25, 0.5, 1])
    figure.suptitle(f"Connections of {record.name}, seed {record.seed}", fontsize=12)
    _save(figure, path)


def block_densities(mask: NDArray[np.uint8], most: int) -> NDArray[np.float64]:
    """Average a mask over a grid of blocks, at most `most` along each side.

    Args:
        mask: shape `(outputs, inputs)`.
        most: greatest number of blocks along a side; blocks are as equal as whole rows allow.

    Returns:
        Shares of ones, in [0, 1], of shape `(min(outputs, most), min(inputs, most))`.
    """
    row_starts, column_starts = (_block_starts(length, most) for length in mask.shape)
    sums = np.add.reduceat(mask.astype(np.float64), row_starts, axis=0)
    sums = np.add.reduceat(sums, column_starts, axis=1)
    heights = np.diff(row_starts, append=mask.shape[0])
    widths = np.diff(column_starts, append=mask.shape[1])
    return sums / np.outer(heights, widths)


def _block_starts(length: int, most: int) -> NDArray[np.intp]:
    blocks = min(length, most)
    return np.arange(blocks) * length // blocks


def _shortened(name: str, most: int = 42) -> str:
    """Keep the end of a long name, where the layers differ."""
    return name if len(name) <= most else f"...{name[3 - most :]}"


def _draw_error_rate(axes: Axes, run: Record, style: str) -> None:
    rates = [math.nan if e.dev_wer is None else 100 * e.dev_wer for e in run.epochs]
    axes.plot(_numbers(run), rates, style, color=_DEV)


def _draw_cider_d(axes: Axes, run: Record, style: str) -> None:
    scores = [math.nan if e.dev_cider_d is None else e.dev_cider_d for e in run.epochs]
    axes.plot(_numbers(run), scores, style, color=_DEV)


def _draw_loss(axes: Axes, run: Record, style: str) -> None:
    for color, losses in (
        (_TRAIN, [e.train_loss for e in run.epochs]),
        (_DEV, [e.dev_loss for e in run.epochs]),
    ):
        values = [math.nan if loss is None else loss for loss in losses]
        axes.plot(_numbers(run), values, style, color=color)


def _draw_density(axes: Axes, run: Record, style: str) -> None:
    """Density of the matrices that are grown and pruned; a run without any is dense throughout."""
    densities = [100 * (1 if e.density is None else e.density) for e in run.epochs]
    axes.plot(_numbers(run), densities, style, color="black")
    axes.set_ylim(0, 104)


def _draw_seconds(axes: Axes, run: Record, style: str) -> None:
    seconds = [math.nan if e.seconds is None else e.seconds for e in run.epochs]
    axes.plot(_numbers(run), seconds, style, color="black")


_LABELS = {
    _draw_error_rate: "dev word error rate (%)",
    _draw_cider_d: "dev CIDEr-D",
    _draw_loss: "loss",
    _draw_density: "active connections (%)",
    _draw_seconds: "seconds an epoch",
}


def _numbers(run: Record) -> list[int]:
    return [epoch.epoch for epoch in run.epochs]


def _shade_phases(axes: Axes, epochs: Sequence[Epoch], tints: Mapping[str, str]) -> None:
    for phase, members in groupby(epochs, key=lambda epoch: epoch.phase):
        numbers = [epoch.epoch for epoch in members]
        axes.axvspan(numbers[0] - 0.5, numbers[-1] + 0.5, color=tints[phase], alpha=_TINT, lw=0)
    if epochs:
        axes.set_xlim(epochs[0].epoch - 0.5, epochs[-1].epoch + 0.5)


def _add_legends(
    figure: Figure,
    grid: NDArray[np.object_],
    losses_row: int,
    groups: Mapping[str, Sequence[Record]],
    tints: Mapping[str, str],
) -> None:
    """Say what the shades mean (below), and what the lines mean (in the panel of the losses)."""
    shades = [Patch(facecolor=tint, alpha=_TINT, label=phase) for phase, tint in tints.items()]
    figure.legend(
        handles=shades,
        loc="outside lower center",
        ncols=min(len(shades), 6) or 1,
        fontsize=10,
        title="phase of training",
        frameon=False,
    )
    losses = grid[losses_row, -1]
    losses.plot([], [], color=_TRAIN, label="train")
    losses.plot([], [], color=_DEV, label="dev")
    losses.legend(loc="upper right", fontsize=9)
    for axes, runs in zip(grid[-1], groups.values(), strict=True):
        if len(runs) > 1:
            for run, style in zip(runs, _SEED_STYLES * len(runs), strict=False):
                axes.plot([], [], style, color="black", label=f"seed {run.seed}")
            axes.legend(loc="best", fontsize=9)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})
