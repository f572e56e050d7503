import numpy as np
import pytest

from growprune import native

LAYOUTS = ["dense", "csr", "blocks"]


def exact(weight, x):
    return x.astype(np.float64) @ weight.astype(np.float64).T


def assert_close(found, expected):
    """Equal within 1e-5 of the largest value."""
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("block", [1, 16])
@pytest.mark.parametrize("density", [0, 1e-3, 0.026, 0.5, 1])
@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (33, 7), (130, 201), (1, 40), (257, 1)])
def test_product(path, sparse, packed, rng, layout, block, density, shape):
    weight = sparse(*shape, density, block)
    matrix = packed(layout, weight)
    for batch in (1, 2, 3, 5, 8, 13, 16, 17, 64, 131):
        x = rng.standard_normal((batch, shape[1])).astype(np.float32)
        assert_close(native.product(matrix, x), exact(weight, x))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(48, 32), (130, 201)])
@pytest.mark.parametrize("density", [0, 0.026, 0.5, 1])
def test_int8_product(path, sparse, packed, rng, layout, shape, density):
    mask = sparse(*shape, density) != 0
    weight = (rng.integers(-127, 128, shape) * mask).astype(np.int8)
    scales = rng.uniform(0.001, 0.1, shape[0]).astype(np.float32)
    matrix = packed(layout, weight, scales)
    for batch in (1, 3, 16, 70):
        x = rng.standard_normal((batch, shape[1])).astype(np.float32)
        assert_close(native.product(matrix, x), exact(weight * scales[:, None], x))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_empty_rows_and_columns(path, sparse, packed, rng, layout):
    weight = sparse(70, 50, 0.5)
    weight[16:40] = 0
    weight[-1] = 0
    weight[:, [0, 7, 49]] = 0
    x = rng.standard_normal((3, 50)).astype(np.float32)
    assert_close(native.product(packed(layout, weight), x), exact(weight, x))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("columns", [1 << 16, (1 << 16) + 1])
def test_more_columns_than_short_numbers_count(path, packed, rng, layout, columns):
    weight = np.zeros((37, columns), np.float32)
    weight[:, [0, 5, -2, -1]] = rng.standard_normal((37, 4))
    x = rng.standard_normal((3, columns)).astype(np.float32)
    for batch in (1, 3):
        found = native.product(packed(layout, weight), x[:batch])
        assert_close(found, exact(weight, x[:batch]))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kept", [0, 0.05, 0.5])
def test_zeros_in_the_input(path, sparse, packed, rng, layout, kept):
    weight = sparse(128, 96, 0.2, 16)
    matrix = packed(layout, weight)
    for batch in (1, 6):
        x = rng.standard_normal((batch, 96)) * (rng.random((batch, 96)) < kept)
        x = x.astype(np.float32)
        assert_close(native.product(matrix, x), exact(weight, x))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_empty_batch(path, sparse, packed, layout):
    matrix = packed(layout, sparse(20, 10, 0.5))
    assert native.product(matrix, np.empty((0, 10), np.float32)).shape == (0, 20)


def test_inputs_need_not_be_contiguous(path, sparse, packed, rng):
    weight = sparse(20, 10, 0.5)
    x = rng.standard_normal((10, 6)).astype(np.float32).T
    assert_close(native.product(packed("csr", weight), x), exact(weight, x))
    assert_close(native.product(packed("dense", weight[::-1]), x), exact(weight[::-1], x))


def test_matrices_keep_nothing_of_what_they_were_made_from(path, rng):
    weight = rng.standard_normal((20, 10)).astype(np.float32)
    x = rng.standard_normal((2, 10)).astype(np.float32)
    matrix, expected = native.dense(weight), exact(weight, x)
    weight[:] = 0
    assert_close(native.product(matrix, x), expected)


def test_layouts_by_hand(path):
    expected = np.array([[0, 2, 0], [3, 0, 4], [0, 0, 0]], np.float32)
    csr = native.csr(
        np.array([0, 1, 3, 3], np.int32),
        np.array([1, 0, 2], np.int32),
        np.array([2, 3, 4], np.float32),
        (3, 3),
    )
    values = np.zeros((3, 16), np.float32)
    values[:, :3] = expected.T
    values[:, 3:] = np.nan  # below the matrix: not to be used
    blocks = native.blocks(np.arange(4, dtype=np.int32), np.zeros(3, np.int32), values, (3, 3))
    for matrix in (csr, blocks, native.dense(expected)):
        np.testing.assert_array_equal(native.product(matrix, np.eye(3, dtype="f4")).T, expected)


def test_description(path, sparse, packed):
    weight = np.ones((17, 4), np.float32)
    dense, csr, blocks = (packed(layout, weight) for layout in LAYOUTS)
    assert (dense.rows, dense.columns, dense.active, dense.nbytes) == (17, 4, 68, 272)
    assert (csr.rows, csr.columns, csr.active, csr.nbytes) == (17, 4, 68, 68 * 8 + 18 * 4)
    assert (blocks.rows, blocks.columns, blocks.active) == (17, 4, 68)
    assert blocks.nbytes == 8 * (16 * 4 + 4) + 5 * 4
    assert repr(blocks) == "Matrix(17x4, blocks, 68 active)"


def test_wrong_arguments_are_refused():
    weight = np.ones((3, 4), np.float32)
    starts = np.array([0, 1, 1, 1], np.int32)
    with pytest.raises(TypeError, match="float32 or int8, got float64"):
        native.dense(weight.astype(np.float64))
    with pytest.raises(ValueError, match="int8 values need scales"):
        native.dense(weight.astype(np.int8))
    with pytest.raises(ValueError, match=r"scales must have shape \(3,\)"):
        native.dense(weight.astype(np.int8), np.ones(4, np.float32))
    with pytest.raises(ValueError, match="from 0 to 2, the number of entries"):
        native.csr(starts, np.zeros(2, np.int32), np.ones(2, np.float32), (3, 4))
    with pytest.raises(ValueError, match=r"starts must have shape \(5,\)"):
        native.blocks(starts, np.zeros(1, np.int32), np.ones((1, 16), np.float32), (3, 4))
    with pytest.raises(ValueError, match="x has 3 columns, but the matrix has 4"):
        native.product(native.dense(weight), np.ones((1, 3), np.float32))
