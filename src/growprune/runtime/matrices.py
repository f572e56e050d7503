"""Weight matrices as a packed file stores them, and the check of their indices.

The arrays of a matrix NAME are stored as `NAME:PART`:

| layout | parts |
|---|---|
| dense | `values` (rows, columns) |
| csr | `starts` (rows + 1,), `columns` (entries,), `values` (entries,) |
| blocks | `starts` (columns + 1,), `panels` (blocks,), `values` (blocks, 16) |

Values are float32, or int8 beside `scales` (rows,) float32; indices are int32.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from growprune import native
from growprune.runtime.graph import LARGEST, Sizes

PARTS = {
    "dense": ("values",),
    "csr": ("starts", "columns", "values"),
    "blocks": ("starts", "panels", "values"),
}
"""Arrays of each layout, without the scales."""

# Without compiled kernels a sparse matrix is multiplied in its dense form; a small file must not
# ask for a huge one. Weights of any matrix, and of one for each of its bytes.
_SMALL, _SPARSEST = 1 << 26, 256


@dataclass(frozen=True)
class MatrixInfo:
    """One weight matrix of a model.

    Attributes:
        name: as in the module it was packed from.
        shape: rows (outputs) and columns (inputs).
        active: connections kept.
        layout: dense, csr or blocks.
        weights: float32 or int8.
        nbytes: bytes of its values, indices and scales.
    """

    name: str
    shape: tuple[int, int]
    active: int
    layout: str
    weights: str
    nbytes: int

    @property
    def density(self) -> float:
        """Share of the connections kept."""
        return self.active / (self.shape[0] * self.shape[1])


@dataclass(frozen=True)
class StoredMatrix:
    """A matrix's arrays by part, with the shape and the number of active weights they stand for."""

    layout: str
    shape: tuple[int, int]
    active: int
    arrays: Mapping[str, np.ndarray]

    def info(self, name: str) -> MatrixInfo:
        """The matrix's row in a model's table."""
        nbytes = sum(array.nbytes for array in self.arrays.values())
        weights = self.arrays["values"].dtype.name
        return MatrixInfo(name, self.shape, self.active, self.layout, weights, nbytes)

    def check(self) -> None:
        """Make sure that multiplying by the matrix reads and writes inside its arrays only.

        Raises:
            ValueError: what is wrong.
        """
        rows, columns = self.shape
        nbytes = sum(array.nbytes for array in self.arrays.values())
        if rows * columns > min(LARGEST, max(_SMALL, _SPARSEST * nbytes)):
            raise ValueError(
                f"{rows} x {columns} weights are too many for the {nbytes} bytes that hold them"
            )
        _check_values(self.arrays, rows)
        check = {"dense": self._check_dense, "csr": self._check_csr, "blocks": self._check_blocks}
        stored = check[self.layout]()
        if self.active > stored or (self.layout == "csr" and self.active != stored):
            raise ValueError(f"{self.active} active weights do not fit the {stored} stored")

    def prepare(self) -> native.Matrix:
        """The matrix ready for products; it must have passed `check`."""
        arrays, scales = self.arrays, self.arrays.get("scales")
        if self.layout == "dense":
            return native.dense(arrays["values"], scales)
        if self.layout == "csr":
            parts = arrays["starts"], arrays["columns"], arrays["values"]
            return native.csr(*parts, self.shape, scales)
        parts = arrays["starts"], arrays["panels"], arrays["values"]
        return native.blocks(*parts, self.shape, scales)

    def _check_dense(self) -> int:
        _check_array(self.arrays, "values", self.shape)
        return self.arrays["values"].size

    def _check_csr(self) -> int:
        rows, columns = self.shape
        entries = self.arrays["values"].size
        _check_array(self.arrays, "values", (entries,))
        _check_groups(self.arrays, "columns", rows, columns, entries)
        return entries

    def _check_blocks(self) -> int:
        rows, columns = self.shape
        count = len(self.arrays["values"]) if self.arrays["values"].ndim else 0
        _check_array(self.arrays, "values", (count, native.PANEL))
        panels = -(-rows // native.PANEL)
        _check_groups(self.arrays, "panels", columns, panels, count)
        below = rows - (panels - 1) * native.PANEL
        last = self.arrays["values"][self.arrays["panels"] == panels - 1]
        if last[:, below:].any():
            raise ValueError("a block holds weights below the last row")
        return count * native.PANEL


class Table:
    """A matrix whose rows are looked up; it keeps no zeros that are not stored.

    Args:
        matrix: must have passed `check`.

    Attributes:
        rows: how many there are.
    """

    def __init__(self, matrix: StoredMatrix) -> None:
        self.rows, self._columns = matrix.shape
        self._values, self._scales = matrix.arrays["values"], matrix.arrays.get("scales")
        self._sparse = None if matrix.layout == "dense" else _in_groups(matrix)

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        """Rows `(..., columns)` in float32, of numbers `(...)` in 0 to `rows - 1`."""
        if self._sparse is None:
            found = self._values[numbers]
        else:
            found = np.zeros((numbers.size, self._columns), self._values.dtype)
            for row, number in zip(found, numbers.flat, strict=True):
                self._sparse.fill(row, int(number))
            found = found.reshape(*numbers.shape, self._columns)
        return found if self._scales is None else found * self._scales[numbers][..., None]


@dataclass(frozen=True)
class _Groups:
    """Entries of a sparse matrix by groups of rows that have the same columns.

    Attributes:
        starts: of each group's entries, and the last one's end.
        columns: `(entries,)`.
        values: `(entries, rows of a group)`.
    """

    starts: list[int]
    columns: np.ndarray
    values: np.ndarray

    def fill(self, row: np.ndarray, number: int) -> None:
        """Enter what is stored of a row in `(columns,)` zeros."""
        group, lane = divmod(number, self.values.shape[1])
        entries = slice(self.starts[group], self.starts[group + 1])
        row[self.columns[entries]] = self.values[entries, lane]


def _in_groups(matrix: StoredMatrix) -> _Groups:
    """A sparse matrix's rows: each by itself, or those of a panel together."""
    arrays = matrix.arrays
    if matrix.layout == "csr":
        return _Groups(arrays["starts"].tolist(), arrays["columns"], arrays["values"][:, None])
    panels, counts = arrays["panels"], np.diff(arrays["starts"])
    order = np.argsort(panels, kind="stable")
    limits = np.arange(-(-matrix.shape[0] // native.PANEL) + 1)
    starts = np.searchsorted(panels[order], limits).tolist()
    columns = np.repeat(np.arange(len(counts)), counts)[order]
    return _Groups(starts, columns, arrays["values"][order])


def _check_values(arrays: Mapping[str, np.ndarray], rows: int) -> None:
    dtype = arrays["values"].dtype
    if dtype not in (np.float32, np.int8):
        raise ValueError(f"values are {dtype}, but must be float32 or int8")
    if (dtype == np.int8) != ("scales" in arrays):
        raise ValueError("int8 values need scales, and float32 values take none")
    if "scales" in arrays:
        _check_array(arrays, "scales", (rows,), np.float32)
    for name in ("values", "scales"):
        if name in arrays and not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} are not all finite")


def _check_groups(
    arrays: Mapping[str, np.ndarray], indices: str, groups: int, limit: int, entries: int
) -> None:
    """Check `starts` of each group and the indices in it, which rise and stay below `limit`."""
    _check_array(arrays, "starts", (groups + 1,), np.int32)
    _check_array(arrays, indices, (entries,), np.int32)
    starts, found = arrays["starts"], arrays[indices]
    if starts[0] != 0 or starts[-1] != entries or (starts[1:] < starts[:-1]).any():
        raise ValueError(f"starts do not rise from 0 to {entries}, the number of entries")
    if entries and (found.min() < 0 or found.max() >= limit):
        raise ValueError(f"{indices} do not all lie in 0 to {limit - 1}")
    rising = np.ones(entries, bool)
    rising[1:] = found[1:] > found[:-1]
    rising[starts[:-1][starts[:-1] < entries]] = True
    if not rising.all():
        raise ValueError(f"{indices} are out of order or doubled at entry {rising.argmin()}")


def _check_array(
    arrays: Mapping[str, np.ndarray],
    name: str,
    shape: Sizes,
    dtype: type[np.generic] | None = None,
) -> None:
    array = arrays[name]
    if array.shape != shape or (dtype is not None and array.dtype != dtype):
        kind = "" if dtype is None else f" of {np.dtype(dtype)}"
        raise ValueError(
            f"{name} must have shape {shape}{kind}, got {array.shape} of {array.dtype}"
        )
