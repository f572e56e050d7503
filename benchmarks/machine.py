"""What every benchmark says of the machine it ran on, and how it keeps its figures."""

import json
from collections.abc import Sequence
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
