"""How a weight matrix is stored: which layout is fastest, and its arrays."""

from dataclasses import dataclass

import numpy as np

from growprune.native import PANEL
from growprune.runtime import StoredMatrix

LAYOUTS = ("dense", "csr", "blocks")
KINDS = ("float32", "int8")
_LARGEST_INT8 = 127

# Nanoseconds that a product with one vector spends on a weight of a dense matrix, on an entry of
# a sparse one and on a block; measured by benchmarks/layout_costs.py (AMD EPYC, AVX-512).
_PER_WEIGHT, _PER_ENTRY, _PER_BLOCK = 0.029, 0.2, 0.51

_NEARLY = 1.25
"""Layouts within this factor of the fastest count as equally fast, and the smallest is taken: it
leaves more of the cache to others, and with several vectors at once sparse rows gain on blocks."""


@dataclass(frozen=True)
class Weight:
    """A matrix with the connections it keeps.

    Attributes:
        values: `(rows, columns)` float32, finite, zero where not active.
        active: `(rows, columns)` bool; an active weight may be zero.
    """

    values: np.ndarray
    active: np.ndarray

    def scaled(self, rows: np.ndarray | float = 1.0, columns: np.ndarray | float = 1.0) -> "Weight":
        """The same connections, each row and column multiplied by a factor."""
        values = self.values * np.reshape(rows, (-1, 1)) * np.reshape(columns, (1, -1))
        return Weight(values.astype(np.float32), self.active)


@dataclass(frozen=True)
class Choice:
    """The layout a matrix got, and why.

    Attributes:
        name: the matrix.
        shape: rows and columns.
        active: connections kept.
        layout: dense, csr or blocks.
        microseconds: estimate of one product with one vector, for each layout.
        reason: in words.
        nbytes: of its values, indices and scales.
    """

    name: str
    shape: tuple[int, int]
    active: int
    layout: str
    microseconds: dict[str, float]
    reason: str
    nbytes: int

    def __str__(self) -> str:
        rows, columns = self.shape
        density = self.active / (rows * columns)
        return f"{self.name} {rows}x{columns}, {density:.1%} kept: {self.layout}, {self.reason}"


def store(
    name: str, weight: Weight, layout: str = "auto", kind: str = "float32"
) -> tuple[StoredMatrix, Choice]:
    """Arrays of a matrix in the layout asked for, or in the one that is probably fastest.

    Args:
        name: of the matrix.
        weight: the matrix.
        layout: auto, dense, csr or blocks.
        kind: float32, or int8 with a scale per row.
    """
    blocks = np.any(_in_panels(weight.active), axis=1)
    cost = microseconds(weight.values.shape, int(weight.active.sum()), int(blocks.sum()))
    chosen = layout
    if layout == "auto":
        fast = [name for name in cost if cost[name] <= _NEARLY * min(cost.values())]
        chosen = min(fast, key=_sizes(weight, int(blocks.sum()), kind).__getitem__)
    values, scales = (weight.values, None) if kind == "float32" else _quantised(weight.values)
    arrays = {
        "dense": lambda: {"values": values},
        "csr": lambda: _csr(values, weight.active),
        "blocks": lambda: _blocks(values, blocks),
    }[chosen]()
    if scales is not None:
        arrays["scales"] = scales
    rows, columns = weight.values.shape
    stored = StoredMatrix(chosen, (rows, columns), int(weight.active.sum()), arrays)
    nbytes = stored.info(name).nbytes
    reason = _reason(chosen, layout, cost, stored.active, int(blocks.sum()))
    return stored, Choice(name, stored.shape, stored.active, chosen, cost, reason, nbytes)


def microseconds(shape: tuple[int, int], active: int, blocks: int) -> dict[str, float]:
    """Estimated time of a product with one vector in each layout.

    Args:
        shape: rows and columns.
        active: connections kept.
        blocks: 16x1 blocks, at multiples of 16 rows, that hold any of them.
    """
    rows, columns = shape
    return {
        "dense": _PER_WEIGHT * rows * columns / 1000,
        "csr": _PER_ENTRY * active / 1000,
        "blocks": _PER_BLOCK * blocks / 1000,
    }


def _sizes(weight: Weight, blocks: int, kind: str) -> dict[str, int]:
    """Bytes of each layout's values and indices."""
    (rows, columns), active = weight.values.shape, int(weight.active.sum())
    value, index = np.dtype(kind).itemsize, np.dtype(np.int32).itemsize
    return {
        "dense": value * rows * columns,
        "csr": (value + index) * active + index * (rows + 1),
        "blocks": (value * PANEL + index) * blocks + index * (columns + 1),
    }


def _reason(chosen: str, asked: str, cost: dict[str, float], active: int, blocks: int) -> str:
    if asked != "auto":
        return "as asked"
    others = ", ".join(f"{name} {cost[name]:.1f}" for name in cost if name != chosen)
    filled = active / (blocks * PANEL) if blocks else 0.0
    smaller = "" if cost[chosen] == min(cost.values()) else " but smaller than the fastest"
    return (
        f"about {cost[chosen]:.1f} us a product ({others}){smaller}; "
        f"its 16x1 blocks in use are {filled:.0%} full"
    )


def _in_panels(matrix: np.ndarray) -> np.ndarray:
    """View rows as panels of 16: `(panels, 16, columns)`, filled up with zeros."""
    rows, columns = matrix.shape
    filled = np.pad(matrix, ((0, -rows % PANEL), (0, 0)))
    return filled.reshape(-1, PANEL, columns)


def _csr(values: np.ndarray, active: np.ndarray) -> dict[str, np.ndarray]:
    starts = np.concatenate([[0], np.cumsum(active.sum(axis=1))])
    return {
        "starts": starts.astype(np.int32),
        "columns": np.nonzero(active)[1].astype(np.int32),
        "values": values[active],
    }


def _blocks(values: np.ndarray, blocks: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays from `blocks` `(panels, columns)`, true where a block is stored."""
    columns, panels = np.nonzero(blocks.T)
    starts = np.concatenate([[0], np.cumsum(blocks.sum(axis=0))])
    return {
        "starts": starts.astype(np.int32),
        "panels": panels.astype(np.int32),
        "values": np.ascontiguousarray(_in_panels(values)[panels, :, columns]),
    }


def _quantised(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Int8 values and a scale per row, off by at most half a scale."""
    scales = np.abs(values).max(axis=1) / np.float32(_LARGEST_INT8)
    scales[scales == 0] = 1
    return np.rint(values / scales[:, None]).astype(np.int8), scales
