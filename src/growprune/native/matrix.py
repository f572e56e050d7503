"""Weight matrices prepared for multiplication, in three layouts."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from growprune.native import paths
from growprune.native.checks import array, array_of_shape
from growprune.native.reference import PANEL

Layout = Literal["dense", "csr", "blocks"]


@dataclass(frozen=True, eq=False)
class Matrix:
    """An immutable weight matrix, ready for the path it was made on.

    Attributes:
        rows: outputs of the product.
        columns: inputs of the product.
        layout: "dense", "csr" or "blocks".
        active: weights stored, without the padding of a last panel.
        nbytes: bytes of its weights, indices and scales as given.
        path: the implementation it was prepared for.
        prepared: what that implementation multiplies with.
    """

    rows: int
    columns: int
    layout: Layout
    active: int
    nbytes: int
    path: paths.Path
    prepared: Any

    def __repr__(self) -> str:
        return f"Matrix({self.rows}x{self.columns}, {self.layout}, {self.active} active)"


def dense(values: np.ndarray, scales: np.ndarray | None = None) -> Matrix:
    """Prepare a matrix given whole.

    Args:
        values: (rows, columns), float32, or int8 with `scales`.
        scales: (rows,) float32: what each row's int8 values are multiplied by.

    Raises:
        TypeError: a wrong dtype.
        ValueError: shapes that do not fit.
    """
    values = array("values", values, (np.float32, np.int8), 2)
    rows, columns = values.shape
    scales = _checked_scales(values, scales, rows)
    path = paths.chosen()
    size = _nbytes(values, scales)
    prepared = path.dense(values, scales)
    return Matrix(rows, columns, "dense", values.size, size, path, prepared)


def csr(
    starts: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    shape: tuple[int, int],
    scales: np.ndarray | None = None,
) -> Matrix:
    """Prepare a matrix given as compressed sparse rows.

    Args:
        starts: (rows + 1,) int32: row r holds the entries from starts[r] up to starts[r + 1].
        columns: (entries,) int32, below shape[1]. Trusted, as is the order of `starts`.
        values: (entries,) float32, or int8 with `scales`.
        shape: rows and columns.
        scales: (rows,) float32: what each row's int8 values are multiplied by.

    Raises:
        TypeError: a wrong dtype.
        ValueError: shapes that do not fit.
    """
    values = array("values", values, (np.float32, np.int8), 1)
    starts = _checked_starts(starts, shape[0], len(values))
    columns = array_of_shape("columns", columns, np.int32, values.shape)
    scales = _checked_scales(values, scales, shape[0])
    path = paths.chosen()
    size = _nbytes(starts, columns, values, scales)
    prepared = path.csr(starts, columns, values, shape, scales)
    return Matrix(*shape, "csr", values.size, size, path, prepared)


def blocks(
    starts: np.ndarray,
    panels: np.ndarray,
    values: np.ndarray,
    shape: tuple[int, int],
    scales: np.ndarray | None = None,
) -> Matrix:
    """Prepare a matrix given as blocks of 16 rows by 1 column, stored by column.

    Args:
        starts: (columns + 1,) int32: column j holds the blocks from starts[j] up to
            starts[j + 1].
        panels: (blocks,) int32: a block of panel p covers the rows 16p to 16p + 15. The last
            panel may stick out below the matrix; what it holds there is not used. Trusted, as is
            the order of `starts`.
        values: (blocks, 16) float32, or int8 with `scales`.
        shape: rows and columns.
        scales: (rows,) float32: what each row's int8 values are multiplied by.

    Raises:
        TypeError: a wrong dtype.
        ValueError: shapes that do not fit.
    """
    values = array("values", values, (np.float32, np.int8), 2)
    if values.shape[1] != PANEL:
        raise ValueError(f"values must have shape (blocks, {PANEL}), got {values.shape}")
    starts = _checked_starts(starts, shape[1], len(values))
    panels = array_of_shape("panels", panels, np.int32, values.shape[:1])
    scales = _checked_scales(values, scales, shape[0])
    path = paths.chosen()
    size = _nbytes(starts, panels, values, scales)
    prepared = path.blocks(starts, panels, values, shape, scales)
    return Matrix(*shape, "blocks", _active(panels, shape[0]), size, path, prepared)


def product(matrix: Matrix, x: np.ndarray) -> np.ndarray:
    """Multiply rows by a matrix: x @ matrix.T.

    In the layout "blocks" a zero in x costs nothing: its column is skipped.

    Args:
        matrix: (rows, columns).
        x: (batch, columns) float32, finite.

    Returns:
        (batch, rows) float32.

    Raises:
        TypeError: x is not float32.
        ValueError: x has another number of columns.
    """
    x = array("x", x, (np.float32,), 2)
    if x.shape[1] != matrix.columns:
        raise ValueError(f"x has {x.shape[1]} columns, but the matrix has {matrix.columns}")
    y = np.empty((len(x), matrix.rows), np.float32)
    matrix.path.product(matrix.prepared, x, y)
    return y


def _checked_starts(starts: np.ndarray, groups: int, entries: int) -> np.ndarray:
    starts = array_of_shape("starts", starts, np.int32, (groups + 1,))
    if starts[0] != 0 or starts[-1] != entries:
        raise ValueError(
            f"starts must run from 0 to {entries}, the number of entries, "
            f"but runs from {starts[0]} to {starts[-1]}"
        )
    return starts


def _checked_scales(values: np.ndarray, scales: np.ndarray | None, rows: int) -> np.ndarray | None:
    if (values.dtype == np.int8) != (scales is not None):
        raise ValueError("int8 values need scales, and float32 values take none")
    return None if scales is None else array_of_shape("scales", scales, np.float32, (rows,))


def _active(panels: np.ndarray, rows: int) -> int:
    """Weights in blocks, without what the last panel's blocks hold below the matrix."""
    outside = -rows % PANEL
    return PANEL * len(panels) - outside * int((panels == rows // PANEL).sum())


def _nbytes(*arrays: np.ndarray | None) -> int:
    return sum(array.nbytes for array in arrays if array is not None)
