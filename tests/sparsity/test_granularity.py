import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from growprune.sparsity.granularity import tiling

GRANULARITIES = ["weight", "block", "row", "column"]


@pytest.mark.parametrize(
    ("granularity", "grid"),
    [("weight", (35, 3)), ("block", (3, 3)), ("row", (35, 1)), ("column", (1, 3))],
)
def test_grid_shapes(granularity, grid):
    assert tiling(granularity, 35, 3).grid_shape == grid


def test_row_and_column_means_by_hand():
    matrix = torch.tensor([[1.0, 3.0], [5.0, 7.0]])
    assert tiling("row", 2, 2).means(matrix).tolist() == [[2.0], [6.0]]
    assert tiling("column", 2, 2).means(matrix).tolist() == [[3.0, 5.0]]
    assert tiling("weight", 2, 2).means(matrix).tolist() == matrix.tolist()


def test_short_last_block_is_a_mean_of_its_own_rows():
    matrix = torch.ones(18, 2)
    matrix[16:, 1] = torch.tensor([4.0, 6.0])
    assert tiling("block", 18, 2).means(matrix).tolist() == [[1.0, 1.0], [1.0, 5.0]]


@settings(deadline=None)
@given(st.sampled_from(GRANULARITIES), st.integers(1, 40), st.integers(1, 7))
def test_means_against_a_loop_and_spread_against_means(granularity, rows, columns):
    tiles = tiling(granularity, rows, columns)
    matrix = torch.arange(rows * columns, dtype=torch.float64).view(rows, columns)
    means = tiles.means(matrix)
    assert means.shape == tiles.grid_shape
    for i in range(means.shape[0]):
        for j in range(means.shape[1]):
            down = slice(i * tiles.tile_rows, (i + 1) * tiles.tile_rows)
            across = slice(j * tiles.tile_columns, (j + 1) * tiles.tile_columns)
            torch.testing.assert_close(means[i, j], matrix[down, across].mean())
            assert (tiles.spread(means)[down, across] == means[i, j]).all()
    assert torch.equal(tiles.corners(tiles.spread(means)), means)
