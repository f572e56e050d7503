import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from growprune import native
from growprune.export.layouts import LAYOUTS, Weight, microseconds, store

DENSITIES = st.sampled_from([0.0, 0.05, 0.5, 1.0])


@st.composite
def weights(draw):
    rows, columns = draw(st.integers(1, 40)), draw(st.integers(1, 12))
    active = draw(arrays.arrays(bool, (rows, columns)))
    values = np.arange(1, rows * columns + 1, dtype=np.float32).reshape(rows, columns)
    values[:, draw(st.integers(0, columns - 1))] = 0  # active zeros
    return Weight(values * active, active)


@given(weights(), st.sampled_from(LAYOUTS), st.sampled_from(["float32", "int8"]))
def test_what_is_stored_is_the_matrix(weight, layout, kind):
    """Multiplying by the identity gives the matrix back; every check of the loader holds."""
    stored, choice = store("w", weight, layout, kind)
    stored.check()
    found = native.product(stored.prepare(), np.eye(weight.values.shape[1], dtype=np.float32)).T
    scale = np.abs(weight.values).max(axis=1, keepdims=True) / 127 if kind == "int8" else 0
    assert (np.abs(found - weight.values) <= scale / 2 * 1.001).all()
    assert stored.active == choice.active == weight.active.sum()
    if layout == "csr":
        assert len(stored.arrays["values"]) == weight.active.sum()


def weight(rows, columns, tiles_kept, height):
    """A weight with a share of its tiles of `height` rows active."""
    tiles = np.random.default_rng(0).random((-(-rows // height), columns)) < tiles_kept
    active = tiles.repeat(height, axis=0)[:rows]
    return Weight(active.astype(np.float32), active)


@pytest.mark.parametrize(
    ("rows", "columns", "kept", "height", "layout"),
    [
        (2048, 512, 1 / 38.7, 16, "blocks"),
        (2048, 512, 1 / 38.7, 1, "csr"),
        (2048, 512, 1 / 100, 1, "csr"),
        (2048, 512, 1 / 2, 16, "blocks"),
        (2048, 512, 0.08, 1, "csr"),
        (2048, 512, 0.25, 1, "dense"),
        (2048, 512, 0.95, 1, "dense"),
        (4, 512, 1.0, 1, "dense"),
    ],
)
def test_the_layout_follows_granularity_and_density(rows, columns, kept, height, layout):
    stored, choice = store("w", weight(rows, columns, kept, height))
    assert stored.layout == choice.layout == layout
    assert choice.microseconds[layout] <= 1.25 * min(choice.microseconds.values())


def test_a_choice_says_why():
    _, choice = store("cell.weight_hh_l0", weight(1024, 256, 0.1, 16))
    text = str(choice)
    assert text.startswith("cell.weight_hh_l0 1024x256, ")
    assert "kept: blocks, about " in text
    assert "its 16x1 blocks in use are 100% full" in text
    _, choice = store("w", weight(8, 8, 1.0, 1), "csr")
    assert choice.reason == "as asked"


def test_estimates_grow_with_what_each_layout_reads():
    few, many = microseconds((64, 64), 10, 8), microseconds((64, 64), 1000, 100)
    assert few["dense"] == many["dense"]
    assert few["csr"] < many["csr"]
    assert few["blocks"] < many["blocks"]


def test_a_matrix_without_connections_costs_almost_nothing_to_store():
    stored, choice = store("w", weight(100, 70, 0.0, 1))
    assert choice.active == 0
    assert choice.nbytes <= 4 * 101
    found = native.product(stored.prepare(), np.ones((1, 70), np.float32))
    assert not found.any()
