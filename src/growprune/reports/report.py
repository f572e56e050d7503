"""A report's folder: a Markdown page and the pictures it shows."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from growprune.errors import CheckpointError
from growprune.files import write_text
from growprune.reports.plots import plot_connections, plot_curves
from growprune.reports.record import Record, group_by_recipe, read_records, record_path
from growprune.reports.table import comparison_table

WEIGHTS = "weights.safetensors"
_MASK = "mask:"

Masks = dict[str, NDArray[np.uint8]]


def write_report(
    runs: Sequence[str | Path],
    out: str | Path,
    with_defaults: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
) -> Path:
    """Compare finished runs: write `report.md`, `curves.png` and pictures of the connections.

    Beside them, `records/` gets a copy of every record, from which the page can be made again.

    Args:
        runs: folders of finished runs, or their record files; the first is the one the others
            are compared with.
        out: the report's folder; files of an earlier report there are replaced.
        with_defaults: as for `read_records`.

    Returns:
        The path of `report.md`.

    Raises:
        CheckpointError: a run's record or weights are missing or damaged.
        DataError: the folder cannot be written.
        ValueError: no runs are given.
    """
    out = Path(out)
    records = read_records(runs, with_defaults)
    table = comparison_table(records).markdown()
    masks = [
        _read_masks(record_path(run).with_name(WEIGHTS), record)
        for run, record in zip(runs, records, strict=True)
    ]
    groups = group_by_recipe(records)
    plot_curves(groups, out / "curves.png")
    sections = ["# Report\n", table, "## Training\n\n![Curves over the epochs](curves.png)\n"]
    names = _unique_names(records)
    originals = [record_path(run).read_text(encoding="utf-8") for run in runs]
    for record, found, name, text in zip(records, masks, names, originals, strict=True):
        write_text(out / "records" / f"{name}.json", text)
        picture = f"connections-{name}.png"
        if found:
            plot_connections(record, found, out / picture)
        sections.append(_connections_section(record, picture, found))
    write_text(out / "report.md", "\n".join(sections))
    return out / "report.md"


def _read_masks(path: Path, record: Record) -> Masks | None:
    """Return the masks among a run's weights; None where only the record was kept.

    Raises:
        CheckpointError: the file is damaged or does not belong to the record.
    """
    if not path.exists():
        return None
    masks: Masks = {}
    try:
        with safe_open(path, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a dict)
                if name.startswith(_MASK):
                    masks[name.removeprefix(_MASK)] = tensors.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: not a readable safetensors file ({error}); repeat the run, or delete the "
            "file for a report without pictures of the connections"
        ) from error
    _check_masks(path, masks, record)
    return masks


def _check_masks(path: Path, masks: Masks, record: Record) -> None:
    shapes = {matrix.name: matrix.shape for matrix in record.matrices}
    for name, mask in masks.items():
        if mask.shape != shapes.get(name):
            raise CheckpointError(
                f"{path}: the mask of {name} has shape {mask.shape}, but the record says "
                f"{shapes.get(name)}; weights and record are of different runs: repeat the run"
            )


def _unique_names(records: Sequence[Record]) -> list[str]:
    """File names, one per run: recipe and seed, numbered where that is not enough."""
    names: list[str] = []
    for record in records:
        name = f"{re.sub(r'[^A-Za-z0-9._-]+', '-', record.name)}-seed{record.seed}"
        repeats = sum(other == name or other.startswith(f"{name}-run") for other in names)
        names.append(f"{name}-run{repeats + 1}" if repeats else name)
    return names


def _connections_section(record: Record, picture: str, masks: Mapping[str, object] | None) -> str:
    """Per run: the picture where there is one, and the density of every matrix."""
    title = f"Connections of {record.name}, seed {record.seed}"
    if masks is None:
        shown = "The weights are not beside the record, so there is no picture."
    elif not masks:
        shown = "Dense: every connection is active."
    else:
        shown = f"![{title}]({picture})"
    lines = ["| Matrix | Shape | Active | Density |", "| --- | ---: | ---: | ---: |"]
    lines += [
        f"| {matrix.name} | {' x '.join(map(str, matrix.shape))} | {matrix.active:,} "
        f"| {matrix.density:.1%} |"
        for matrix in record.matrices
    ]
    return f"## {title}\n\n{shown}\n\n" + "\n".join(lines) + "\n"
