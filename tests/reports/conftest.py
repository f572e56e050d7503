"""A small run with figures that are easy to reckon with."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

_MATRICES = {"lstm.weight_ih_l0": (8, 3), "conv.weight": (2, 3, 5), "output.weight": (4, 2)}

_RECORD: dict[str, Any] = {
    "format": 1,
    "name": "base",
    "task": "speech",
    "recipe": {"name": "base", "training": {"epochs": 3}},
    "seed": 0,
    "commit": "0123456789abcdef",
    "dirty": False,
    "versions": {"growprune": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6"},
    "hardware": {"cpu": "Test CPU", "cores": 2, "threads": 1, "device": "cpu"},
    "started": "2026-11-23T15:00:00Z",
    "seconds": 600.0,
    "data": {
        "name": "an4",
        "splits": {
            "train": {"utterances": 850, "seconds": 2300.0},
            "dev": {"utterances": 98, "seconds": 250.0},
        },
    },
    "epochs": [
        {"epoch": 1, "phase": "grow", "train_loss": 2.0, "dev_loss": 2.5, "dev_wer": 1.0},
        {"epoch": 2, "phase": "grow", "train_loss": 1.0, "dev_loss": 1.5, "dev_wer": 0.5},
        {"epoch": 3, "phase": "prune", "train_loss": 0.5, "dev_loss": 1.0, "dev_wer": 0.25},
    ],
    "matrices": [
        {"name": name, "shape": list(shape), "active": int(np.prod(shape)), "density": 1.0}
        for name, shape in _MATRICES.items()
    ],
    "cost": {
        "weights": {
            "recurrent": 1_000_000,
            "whole": 2_000_000,
            "recurrent_dense": 1_000_000,
            "whole_dense": 2_000_000,
        },
        "flops_per_second": {"recurrent": 4e8, "whole": 1.2e9, "whole_dense": 1.2e9},
    },
    "latency": {
        "milliseconds": 20.0,
        "audio_seconds": 2.7,
        "runs": 30,
        "threads": 1,
        "engine": "torch eager",
    },
    "scores": {"dev": {"wer": 0.12, "cer": 0.05}, "test": {"wer": 0.129, "cer": 0.06}},
}

MakeRecord = Callable[..., dict[str, Any]]
MakeRun = Callable[..., Path]


@pytest.fixture
def make_record() -> MakeRecord:
    """A record; keyword arguments replace its keys, `recipe` following a new name."""

    def make(**changes: Any) -> dict[str, Any]:
        record = copy.deepcopy(_RECORD) | changes
        if "recipe" not in changes:
            record["recipe"]["name"] = record["name"]
        return record

    return make


@pytest.fixture
def make_run(tmp_path: Path, make_record: MakeRecord) -> MakeRun:
    """A run's folder of the given name; `masked`: half of each matrix is inactive."""

    def make(folder: str, masked: bool = False, **changes: Any) -> Path:
        path = tmp_path / folder
        path.mkdir()
        record = make_record(**changes)
        tensors = {name: np.ones(shape, np.float32) for name, shape in _MATRICES.items()}
        if masked:
            for matrix in record["matrices"]:
                mask = np.arange(np.prod(matrix["shape"])).reshape(matrix["shape"]) % 2
                tensors[f"mask:{matrix['name']}"] = mask.astype(np.uint8)
                matrix |= {"active": int(mask.sum()), "density": float(mask.mean())}
        (path / "record.json").write_text(json.dumps(record), encoding="utf-8")
        save_file(tensors, path / "weights.safetensors")
        return path

    return make
