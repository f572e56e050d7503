"""What the compiled training passes ask of the arrays that they write to."""

import numpy as np
import pytest

from growprune.native import paths
from growprune.native.training import ActiveConnections, training_kernels

pytestmark = pytest.mark.skipif(paths.kernel() == "numpy", reason="no compiled kernels here")


def zeros(*shape):
    return np.zeros(shape, np.float32)


def lanes(*shape):
    """Zeros on cache lines."""
    kernels, _ = training_kernels()
    memory = kernels.lanes_of_memory(*shape)
    memory[:] = 0
    return memory


def call(swapped=None, make=None):
    """A forward and a backward pass of one step, one argument made anew by `make`.

    Returns:
        All that is written to, by name.
    """
    kernels, path = training_kernels()
    batch = kernels.Batch(np.array([2], np.int64), False, 1)
    arrays = {
        "x": zeros(3, 16),
        "h_before": lanes(4, 16),
        "c_before": lanes(4, 16),
        "gates": lanes(4, 16),
        "outputs": zeros(2, 4),
        "last_h": zeros(2, 4),
        "last_c": zeros(2, 4),
        "first": zeros(16, 16),
        "deltas": zeros(0, 16),
        "vector": zeros(24),
        "matrix": zeros(16, 3),
        "dense": zeros(16, 4),
        "bias": zeros(16),
        "dx": zeros(2, 3),
        "dh": zeros(2, 4),
        "dc": zeros(2, 4),
    }
    if swapped:
        arrays[swapped] = make(arrays[swapped])
    a = arrays
    mask = np.arange(48).reshape(16, 3) % 2 == 0
    active = ActiveConnections(mask, False).indices
    weights = np.linspace(-1, 1, 64, dtype=np.float32)
    ih = kernels.Trained(weights[:24].copy(), (16, 3), active)
    hh = kernels.Trained(weights, (16, 4), None)
    layer = kernels.TrainingLayer(path, ih, hh, [[]] * 4, 0.01, False)
    tape = kernels.Tape(
        a["x"],
        [[]] * 4,
        a["h_before"],
        a["c_before"],
        [a["gates"], *(lanes(4, 16) for _ in range(3))],
        [[]] * 4,
    )
    ones = np.ones((2, 4), np.float32)
    forward = layer.forward(
        batch, ones[:, :3].copy(), ones, ones, None, [[]] * 4, tape,
        a["outputs"], a["last_h"], a["last_c"],
    )  # fmt: skip
    kernels.make([forward], 1)
    backward = layer.backward(
        batch, ones, ones, ones, tape, a["first"], [[]] * 4, [a["deltas"]] * 4,
        [(active, a["first"], a["x"], a["vector"], a["matrix"])],
        [(False, a["first"], a["h_before"], a["dense"])], [(a["first"], a["bias"])],
        a["dx"], a["dh"], a["dc"],
    )  # fmt: skip
    kernels.make([backward], 1)
    return arrays


WRITTEN = [name for name in call() if name != "deltas"] if paths.kernel() != "numpy" else []


@pytest.mark.parametrize("name", WRITTEN)
def test_writes_to_what_it_is_given_or_refuses(name):
    assert call()[name].any()
    for make in (np.float64, lambda array: np.repeat(array, 2, -1)[..., ::2]):
        with pytest.raises(TypeError):
            call(name, make)


@pytest.mark.parametrize("name", ["h_before", "c_before", "gates"])
def test_a_tape_off_the_cache_lines_is_refused(name):
    with pytest.raises(ValueError, match="cache lines"):
        call(name, lambda array: lanes(5, 16).reshape(-1)[1:65].reshape(array.shape))


def test_dropout_writes_to_what_it_is_given_or_refuses():
    kernels, path = training_kernels()
    batch = kernels.Batch(np.array([2], np.int64), False, 1)
    to = zeros(3, 16)
    batch.dropout(path, 1, 0.5, to, 1)
    assert to.any()
    with pytest.raises(TypeError):
        batch.dropout(path, 1, 0.5, np.float64(to), 1)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_gathers_and_scatters_active_connections(threads):
    kernels, _ = training_kernels()
    generator = np.random.default_rng(0)
    masks = [generator.random(shape) < 0.3 for shape in ((7, 5), (1, 40), (30, 2))]
    matrices = [generator.random(mask.shape, np.float32) for mask in masks]
    indices = [ActiveConnections(mask, False).indices for mask in masks]
    vectors = [np.zeros(mask.sum(), np.float32) for mask in masks]
    kernels.gather(list(zip(indices, matrices, vectors, strict=True)), threads)
    for mask, matrix, vector in zip(masks, matrices, vectors, strict=True):
        assert vector.tolist() == matrix[mask].tolist()
    targets = [np.full_like(matrix, -1) for matrix in matrices]
    kernels.scatter(list(zip(indices, targets, vectors, strict=True)), threads)
    for mask, matrix, target in zip(masks, matrices, targets, strict=True):
        assert target.tolist() == np.where(mask, matrix, -1).tolist()
    for copy in (kernels.gather, kernels.scatter):
        with pytest.raises(TypeError):
            copy([(indices[0], matrices[0], np.float64(vectors[0]))], threads)
        with pytest.raises(TypeError):
            copy([(indices[0], np.float64(matrices[0]), vectors[0])], threads)
