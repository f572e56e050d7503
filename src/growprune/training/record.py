"""The record a run leaves: one JSON file with all that its figures depend on."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from growprune.errors import CheckpointError
from growprune.files import write_text
from growprune.metrics import cpu_name

FORMAT = 1
FILE = "record.json"
_PACKAGES = ("growprune", "torch", "numpy", "lightning-fabric", "soundfile", "soxr", "jiwer")


def provenance(device: torch.device, threads: int, processes: int) -> dict[str, Any]:
    """Commit, versions and hardware, in the record's form."""
    commit, dirty = _commit()
    return {
        "commit": commit,
        "dirty": dirty,
        "versions": {"python": platform.python_version()} | _versions(),
        "hardware": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "threads": threads,
            "processes": processes,
            "device": _device_name(device),
        },
    }


def matrices(model: torch.nn.Module, masks: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
    """Name, shape, active connections and density of every weight matrix of `model`."""
    rows = []
    for name, weight in model.named_parameters():
        if weight.ndim < 2:
            continue
        active = int(masks[name].sum()) if name in masks else weight.numel()
        density = active / weight.numel()
        rows.append(
            {"name": name, "shape": list(weight.shape), "active": active, "density": density}
        )
    return rows


def write(folder: Path, record: Mapping[str, Any]) -> None:
    """Write `record.json` into a run's folder, whole or not at all."""
    write_text(folder / FILE, json.dumps(record, indent=1, allow_nan=False) + "\n")


def read(folder: Path) -> dict[str, Any]:
    """A finished run's record.

    Raises:
        CheckpointError: there is none, or it is not such a record.
    """
    path = folder / FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no such record; {folder} is not a finished run "
            "(finish it with: growprune train ... --resume)"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable record ({error}); repeat the run") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a run record of format {FORMAT}; repeat the run")
    return record


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> tuple[str | None, bool]:
    """The source tree's commit and whether it has changes; None for an installed wheel."""
    source = Path(__file__).parent
    try:
        if _git(source, "ls-files", Path(__file__).name) == "":
            return None, False
        return _git(source, "rev-parse", "HEAD"), _git(source, "status", "--porcelain", ".") != ""
    except (OSError, subprocess.CalledProcessError):
        return None, False


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
