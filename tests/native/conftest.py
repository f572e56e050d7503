from collections.abc import Callable

import numpy as np
import pytest

from growprune import native
from growprune.native import paths


@pytest.fixture(params=paths.available())
def path(request, monkeypatch):
    """Each path of this machine in turn, as if it had been chosen."""
    monkeypatch.setattr(paths, "_name", request.param)
    monkeypatch.setattr(paths, "chosen", lambda: paths.load(request.param))
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def sparse(rng) -> Callable[..., np.ndarray]:
    """Makes weights of which a fraction is not zero: single ones, or blocks of 16 rows."""

    def make(rows: int, columns: int, density: float, block: int = 1) -> np.ndarray:
        mask = rng.random((-(-rows // block), columns)) < density
        weight = rng.standard_normal((rows, columns)) * mask.repeat(block, axis=0)[:rows]
        return weight.astype(np.float32)

    return make


@pytest.fixture
def packed() -> Callable[..., native.Matrix]:
    """Packs weights, (rows, columns) float32, or int8 with scales, into one of the layouts."""
    return pack


def pack(layout: str, weight: np.ndarray, scales: np.ndarray | None = None) -> native.Matrix:
    if layout == "dense":
        return native.dense(weight, scales)
    if layout == "csr":
        rows, columns = weight.nonzero()
        starts = np.searchsorted(rows, np.arange(len(weight) + 1)).astype(np.int32)
        values = weight[rows, columns]
        return native.csr(starts, columns.astype(np.int32), values, weight.shape, scales)
    by_panel = np.pad(weight, ((0, -len(weight) % native.PANEL), (0, 0)))
    by_panel = by_panel.reshape(-1, native.PANEL, weight.shape[1]).transpose(2, 0, 1)
    columns, panels = by_panel.any(-1).nonzero()
    starts = np.searchsorted(columns, np.arange(weight.shape[1] + 1)).astype(np.int32)
    values = by_panel[columns, panels]
    return native.blocks(starts, panels.astype(np.int32), values, weight.shape, scales)
