import numpy as np
import pytest

from growprune.bench.engines import one_thread
from growprune.bench.lstm import LstmWeights, matrix_of
from growprune.bench.peers import PEERS
from growprune.native import product


def layer(time, kept=0.3, block_rows=1, width=16):
    rng = np.random.default_rng(time)
    weights = LstmWeights.random(width, kept, block_rows, rng)
    x, h, c = (rng.standard_normal(shape).astype(np.float32) for shape in ((time, width), 16, 16))
    return weights, x, 0.5 * h, 0.5 * c


@pytest.mark.parametrize("time", [1, 5])
@pytest.mark.parametrize("name", [name for name in PEERS if name != "torch compiled"])
def test_every_peer_computes_the_same_layer(name, time):
    peer = PEERS[name]
    assert peer.missing == ()
    if peer.steps_only and time > 1:
        return
    weights, x, h, c = layer(time)
    with one_thread():
        prepared = peer.build(weights, x, h, c)
        found = prepared.outputs(prepared.call())
    np.testing.assert_allclose(found, weights.run(x, h, c), atol=peer.tolerance, rtol=0)


@pytest.mark.parametrize(("layout", "block_rows"), [("dense", 1), ("csr", 1), ("blocks", 16)])
def test_our_layer_computes_the_same(layout, block_rows):
    weights, x, h, c = layer(4, block_rows=block_rows)
    recurrent, _ = weights.recurrent(layout)
    found, last, _ = recurrent.run(x[None], None, h[None], c[None])
    np.testing.assert_allclose(found[0], weights.run(x, h, c), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(last[0], found[0, -1])


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("block_rows", [1, 16])
def test_a_thinned_layer_keeps_the_share_asked_for(kept, block_rows):
    rng = np.random.default_rng(0)
    weights = LstmWeights.random(32, kept or 1e-9, block_rows, rng)
    blocks = 128 * 32 // block_rows
    assert weights.active == 2 * round((kept or 1e-9) * blocks) * block_rows
    nonzero = (weights.hh != 0).reshape(-1, block_rows, 32)
    assert (nonzero.all(axis=1) == nonzero.any(axis=1)).all()


@pytest.mark.parametrize("layout", ["dense", "csr", "blocks"])
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (16, 3), (33, 20)])
def test_a_matrix_of_any_layout_multiplies_alike(layout, shape):
    rng = np.random.default_rng(1)
    weight = rng.standard_normal(shape).astype(np.float32) * (rng.random(shape) < 0.3)
    x = rng.standard_normal((3, shape[1])).astype(np.float32)
    found = product(matrix_of(weight, layout), x)
    np.testing.assert_allclose(found, x @ weight.T, rtol=1e-5, atol=1e-6)
