"""Granularity: which connections of a matrix come and go as one.

Every granularity is a tiling of the matrix by equal tiles, cut short at its lower and right edge:
1x1 for single weights, 16x1 for blocks, a whole row or a whole column. A *grid* holds one value
per tile.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from growprune.native import PANEL


@dataclass(frozen=True)
class Tiling:
    """A `rows` x `columns` matrix cut into tiles of `tile_rows` x `tile_columns`."""

    rows: int
    columns: int
    tile_rows: int
    tile_columns: int

    @property
    def grid_shape(self) -> tuple[int, int]:
        """How many tiles lie below one another and beside one another."""
        return -(-self.rows // self.tile_rows), -(-self.columns // self.tile_columns)

    @property
    def is_trivial(self) -> bool:
        """Whether every connection is a tile of its own."""
        return self.tile_rows == self.tile_columns == 1

    def means(self, matrix: Tensor) -> Tensor:
        """Mean of each tile, `(rows, columns)` to the grid's shape; short tiles count as they are.

        A mean, not a sum, so that a short tile at the edge is not at a disadvantage.
        """
        if self.is_trivial:
            return matrix
        return self._sums(matrix) / self._sums(matrix.new_ones(matrix.shape))

    def spread(self, grid: Tensor) -> Tensor:
        """Give every connection its tile's value, grid to `(rows, columns)`."""
        if self.is_trivial:
            return grid
        tall = grid.repeat_interleave(self.tile_rows, dim=0)[: self.rows]
        return tall.repeat_interleave(self.tile_columns, dim=1)[:, : self.columns]

    def corners(self, matrix: Tensor) -> Tensor:
        """The first value of each tile: undoes `spread`."""
        return matrix[:: self.tile_rows, :: self.tile_columns]

    def _sums(self, matrix: Tensor) -> Tensor:
        down, across = self.grid_shape
        padding = (
            0,
            across * self.tile_columns - self.columns,
            0,
            down * self.tile_rows - self.rows,
        )
        padded = F.pad(matrix, padding)
        return padded.view(down, self.tile_rows, across, self.tile_columns).sum(dim=(1, 3))


def tiling(granularity: str, rows: int, columns: int) -> Tiling:
    """The tiling of a `rows` x `columns` matrix by "weight", "block", "row" or "column"."""
    tiles = {
        "weight": (1, 1),
        "block": (PANEL, 1),
        "row": (1, columns),
        "column": (rows, 1),
    }
    return Tiling(rows, columns, *tiles[granularity])
