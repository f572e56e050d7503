"""What every benchmark says of the machine it ran on, and how it takes and keeps its figures."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from growprune.files import write_text
from growprune.metrics import cpu_name
from growprune.training.record import provenance


def describe(threads: int) -> str:
    """Processor, threads and torch version, in a line."""
    return f"{cpu_name()}, {threads} threads, torch {torch.__version__}"


def write_figures(path: Path, threads: int, rows: Sequence[dict[str, Any]]) -> None:
    """Write a benchmark's rows with commit, versions and the machine they are of, as JSON."""
    found = provenance(torch.device("cpu"), threads, 1) | {"rows": rows}
    write_text(path, json.dumps(found, indent=1) + "\n")


def medians(tell: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Median of what each call tells; they take turns, and two rounds before count for nothing."""
    told: dict[str, list[float]] = {name: [] for name in tell}
    for _ in range(repeats + 2):
        for name, call in tell.items():
            told[name].append(call())
    return {name: statistics.median(of[2:]) for name, of in told.items()}
